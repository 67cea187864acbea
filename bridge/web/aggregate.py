"""``/mcp``: all servers behind one URL, or those of ``?servers=a,b``; else as ``/mcp/{server_id}``."""

from __future__ import annotations

from aiohttp import web

from bridge.config.server import ALL_SERVERS
from bridge.protocol.messages import Message, Request
from bridge.protocol.modern import DISCOVER, LISTEN, check_envelope
from bridge.sessions.aggregate import AggregateSeat, Routed
from bridge.sessions.aggregate_modern import AggregateCalls
from bridge.sessions.aggregates import Aggregates
from bridge.sessions.room import SessionEntry
from bridge.sessions.roster import Roster, View
from bridge.sessions.streamable import StreamableSession
from bridge.web.around import Around
from bridge.web.chosen import chosen_servers
from bridge.web.mcp import McpFace
from bridge.web.modern import Headers, ModernFace
from bridge.web.principal import check_server, owner_of, principal_of


class AggregateFace(McpFace):
    """The handlers of ``/mcp``. Limits of a server are those of whatever is called there."""

    def __init__(self, around: Around, modern: ModernFace, aggregates: Aggregates, *, implicit: bool) -> None:
        super().__init__(around, modern, implicit=implicit)
        self._check = _anything
        self._route = self._routed
        self._aggregates = aggregates

    def routes(self) -> list[web.RouteDef]:
        """Return what it answers."""
        return [
            web.post("/mcp", self.post),
            web.get("/mcp", self.get, allow_head=False),
            web.delete("/mcp", self.delete),
        ]

    def _server_of(self, request: web.Request) -> str:
        return ALL_SERVERS

    async def _open(self, request: web.BaseRequest, server: str, message: Request) -> SessionEntry:
        return await self._open_view(request, greets=False)

    async def _open_greeted(self, request: web.BaseRequest, server: str) -> SessionEntry:
        return await self._open_view(request, greets=True)

    async def _open_view(self, request: web.BaseRequest, *, greets: bool) -> SessionEntry:
        view = view_of(request)
        check_view(request, view, self._aggregates.roster)
        taken = {each: self._variables.take(request, each) for each in self._aggregates.roster.servers(view)}
        return await self._aggregates.open(view, owner_of(request), taken.get, greets=greets)

    async def _routed(
        self, request: web.BaseRequest, session: StreamableSession, message: Request
    ) -> tuple[str, Request]:
        """What a request is for, as far as its token permits."""
        seat = session.seat
        assert isinstance(seat, AggregateSeat)
        routed = await seat.routed(message, principal_of(request).may_use)
        if not isinstance(routed, Routed):
            return ALL_SERVERS, routed
        self._limits.check_server(request, routed.server)
        return routed.server, routed


class AggregateModernFace(ModernFace):
    """The handler of modern requests at ``/mcp``. ``aggregate`` serves what is for all servers."""

    def __init__(self, around: Around, aggregate: AggregateCalls) -> None:
        super().__init__(around)
        self._aggregate = aggregate
        self._limits = around.limits
        self._variables = around.variables

    async def post(self, request: web.BaseRequest, server: str, message: Message) -> web.StreamResponse:
        """Take one message that claims to be modern. Raises :class:`BridgeError` for what cannot be served."""
        if not isinstance(message, Request):
            return await super().post(request, server, message)
        message, there = await self._elsewhere(request, message)
        if there is not None:
            return there
        view, headers, owner = view_of(request), Headers(request.headers), owner_of(request)
        aggregate = self._aggregate
        asked = check_envelope(message, headers)
        if asked.method == DISCOVER:
            check_view(request, view, aggregate.roster)
        for each in aggregate.roster.servers(view):
            self._variables.refuse(request, each)
        if asked.method == LISTEN:
            self._drain.check()
            return await self._serve(
                request, ALL_SERVERS, asked, lambda asked: aggregate.listen(view, asked, headers, owner)
            )
        with self._drain:
            routed = await aggregate.routed(view, asked, headers, owner)
            if routed is None:
                return await self._serve(
                    request, ALL_SERVERS, asked, lambda asked: aggregate.answer(view, asked, headers, owner)
                )
            server, inner = routed
            self._limits.check_server(request, server)
            return await self._serve(
                request, server, inner, lambda asked: self._calls.answer(server, asked, headers, owner)
            )


def view_of(request: web.BaseRequest) -> View:
    """Return what a request may see, of what it wants to see."""
    return View(chosen_servers(request) or None, principal_of(request).may_use)


def check_view(request: web.BaseRequest, view: View, roster: Roster) -> None:
    """Raise :class:`Rejection` for a chosen server that is not there, or not for this client."""
    for server in sorted(view.chosen or ()):
        check_server(request, server)
        roster.check(server)


def _anything(_: str) -> None:
    """There are always servers, if only none."""
