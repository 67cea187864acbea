"""What an operator does to a running bridge."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from aiohttp import web

from bridge.children.registry import Registry
from bridge.config.errors import ConfigError
from bridge.observe import audit
from bridge.protocol import jsontext
from bridge.protocol.errors import Fault, Rejection
from bridge.sessions.reload import Changes
from bridge.web.body import read_json
from bridge.web.principal import check_admin, name_of
from bridge.web.proxy import client_of
from bridge.web.reply import json_answer

log = logging.getLogger(__name__)

#: Starts another bridge in the place of this one, which gets so many seconds for its sessions; returns what to tell.
Restart = Callable[[float], Awaitable[dict[str, Any]]]
#: Seconds that sessions get to end, unless somebody says otherwise.
PATIENCE = 600.0
MOST_PATIENCE = 7 * 24 * 3600.0


class AdminFace:
    """The handlers of administration. ``drain`` begins the slow way out, ``reload`` reads the configuration again,
    ``restart_bridge`` has another process take over.
    """

    def __init__(
        self,
        registry: Registry,
        drain: Callable[[], None],
        reload: Callable[[], Changes],
        restart_bridge: Restart,
    ) -> None:
        self._restart_bridge = restart_bridge
        self._registry = registry
        self._drain = drain
        self._reload = reload

    def routes(self) -> list[web.RouteDef]:
        """Return what it answers."""
        return [
            web.post("/api/v1/drain", self.drain),
            web.post("/api/v1/reload", self.reload),
            web.post("/api/v1/restart", self.restart_bridge),
            web.post("/api/v1/servers/{server_id}/stop", self.stop),
            web.post("/api/v1/servers/{server_id}/start", self.start),
            web.post("/api/v1/servers/{server_id}/restart", self.restart),
        ]

    async def stop(self, request: web.Request) -> web.Response:
        """End every child of a server, and start none before somebody says so."""
        server = _server(request)
        _record(request, "stop", server)
        await self._registry.stop(server)
        return json_answer({"id": server, "state": "stopped"})

    async def start(self, request: web.Request) -> web.Response:
        """Let a server start again that was stopped, or failed too often."""
        server = _server(request)
        _record(request, "start", server)
        self._registry.start(server)
        return json_answer({"id": server, "state": "started"})

    async def restart(self, request: web.Request) -> web.Response:
        """End every child of a server; the next request starts another."""
        server = _server(request)
        _record(request, "restart", server)
        await self._registry.stop(server)
        self._registry.start(server)
        return json_answer({"id": server, "state": "restarted"})

    async def reload(self, request: web.Request) -> web.Response:
        """Read servers.json and the settings again; what cannot be read changes nothing."""
        check_admin(request)
        _record(request, "reload")
        try:
            found = self._reload()
        except ConfigError as error:
            raise Rejection(Fault.BAD_PARAMS, f"the old configuration stays: {error}") from None
        return json_answer(asdict(found))

    async def restart_bridge(self, request: web.Request) -> web.Response:
        """Start the bridge anew without a gap: the new one gets what comes, this one ends with its sessions."""
        check_admin(request)
        body = jsontext.decode(await read_json(request)) if request.can_read_body else {}
        unknown = sorted(body.keys() - {"patience_s"}) if isinstance(body, dict) else ["a body that is no object"]
        if unknown:
            raise Rejection(Fault.BAD_PARAMS, f"unknown member {unknown[0][:40]!r}; there is patience_s")
        patience = body.get("patience_s", PATIENCE)
        if isinstance(patience, bool) or not isinstance(patience, int | float) or not 0 <= patience <= MOST_PATIENCE:
            raise Rejection(Fault.BAD_PARAMS, f'"patience_s" must be seconds, from 0 to {MOST_PATIENCE:g}')
        _record(request, "restart")
        return json_answer(await self._restart_bridge(patience))

    async def drain(self, request: web.Request) -> web.Response:
        """Take no new sessions, and end when the open ones have ended or are kept."""
        check_admin(request)
        _record(request, "drain")
        self._drain()
        return json_answer({"status": "draining"}, status=202)


def _record(request: web.Request, action: str, server: str = "") -> None:
    """Say who does this, to one server or to the bridge."""
    who = name_of(request)
    log.info("%s: %s, asked by %s", f"server {server}" if server else "bridge", action, who)
    about = {"server": server} if server else {}
    audit.record("operate", action=action, principal=who, address=client_of(request), **about)


def _server(request: web.Request) -> str:
    check_admin(request)
    return request.match_info["server_id"]
