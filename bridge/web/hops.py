"""Sending a request on to the node that has to answer it, and its answer back, once and no further.

What stands in a request goes on as it is, but for what was checked here: token, Host and Origin. Instead there is one
sealed header (:mod:`bridge.cluster.hop`). A client that hangs up ends the request over there too, and a client that
reads slowly is read for slowly there.
"""

from __future__ import annotations

import contextlib
import logging
import time

from aiohttp import hdrs, web
from multidict import istr

from bridge.auth.principal import ANYONE, NOBODY, Principal
from bridge.cluster.hop import Hop
from bridge.cluster.members import Member
from bridge.cluster.node import Node
from bridge.protocol import messages
from bridge.protocol.errors import BridgeError, Fault, Rejection
from bridge.protocol.messages import Request
from bridge.protocol.modern import LISTEN
from bridge.web.body import read_body
from bridge.web.cors import sharing
from bridge.web.errors import refusal
from bridge.web.links import Broken, Links, Reply, Unreachable
from bridge.web.prebuilt import COPIED, Prebuilt
from bridge.web.principal import principal_of
from bridge.web.proxy import client_of, origin_of
from bridge.web.reply import JSON_TYPE, SESSION_HEADER, SSE_TYPE, event_stream, plain_event
from bridge.web.stays import Stays

log = logging.getLogger(__name__)

HOP_HEADER = istr("Mcp-Bridge-Hop")
#: Seconds after which a client may try again what a node that has gone cannot answer.
RETRY = 1.0
#: Seconds for which a sealed header is sent again for the same caller and target, and how many are remembered.
SAME, MOST_HEADERS = 5.0, 1000

#: What belongs to one connection, or was checked here and is not for the next node.
_STAYS = frozenset(
    {b"host", b"origin", b"authorization", b"x-api-key", b"connection", b"keep-alive", b"te", b"trailer", b"upgrade"}
    | {b"transfer-encoding", b"expect", b"content-length", b"content-encoding", b"accept-encoding", b"cookie", b"via"}
    | {b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", HOP_HEADER.lower().encode()}
)
#: What of an answer belongs to its connection, or is said anew here.
_STAYS_THERE = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"})
_HEAD = b"%b %b HTTP/1.1\r\nHost: node\r\n%b: %b\r\nX-Forwarded-For: %b\r\nContent-Length: %d\r\n%b\r\n"
_NAME = HOP_HEADER.encode()


class Hops:
    """Requests to other nodes. Must be made on the event loop. ``stays`` are the streams that come back: who has one is
    asked for a token here, because the other node knows of none.
    """

    def __init__(self, node: Node, stays: Stays) -> None:
        self._node = node
        self._stays = stays
        self.links = Links()
        #: When they were made, and what is sent again: not after the clock was set back, for then it is of the future.
        self._sealed: dict[tuple[object, ...], tuple[float, bytes]] = {}
        self._heads: dict[tuple[object, ...], tuple[float, bytes]] = {}

    async def send(self, request: web.BaseRequest, member: Member, body: bytes | None = None) -> web.StreamResponse:
        """Answer a request with what ``member`` says to it. ``body`` is what was read of it already.

        Raises :class:`Unreachable` where another node might be asked as well.
        """
        if body is None:
            body = await read_body(request)
        try:
            answer = await self.links.ask(member.address, self._head(request, member, body), body)
            try:
                return await self._relay(request, member, body, answer)
            finally:
                answer.close()
        except Broken as error:  # it is not tried again: whether it was done is not known
            return lost(request, member, body, error)

    async def tell(self, member: Member, path: str, body: bytes) -> int:
        """POST something of ours to ``member``; return the status. Raises :class:`Unreachable` and :class:`Broken`."""
        return (await self._ask(member, "POST", path, NOBODY, body))[0]

    async def look(self, member: Member, path: str) -> tuple[int, bytes]:
        """GET what ``member`` tells operators; return status and body. Raises what :meth:`tell` raises."""
        return await self._ask(member, "GET", path, ANYONE)

    async def _ask(
        self, member: Member, method: str, path: str, principal: Principal, body: bytes = b""
    ) -> tuple[int, bytes]:
        """Ask something for ourselves."""
        hop = Hop(member.node, self._node.members.own.node, method, path, principal.words, "", "", "")
        sealed = self._node.seals.write(hop, time.time()).encode()
        head = _HEAD % (method.encode(), path.encode(), _NAME, sealed, b"", len(body), b"")
        with contextlib.closing(await self.links.ask(member.address, head, body)) as answer:
            return answer.status, await answer.read()

    def forget_the_dead(self) -> None:
        """Cut connections to nodes that live no longer: what still waits for their answers ends."""
        members = self._node.members
        self.links.keep({member.address for member in (members.own, *members.others())})

    async def open(self, request: web.BaseRequest, member: Member, body: bytes = b"") -> Reply:
        """Begin to read the answer of ``member``, which the caller closes. Raises :class:`Rejection`."""
        try:
            return await self.links.ask(member.address, self._head(request, member, body), body)
        except (Unreachable, Broken) as error:
            raise _lost(member, error) from None

    def _head(self, request: web.BaseRequest, member: Member, body: bytes) -> bytes:
        """The head of a request, which is mostly that of the one before: so it is kept for as long as its seal."""
        client, origin, principal = client_of(request), origin_of(request), principal_of(request)
        method, target, raw = request.method, request.raw_path, request.raw_headers
        key = member.node, method, target, raw, principal, client, origin, len(body)
        now = time.time()
        found = self._heads.get(key)
        if found is not None and 0 <= now - found[0] < SAME:
            return found[1]
        made, sealed = self._seal(member.node, method, target, principal, client, origin, now)
        kept = b"".join(b"%b: %b\r\n" % each for each in raw if each[0].lower() not in _STAYS)
        path = target.encode(errors="surrogateescape")
        head = _HEAD % (method.encode(), path, _NAME, sealed, client.encode(), len(body), kept)
        if len(self._heads) >= MOST_HEADERS:
            self._heads.clear()
        self._heads[key] = made, head
        return head

    def _seal(
        self, to: str, method: str, target: str, principal: Principal, client: str, origin: str, now: float
    ) -> tuple[float, bytes]:
        """The sealed header, and when it was made: one of a moment ago is as good."""
        key = to, method, target, principal, client, origin
        found = self._sealed.get(key)
        if found is not None and 0 <= now - found[0] < SAME:
            return found
        if len(self._sealed) >= MOST_HEADERS:
            self._sealed.clear()
        scheme, _, host = origin.partition("://")
        hop = Hop(to, self._node.members.own.node, method, target, principal.words, client, scheme, host)
        made = self._sealed[key] = now, self._node.seals.write(hop, now).encode()
        return made

    async def _relay(self, request: web.BaseRequest, member: Member, body: bytes, answer: Reply) -> web.StreamResponse:
        headers, length = answer.headers, answer.length
        if length is not None and length <= COPIED and request.method != "HEAD":  # which has a length and no body
            data = await answer.read()
            session_id = headers.get(SESSION_HEADER, "")
            if answer.status == 200 and len(headers) == 4 + bool(session_id) and answer.content_type == JSON_TYPE:
                return Prebuilt(data, session_id)
            return web.Response(status=answer.status, body=data, headers=_kept(answer))
        if answer.status == 200 and answer.content_type == SSE_TYPE:
            response: web.StreamResponse = event_stream(request, headers.get(SESSION_HEADER, ""))
        else:
            response = web.StreamResponse(
                status=answer.status, headers={**_kept(answer), **sharing(request.headers.get(hdrs.ORIGIN))}
            )
            response.content_length = length
        staying = self._stays.during(request) if _listens(request, body) else contextlib.nullcontext()
        with contextlib.suppress(ConnectionError), staying:  # the client has gone: nothing is wrong with us
            await response.prepare(request)
            await self._pump(request, member, body, answer, response)
        return response

    async def _pump(
        self, request: web.BaseRequest, member: Member, body: bytes, answer: Reply, response: web.StreamResponse
    ) -> None:
        while True:
            try:
                chunk = await answer.some()
            except Broken as error:
                failure = _lost(member, error)
                if answer.length is None:
                    await response.write_eof(_last_event(body, failure))
                elif request.transport is not None:  # half of a body: nothing can be said any more
                    request.transport.abort()
                return
            if not chunk or answer.is_over:
                await response.write_eof(chunk)
                return
            await response.write(chunk)


def _kept(answer: Reply) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.lower() not in _STAYS_THERE}


def _lost(member: Member, error: Unreachable | Broken) -> Rejection:
    """Say what is wrong: 503 where nothing was done, so that it may be tried again; 502 where nobody knows."""
    log.warning("node %s cannot be reached, or has gone: %s", member.node, error)
    if isinstance(error, Unreachable):
        why = f"node {member.node}, which has to answer this, cannot be reached"
        return Rejection(Fault.UNAVAILABLE, why, retry_in=RETRY)
    why = f"node {member.node} ended before it answered; whether it did what was asked is not known"
    return Rejection(Fault.CHILD_FAILED, why)


def lost(request: web.BaseRequest, member: Member, body: bytes, error: Unreachable | Broken) -> web.Response:
    """Return the answer to what no other node has answered."""
    return refusal(_lost(member, error), _asked(body) if request.method == "POST" else None)


def _asked(body: bytes) -> bytes | None:
    """The id of the request in a body, None where it is none, or several."""
    message = _request(body)
    return None if message is None else message.id


def _listens(request: web.BaseRequest, body: bytes) -> bool:
    """Whether a stream is for whatever comes, and not for the answer to a call."""
    return request.method == "GET" or ((message := _request(body)) is not None and message.method == LISTEN)


def _request(body: bytes) -> Request | None:
    try:
        message = messages.parse(body)
    except BridgeError:
        return None
    return message if isinstance(message, Request) else None


def _last_event(body: bytes, failure: BridgeError) -> bytes:
    """The end of a stream whose node has gone: an error, where one request waits on it."""
    asked = _asked(body)
    return b"" if asked is None else plain_event(messages.error_line(asked, failure.fault.code, str(failure)))
