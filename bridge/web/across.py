"""Requests between the two bridges of a restart: the one that goes has its sessions, and the one that comes all else.

Either may get any request: the port leads to the one that comes, and connections from before to the one that goes. What
belongs to the other is sent there as to another node (:mod:`bridge.web.hops`), once and no further. Nothing of this is
there while no restart is under way (docs/decisions/100).
"""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence

from aiohttp import web

from bridge.cluster.members import Member
from bridge.cluster.side import Between, Sockets, sender
from bridge.protocol.errors import Fault
from bridge.sessions.core import Core
from bridge.web.arrivals import ArrivalGuards, Doors, check_sender
from bridge.web.body import read_body
from bridge.web.drain import Drain
from bridge.web.front import Front, ServerHandler
from bridge.web.guards import Guards
from bridge.web.hops import Hops, lost
from bridge.web.limits import Limits
from bridge.web.links import Unreachable
from bridge.web.nodes import named_session
from bridge.web.reply import SESSION_HEADER
from bridge.web.server import Handler
from bridge.web.stays import Stays

#: Where a session is given, and where it is said that the store is free; both for the one that comes.
SESSION, STORE = "/api/v1/restart/session", "/api/v1/restart/store"

Ways = Sequence[tuple[Hops, Member]]


class Across(abc.ABC):
    """One process of a bridge in a restart."""

    def __init__(self, core: Core, drain: Drain, place: Between, base: str, stays: Stays) -> None:
        self._core = core
        self._drain = drain
        self._node = place.node
        self._own, self._other = Sockets(place.own), Sockets(place.other)
        self._here, self._there = Hops(place.node, stays), Hops(sender(place.node, self._other), stays)
        self._base = base

    def holds(self, session_id: str) -> bool:
        """Whether a session is in this process."""
        return self._core.stream_pool.find(session_id) is not None

    def server_handler(self, handler: ServerHandler) -> ServerHandler:
        """Return a handler of POSTs to a server that answers for both, made of one that answers for this side."""

        async def serve(request: web.BaseRequest, server: str) -> web.StreamResponse:
            return await self._serve(request, request.headers.get(SESSION_HEADER), lambda: handler(request, server))

        return serve

    def handler(self, handler: Handler) -> Handler:
        """Do the same for a handler of all other requests."""

        async def serve(request: web.BaseRequest) -> web.StreamResponse:
            if request.path in (SESSION, STORE):  # and not sent on: these are words of ours, and clients have none
                check_sender(request)
            return await self._serve(request, named_session(request, self._base), lambda: handler(request))

        return serve

    def arriving_post(self, handler: ServerHandler) -> ServerHandler:
        """Return a handler of POSTs that another process has sent here, made of one that answers for this one."""

        async def serve(request: web.BaseRequest, server: str) -> web.StreamResponse:
            return await self._arrived(request, request.headers.get(SESSION_HEADER), lambda: handler(request, server))

        return serve

    def arriving(self, handler: Handler) -> Handler:
        """Do the same for a handler of all other requests."""

        async def serve(request: web.BaseRequest) -> web.StreamResponse:
            if request.path in (SESSION, STORE):
                check_sender(request)
                return await self._told(request.path, await read_body(request))
            return await self._arrived(request, named_session(request, self._base), lambda: handler(request))

        return serve

    def front(
        self,
        guards: Guards,
        posts: Mapping[str, ServerHandler],
        servers: Container[str],
        routes: Handler,
        limits: Limits,
    ) -> Handler:
        """Return what answers every request of a bridge without workers; theirs is :meth:`Cluster.front`."""
        gate = ArrivalGuards(self._node, guards)
        arriving = {name: self.arriving_post(post) for name, post in posts.items()}
        arrivals = Front(gate, arriving, servers, self.arriving(routes), Limits(None, {}), self._base)
        for_both = {name: self.server_handler(post) for name, post in posts.items()}
        clients = Front(guards, for_both, servers, self.handler(routes), limits, self._base)
        return Doors(arrivals.answer, clients.answer, self._drain).answer

    def close(self) -> None:
        """End every connection to the others."""
        self._here.links.close()
        self._there.links.close()

    async def _serve(
        self, request: web.BaseRequest, session_id: str | None, local: Callable[[], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Answer here, or by whoever has the session."""
        if session_id is not None and self.holds(session_id):
            return await self._answer(session_id, local)
        ways = await self._ways(session_id)
        if not ways:
            return await local()
        with self._drain.passing():
            body = await read_body(request)
            for hops, member in ways:
                try:
                    response = await hops.send(request, member, body)
                except Unreachable as error:
                    response = lost(request, member, body, error)
                else:
                    if response.status != Fault.ELSEWHERE.status:
                        break
            return response

    async def _answer(self, session_id: str, local: Callable[[], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
        """Answer a request of a session that is here."""
        return await local()

    @abc.abstractmethod
    async def _ways(self, session_id: str | None) -> Ways:
        """Return who is asked, in this order, about what is not here; nobody where this process answers itself."""

    @abc.abstractmethod
    async def _arrived(
        self, request: web.BaseRequest, session_id: str | None, local: Callable[[], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Answer what another process has sent here. Raises :class:`Rejection` (421) where the session has left."""

    @abc.abstractmethod
    async def _told(self, path: str, body: bytes) -> web.StreamResponse:
        """Take what the other side says of itself."""
