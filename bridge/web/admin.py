"""What an operator does to a running bridge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from aiohttp import web

from bridge.children.registry import Registry
from bridge.config.errors import ConfigError
from bridge.protocol.errors import Fault, Rejection
from bridge.sessions.reload import Changes
from bridge.web.principal import check_admin
from bridge.web.reply import json_answer


class AdminFace:
    """The handlers of administration. ``drain`` begins the slow way out, ``reload`` reads the configuration again."""

    def __init__(self, registry: Registry, drain: Callable[[], None], reload: Callable[[], Changes]) -> None:
        self._registry = registry
        self._drain = drain
        self._reload = reload

    def routes(self) -> list[web.RouteDef]:
        """Return what it answers."""
        return [
            web.post("/api/v1/drain", self.drain),
            web.post("/api/v1/reload", self.reload),
            web.post("/api/v1/servers/{server_id}/stop", self.stop),
            web.post("/api/v1/servers/{server_id}/start", self.start),
            web.post("/api/v1/servers/{server_id}/restart", self.restart),
        ]

    async def stop(self, request: web.Request) -> web.Response:
        """End every child of a server, and start none before somebody says so."""
        server = _server(request)
        await self._registry.stop(server)
        return json_answer({"id": server, "state": "stopped"})

    async def start(self, request: web.Request) -> web.Response:
        """Let a server start again that was stopped, or failed too often."""
        server = _server(request)
        self._registry.start(server)
        return json_answer({"id": server, "state": "started"})

    async def restart(self, request: web.Request) -> web.Response:
        """End every child of a server; the next request starts another."""
        server = _server(request)
        await self._registry.stop(server)
        self._registry.start(server)
        return json_answer({"id": server, "state": "restarted"})

    async def reload(self, request: web.Request) -> web.Response:
        """Read servers.json and the settings again; what cannot be read changes nothing."""
        check_admin(request)
        try:
            found = self._reload()
        except ConfigError as error:
            raise Rejection(Fault.BAD_PARAMS, f"the old configuration stays: {error}") from None
        return json_answer(asdict(found))

    async def drain(self, request: web.Request) -> web.Response:
        """Take no new sessions, and end when the open ones have ended or are kept."""
        check_admin(request)
        self._drain()
        return json_answer({"status": "draining"}, status=202)


def _server(request: web.Request) -> str:
    check_admin(request)
    return request.match_info["server_id"]
