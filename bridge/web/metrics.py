"""``/metrics`` for Prometheus: what the lists say, as numbers with labels.

Rows that name a server are for those who may use it, as everywhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiohttp import web

from bridge.children.registry import Registry
from bridge.config.server import ALL_SERVERS
from bridge.process.usage import UsageMeter
from bridge.sessions.parking import Parking
from bridge.web.principal import is_admin, may_use
from bridge.web.sessions import AnyPool


class MetricsFace:
    """The handler of ``/metrics``."""

    def __init__(self, registry: Registry, pools: Sequence[AnyPool], parking: Parking) -> None:
        self._registry = registry
        self._pools = pools
        self._parking = parking
        self._meter = UsageMeter()

    def routes(self) -> list[web.RouteDef]:
        """Return what it answers."""
        return [web.get("/metrics", self.scrape)]

    async def scrape(self, request: web.Request) -> web.Response:
        """Tell how things are now."""
        from bridge.web import exposition  # with the library of Prometheus: most bridges are never asked

        servers = {server for server in self._registry.entries if may_use(request, server)}
        children = [child for child in self._registry.children() if child.server in servers]
        found = [
            *exposition.of_pools(self._pools, {ALL_SERVERS, *servers} if is_admin(request) else servers),
            exposition.of_children(children),
            *exposition.of_servers(self._registry, self._parking, servers),
        ]
        pids = {child.pid: child.server for child in children if child.pid is not None}

        def read_and_write() -> bytes:
            return exposition.text([*found, exposition.of_memory(pids, self._meter.measure([*pids]))])

        body = await asyncio.get_running_loop().run_in_executor(None, read_and_write)
        return web.Response(body=body, headers={"Content-Type": exposition.CONTENT_TYPE})
