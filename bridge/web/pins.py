"""``/api/v1/pins``: what tools were when they were first seen, what they are now, and approving that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from bridge.children.pinbook import PinBook
from bridge.children.pins import Pin, ServerPins
from bridge.children.registry import Registry
from bridge.protocol import jsontext
from bridge.protocol.errors import Fault, Rejection
from bridge.protocol.subscriptions import CHANGED
from bridge.web.body import read_json
from bridge.web.principal import check_admin
from bridge.web.reply import json_answer


class PinsFace:
    """The handlers of pins. What is withheld from clients is for operators only. ``tell`` announces to the clients of a
    server that a list has changed.
    """

    def __init__(self, registry: Registry, pins: PinBook, tell: Callable[[str, str], None]) -> None:
        self._tell = tell
        pins.on_approved = lambda server: tell(server, CHANGED["toolsListChanged"])
        self._registry = registry
        self._pins = pins

    def routes(self) -> list[web.RouteDef]:
        """Return what it answers."""
        return [
            web.get("/api/v1/pins", self.list),
            web.post("/api/v1/servers/{server_id}/pins/approve", self.approve),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """List the tools of all servers, or of the one in ``?server=``; with both definitions where they differ."""
        check_admin(request)
        asked = request.query.get("server")
        if asked is not None:
            self._registry.pool(asked)
        rows = [
            _row(server, pins, name, pin)
            for server in ([asked] if asked is not None else self._registry.entries)
            if (pins := self._pins.find(server)) is not None
            for name, pin in sorted(pins.tools.items())
        ]
        return json_answer(rows)

    async def approve(self, request: web.Request) -> web.Response:
        """Take what a server's tools are now for what they are to be: all that have changed, or one."""
        check_admin(request)
        server = request.match_info["server_id"]
        self._registry.pool(server)
        body = jsontext.decode(await read_json(request))
        tool, sha256 = (body.get("tool"), body.get("sha256")) if isinstance(body, dict) else (0, 0)
        if not isinstance(tool, str | None) or not isinstance(sha256, str | None):
            raise Rejection(Fault.BAD_PARAMS, 'the body must be {"tool"?: name, "sha256"?: fingerprint}')
        pins = self._pins.find(server)
        names = [] if pins is None else [tool] if tool is not None else sorted(pins.news)
        approved = [] if pins is None else pins.approve(names, sha256)
        if approved and pins is not None and pins.blocks:  # else clients see them already
            self._tell(server, CHANGED["toolsListChanged"])
        return json_answer({"server": server, "approved": approved})


def _row(server: str, pins: ServerPins, name: str, pin: Pin) -> dict[str, Any]:
    row: dict[str, Any] = {
        "server": server,
        "tool": name,
        "state": pin.state,
        "blocked": pins.blocks and pin.pending is not None,
        "sha256": pin.pinned and pin.pinned.sha256,
        "pinned_at": pin.pinned and pin.pinned.at,
    }
    if pin.pending is not None:
        row |= {
            "now_sha256": pin.pending.sha256,
            "now_at": pin.pending.at,
            "definition": pin.pinned and pin.pinned.text,
            "now_definition": pin.pending.text,
        }
    return row


def summary(pins: ServerPins | None) -> dict[str, Any]:
    """What a list of servers says of them."""
    if pins is None:
        return {}
    news = pins.news
    names = {state: sorted(name for name in news if news[name] == state) for state in ("changed", "new")}
    return {"pins": {"mode": pins.mode, "tools": len(pins.tools), **names}}
