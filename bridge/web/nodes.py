"""Which node has to answer a request: whoever holds its session, the emptiest for a new one, else this one.

Only requests of clients are looked at: what another node has sent here is answered here.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from aiohttp import web

from bridge.cluster.ids import Birth
from bridge.cluster.members import Member
from bridge.cluster.node import Node
from bridge.protocol.errors import Fault, Rejection
from bridge.web.address import below
from bridge.web.arrivals import has_arrived
from bridge.web.body import read_body
from bridge.web.drain import Drain
from bridge.web.front import ServerHandler
from bridge.web.hops import Hops, lost
from bridge.web.links import Unreachable
from bridge.web.reply import SESSION_HEADER
from bridge.web.server import Handler
from bridge.web.states import States

if TYPE_CHECKING:
    from bridge.sessions.takeover import Takeover  # which needs Redis


#: Seconds for which a session is followed whose node has just gone: until its lease has run out, and a little more.
FOLLOWED = 5.0
#: Seconds between two looks where it is.
FOLLOW_LOOK = 0.1

#: Where a session is named by the path; or only by the form that lists show, which names its node as well.
_SESSION = re.compile(r"/api/v1/sessions/(?!stats$)([^/]+)(/touch)?")
_LABEL = re.compile(r"([A-Za-z0-9_-]+)\.[\w-]{8}\.\.\.", re.ASCII)


class Nodes:
    """Sends requests where they belong. ``holds`` says whether a session is here, ``children`` how many this node has;
    ``base`` is what may stand before paths.
    """

    def __init__(
        self,
        node: Node,
        hops: Hops,
        drain: Drain,
        holds: Callable[[str], bool],
        children: Callable[[], int],
        base: str,
        takeover: Takeover | None = None,
    ) -> None:
        self._takeover = takeover
        self._node = node
        self._own = node.members.own.node
        self.states = States(node)
        self._hops = hops
        self._drain = drain
        self._holds = holds
        self._children = children
        self._base = base

    @property
    def is_sure(self) -> bool:
        """Whether the sessions that are here are known to be still this node's."""
        return self._takeover is None or self._takeover.is_held

    def server_handler(self, handler: ServerHandler) -> ServerHandler:
        """Return a handler of POSTs to a server that answers for all nodes, made of one that answers for this one."""

        async def serve(request: web.BaseRequest, server: str) -> web.StreamResponse:
            session_id = request.headers.get(SESSION_HEADER)
            member = await self.holder(session_id)
            if member is None:
                return await handler(request, server)
            return await self.send(request, member, session_id=session_id)

        return serve

    def handler(self, handler: Handler) -> Handler:
        """Do the same for a handler of all other requests."""

        async def serve(request: web.BaseRequest) -> web.StreamResponse:
            session_id = named_session(request, self._base)
            member = self._place(request) if session_id is None else await self.holder(session_id)
            return await (handler(request) if member is None else self.send(request, member, session_id=session_id))

        return serve

    def arriving_post(self, handler: ServerHandler) -> ServerHandler:
        """Return a handler of POSTs that another node has sent here, made of one that answers for this one."""

        async def serve(request: web.BaseRequest, server: str) -> web.StreamResponse:
            await self._check_arrival(request.headers.get(SESSION_HEADER))
            return await handler(request, server)

        return serve

    def arriving(self, handler: Handler) -> Handler:
        """Do the same for a handler of all other requests."""

        async def serve(request: web.BaseRequest) -> web.StreamResponse:
            await self._check_arrival(named_session(request, self._base))
            if self._opens_session(request):
                self.for_a_new_session(request)
            return await handler(request)

        return serve

    async def send(
        self, request: web.BaseRequest, member: Member, body: bytes | None = None, session_id: str | None = None
    ) -> web.StreamResponse:
        """Let another node answer; where ``session_id`` has moved on meanwhile, the one that has it then.

        A call that runs there is a call that runs here.
        """
        if request.method == "GET":
            self._drain.check()
            return await self._sent(request, member, body, session_id)
        with self._drain:
            return await self._sent(request, member, body, session_id)

    async def _sent(
        self, request: web.BaseRequest, member: Member, body: bytes | None, session_id: str | None
    ) -> web.StreamResponse:
        if body is None:
            body = await read_body(request)
        end = time.monotonic() + FOLLOWED
        while True:
            why = Unreachable("it does not have the session")
            any_would_do = session_id is None and member.node != self._own
            try:
                response = await self._hops.send(request, member, body)
                # By a node that does not believe us; what is refused for another reason is refused here as well.
                is_refused = any_would_do and response.status == Fault.FORBIDDEN.status
                if response.status != Fault.ELSEWHERE.status and not is_refused:
                    return response
            except Unreachable as error:
                why = error
            own = self._node.members.own
            if any_would_do:
                member = own
                continue
            if session_id is None:
                self._check_new_session()  # a node that takes none has said so, and it was this one
            if self._takeover is None or session_id is None or time.monotonic() >= end:
                return lost(request, member, body, why)
            self._takeover.forget(session_id)
            # Whoever has it now; this node answers itself as if it were another, because the body has been read.
            member = await self._takeover.find(session_id) or own
            if member.node != own.node:
                await asyncio.sleep(FOLLOW_LOOK)

    async def _check_arrival(self, session_id: str | None) -> None:
        """Raise :class:`Rejection` when another node has a session: the sender asks that one."""
        if self._takeover is None or session_id is None:
            return
        if not self._takeover.is_held:
            await self._takeover.confirm()
        if not self._holds(session_id) and self._node.ids.birth_of(session_id) is not None:
            member = await self._takeover.find(session_id)
            if member is not None:
                raise Rejection(Fault.ELSEWHERE, f"node {member.node} has this session")

    async def holder(self, session_id: str | None) -> Member | None:
        """Return the node that holds a session, None where that is this one, or nobody at all.

        Raises :class:`Rejection`: 404 when its node has gone, 503 while it cannot be known who has it.
        """
        if session_id is None:
            return None
        if self._takeover is not None and not self._takeover.is_held:
            await self._takeover.confirm()
        if self._holds(session_id):
            return None
        birth = self._node.ids.birth_of(session_id)
        if birth is None:
            return None
        if self._takeover is not None:
            member = self._takeover.known(session_id) or self._elsewhere(birth)
            return member or await self._takeover.find(session_id)
        if birth.node == self._own:
            return None
        member = self._node.members.find(birth.node)
        if member is None and birth.node in self._node.members.missing():  # it starts again, and may have kept it
            why = f"worker {birth.node}, which has this session, is starting; try again"
            raise Rejection(Fault.UNAVAILABLE, why, retry_in=1)
        if member is None:
            raise Rejection(Fault.UNKNOWN_SESSION, "session ended: the node that held it has ended; initialize again")
        return member

    def _elsewhere(self, birth: Birth) -> Member | None:
        """The node that has minted an id, if it is another that still lives this life."""
        member = self._node.members.find(birth.node)
        is_it = member is not None and member.epoch == birth.epoch and birth.node != self._own
        return member if is_it else None

    def for_a_new_session(self, request: web.BaseRequest) -> Member | None:
        """Return the node on which a session should begin, None where that is this one.

        Raises :class:`Rejection`: 503 without a lease; 421 to a node that has not heard yet that none begins here.
        """
        self._node.members.publish(self._children())
        if has_arrived(request):
            try:
                self._check_new_session()
            except Rejection as refused:
                raise Rejection(Fault.ELSEWHERE, str(refused)) from None
            return None
        if not self.is_sure:
            raise _no_lease()
        member = self._node.members.least_loaded()
        return None if member.node == self._own else member

    def _check_new_session(self) -> None:
        if not self.is_sure:
            raise _no_lease()
        self._drain.check_new_session()

    def _place(self, request: web.BaseRequest) -> Member | None:
        if self._opens_session(request):
            return self.for_a_new_session(request)
        if (found := _SESSION.fullmatch(below(request.path, self._base))) is None:
            return None
        label = _LABEL.fullmatch(found[1])
        if label is None:
            return None
        return None if label[1] == self._own else self._node.members.find(label[1])

    def _opens_session(self, request: web.BaseRequest) -> bool:
        path = below(request.path, self._base)
        if path.startswith("/sse/"):
            return request.method == "GET"
        return path == "/api/v1/sessions" and request.method == "POST"


def _no_lease() -> Rejection:
    return Rejection(Fault.UNAVAILABLE, "this node has lost its lease; try again", retry_in=1)


def named_session(request: web.BaseRequest, base: str) -> str | None:
    """Return the id of the session that a request is about. ``base`` is what may stand before its path."""
    path = below(request.path, base)
    if path == "/mcp" or path.startswith("/mcp/"):
        return request.headers.get(SESSION_HEADER)
    if path.startswith("/messages/"):
        return request.query.get("session_id") or request.query.get("sessionId")
    found = _SESSION.fullmatch(path)
    return None if found is None or _LABEL.fullmatch(found[1]) else found[1]
