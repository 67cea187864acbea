"""Which node has to answer a request: whoever holds its session, the emptiest for a new one, else this one.

Only requests of clients are looked at: what another node has sent here is answered here.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from aiohttp import web

from bridge.cluster.members import Member
from bridge.cluster.node import Node
from bridge.protocol.errors import Fault, Rejection
from bridge.web.arrivals import has_arrived
from bridge.web.drain import Drain
from bridge.web.hops import Hops
from bridge.web.reply import SESSION_HEADER
from bridge.web.states import States

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
ServerHandler = Callable[[web.BaseRequest, str], Awaitable[web.StreamResponse]]

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
    ) -> None:
        self._node = node
        self.states = States(node)
        self._hops = hops
        self._drain = drain
        self._holds = holds
        self._children = children
        self._base = base

    def server_handler(self, handler: ServerHandler) -> ServerHandler:
        """Return a handler of POSTs to a server that answers for all nodes, made of one that answers for this one."""

        async def serve(request: web.BaseRequest, server: str) -> web.StreamResponse:
            member = self.holder(request.headers.get(SESSION_HEADER))
            return await (handler(request, server) if member is None else self.send(request, member))

        return serve

    def handler(self, handler: Handler) -> Handler:
        """Do the same for a handler of all other requests."""

        async def serve(request: web.BaseRequest) -> web.StreamResponse:
            member = self._place(request)
            return await (handler(request) if member is None else self.send(request, member))

        return serve

    async def send(self, request: web.BaseRequest, member: Member, body: bytes | None = None) -> web.StreamResponse:
        """Let another node answer. A call that runs there is a call that runs here."""
        if request.method == "GET":
            self._drain.check()
            return await self._hops.send(request, member, body)
        with self._drain:
            return await self._hops.send(request, member, body)

    def holder(self, session_id: str | None) -> Member | None:
        """Return the node that holds a session, None where that is this one, or nobody at all.

        Raises :class:`Rejection` (404) when its node has gone.
        """
        if session_id is None or self._holds(session_id):
            return None
        birth = self._node.ids.birth_of(session_id)
        if birth is None or birth.node == self._node.members.own.node:
            return None
        member = self._node.members.find(birth.node)
        if member is None:
            raise Rejection(Fault.UNKNOWN_SESSION, "session ended: the node that held it has ended; initialize again")
        return member

    def for_a_new_session(self, request: web.BaseRequest) -> Member | None:
        """Return the node on which a session should begin, None where that is this one."""
        self._node.members.publish(self._children())
        if has_arrived(request):
            return None
        member = self._node.members.least_loaded()
        return None if member.node == self._node.members.own.node else member

    def _place(self, request: web.BaseRequest) -> Member | None:
        path = request.path.removeprefix(self._base)
        if path == "/mcp" or path.startswith("/mcp/"):
            return self.holder(request.headers.get(SESSION_HEADER))
        if path.startswith("/messages/"):
            return self.holder(request.query.get("session_id") or request.query.get("sessionId"))
        if path.startswith("/sse/") and request.method == "GET":
            return self.for_a_new_session(request)
        if path == "/api/v1/sessions" and request.method == "POST":
            return self.for_a_new_session(request)
        if (found := _SESSION.fullmatch(path)) is None:
            return None
        label = _LABEL.fullmatch(found[1])
        if label is None:
            return self.holder(found[1])
        return None if label[1] == self._node.members.own.node else self._node.members.find(label[1])
