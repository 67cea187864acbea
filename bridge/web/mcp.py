"""``/mcp/{server_id}``: Streamable HTTP of the handshake era. POST carries every message of the client, GET is a stream
for what belongs to no request, DELETE ends the session.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web
from multidict import istr

from bridge.children.ahead import words_of
from bridge.children.exchange import Exchange
from bridge.children.stream import Kind
from bridge.protocol import jsontext, messages
from bridge.protocol.era import is_modern
from bridge.protocol.errors import (
    OF_THE_SERVER,
    BridgeError,
    Fault,
    Rejection,
)
from bridge.protocol.messages import Message, Notification, Request, Response
from bridge.protocol.versions import BATCH_VERSION
from bridge.sessions.batch import Batch
from bridge.sessions.room import SessionEntry
from bridge.sessions.streamable import StreamableSession
from bridge.web import reply
from bridge.web.around import Around
from bridge.web.body import LARGE, check_accept, others_first, read_json
from bridge.web.calls import Call
from bridge.web.errors import refusal
from bridge.web.modern import ModernFace
from bridge.web.prebuilt import Prebuilt, gone, taken
from bridge.web.principal import owner_of
from bridge.web.reply import JSON_TYPE, SESSION_HEADER, SSE_TYPE, as_events

log = logging.getLogger(__name__)

#: Says of a request of a session which server it is for, and how that gets it.
Route = Callable[[web.BaseRequest, StreamableSession, Request], Awaitable[tuple[str, Request]]]

VERSION_HEADER = istr("MCP-Protocol-Version")
LAST_EVENT_HEADER = istr("Last-Event-ID")
#: Most messages of one batch.
MOST_PARTS = 1000
#: After how many of them others are served.
PARTS_AT_ONCE = 20


class McpFace:
    """The handlers of ``/mcp/{server_id}``.

    ``implicit``: a request without a session opens one by itself (``IMPLICIT_INITIALIZE``).
    """

    def __init__(self, around: Around, modern: ModernFace, *, implicit: bool) -> None:
        self._check: Callable[[str], object] = around.core.registry.check
        self._route: Route | None = None
        self._modern = modern
        self._implicit = implicit
        self._registry = around.core.registry
        self._sessions = around.core.sessions
        self._timing = around.core.timing
        self._drain = around.drain
        self._limits = around.limits
        self._calls = around.calls
        self._silence = around.silence
        self._stays = around.stays
        self._variables = around.variables
        self._nodes = around.nodes

    def routes(self) -> list[web.RouteDef]:
        """Return what it answers."""
        return [
            web.post("/mcp/{server_id}", self.post),
            web.get("/mcp/{server_id}", self.get, allow_head=False),
            web.delete("/mcp/{server_id}", self.delete),
        ]

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Take what a client says."""
        return await self.serve(request, self._server_of(request))

    async def serve(self, request: web.BaseRequest, server: str) -> web.StreamResponse:
        """Take what a client says to this server."""
        self._check(server)  # 404 before anything else is looked at
        check_accept(request, JSON_TYPE, SSE_TYPE)
        body = await read_json(request)
        if body.lstrip()[:1] == b"[":
            return await self._batch(request, server, body)
        message = messages.parse_body(body)
        if len(body) >= LARGE:
            await others_first()
        try:
            if is_modern(request.headers.get(VERSION_HEADER), message):
                self._variables.refuse(request, server)
                return await self._modern.post(request, server, message)
            if isinstance(message, Request):
                with self._drain:
                    return await self._call(request, server, message)
            return self._take(request, server, message)
        except BridgeError as error:
            if isinstance(message, Request):
                self._calls.refused(request, server, message, error)
            request_id = message.id if isinstance(message, Request) else None
            return refusal(error, request_id, status=200 if error.fault in OF_THE_SERVER else None)

    def _server_of(self, request: web.Request) -> str:
        return request.match_info["server_id"]

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Open a stream for what the server says outside of any request, or go on with one that was lost."""
        _check_handshake(request)
        check_accept(request, SSE_TYPE)
        self._drain.check()
        entry = self._session(request, self._server_of(request))
        with self._stays.during(request), self._sessions.pool.using(entry) as session:
            last_id = request.headers.get(LAST_EVENT_HEADER)
            if last_id is None:
                return await as_events(request, session, session.listen(), self._silence)
            track, missed = session.streams.resume(last_id)
            return await as_events(request, session, track, self._silence, missed=missed)

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """End a session."""
        _check_handshake(request)
        self._sessions.delete(self._session(request, self._server_of(request)))
        return gone()

    def _session(self, request: web.BaseRequest, server: str) -> SessionEntry:
        self._check(server)
        session_id = request.headers.get(SESSION_HEADER)
        if session_id is None:
            raise Rejection(Fault.NO_SESSION_ID, f"{SESSION_HEADER} is missing; send initialize first")
        return self._sessions.find(session_id, server, owner_of(request))

    def _take(self, request: web.BaseRequest, server: str, message: Notification | Response) -> web.Response:
        """Take what wants no answer."""
        if self._implicit and SESSION_HEADER not in request.headers:
            return taken()  # about a handshake that the bridge has done itself
        hand_on(self._session(request, server).session, message)
        return taken()

    async def _batch(self, request: web.BaseRequest, server: str, body: bytes) -> web.StreamResponse:
        """Take several messages at once (specification 2025-03-26 only)."""
        if is_modern(request.headers.get(VERSION_HEADER), None):
            raise Rejection(Fault.NOT_A_MESSAGE, "batches do not exist in this version; send one message")
        session = self._session(request, server).session
        if session.version != BATCH_VERSION:
            raise Rejection(Fault.BATCH, f"batches exist in {BATCH_VERSION} only; send one message")
        found = messages.parse_batch(body, MOST_PARTS)
        if not any(isinstance(each, Request | Rejection) for each in found):
            await session.outlast(self._take_parts(request, session, Batch([]), found))
            return taken()
        with self._drain:
            batch = Batch(found)
            try:
                await session.outlast(self._take_parts(request, session, batch, found))
            except asyncio.CancelledError:
                session.streams.hung_up(batch)
                raise
            return await self._follow_batch(request, session, batch)

    async def _take_parts(
        self, request: web.BaseRequest, session: StreamableSession, batch: Batch, found: list[Message | Rejection]
    ) -> None:
        is_counted = True  # the first request is: as the POST
        for number, message in enumerate(found, 1):
            if isinstance(message, Rejection):
                batch.refuse(message)
            elif isinstance(message, Request) and message.method == "initialize":
                batch.refuse(Rejection(Fault.NOT_A_MESSAGE, "initialize must not be in a batch"), message.id)
            else:
                await self._take_part(request, session, batch, message, is_counted=is_counted)
                is_counted = is_counted and not isinstance(message, Request)
            if number % PARTS_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _take_part(
        self,
        request: web.BaseRequest,
        session: StreamableSession,
        batch: Batch,
        message: Message,
        *,
        is_counted: bool,
    ) -> None:
        on_end: Callable[[Exchange], None] = batch.one_ended
        server, call = session.server, None
        if isinstance(message, Request):
            try:
                if session.closed:  # between two parts
                    raise Rejection(Fault.UNKNOWN_SESSION, "session ended; initialize again")
                if not is_counted:
                    self._limits.check(request)
                    self._limits.check_server(request, server)
                if self._route is not None:
                    server, message = await self._route(request, session, message)
                call = self._calls.begin(request, server, message, session)
            except Rejection as rejection:
                batch.refuse(rejection, message.id)
                return
            if call is not None:
                on_end, message = call.before(on_end), call.message
        silence = self._timing.silence(server)
        taking = session.take(message, silence=silence, into=batch, on_end=on_end)
        await (taking if call is None else call.sent(taking))

    async def _call(self, request: web.BaseRequest, server: str, message: Request) -> web.StreamResponse:
        if SESSION_HEADER not in request.headers and (message.method == "initialize" or self._implicit):
            if message.method == "initialize":
                return await self._begin(request, server, message)
            self._drain.check_new_session()
            session = (await self._open_greeted(request, server)).session
        else:
            entry = self._session(request, server)
            session = entry.session
            if message.method == "initialize":
                return await self._initialize_created(request, entry, message)
            if session.is_fresh:
                if not self._implicit:
                    raise Rejection(Fault.NOT_A_MESSAGE, "this session is new: send initialize first")
                session.variables = session.variables or self._variables.take(request, server)
        if self._route is not None:
            server, message = await self._route(request, session, message)
        call = self._calls.begin(request, server, message, session)
        silence = self._timing.silence(server)
        if call is None:
            exchange = await session.call(message, silence=silence)
        else:
            sending = session.call(call.message, silence=silence, on_end=call.ended)
            exchange = await call.sent(sending, goes_on=True)
        return await self._follow(request, session, exchange)

    async def _open(self, request: web.BaseRequest, server: str, message: Request) -> SessionEntry:
        variables = self._variables.take(request, server)
        return await self._sessions.open(server, owner_of(request), variables=variables, words=words_of(message))

    async def _open_greeted(self, request: web.BaseRequest, server: str) -> SessionEntry:
        variables = self._variables.take(request, server)
        return await self._sessions.open_greeted(server, owner_of(request), variables)

    async def _initialize_created(
        self, request: web.BaseRequest, entry: SessionEntry, message: Request
    ) -> web.StreamResponse:
        """The first ``initialize`` of a session that was made by ``POST /api/v1/sessions``."""
        if not entry.session.is_fresh:
            why = f"initialize opens a new session; send it without {SESSION_HEADER}"
            raise Rejection(Fault.NOT_A_MESSAGE, why)
        session = entry.session
        session.variables = session.variables or self._variables.take(request, session.server)
        call = self._calls.begin(request, session.server, message, session)
        exchange = await self._greeting(entry, message, call)
        return await self._follow(request, entry.session, exchange)

    async def _greeting(self, entry: SessionEntry, message: Request, call: Call | None) -> Exchange:
        silence = self._timing.start(entry.session.server)
        if call is None:
            return await self._sessions.greeting.initialize(entry, message, silence)
        exchange = await call.sent(self._sessions.greeting.initialize(entry, call.message, silence))
        call.greets(exchange, entry.session)
        return exchange

    async def _begin(self, request: web.BaseRequest, server: str, message: Request) -> web.StreamResponse:
        """Open a session here, or on the node that has the fewest children."""
        member = None if self._nodes is None else self._nodes.for_a_new_session(request)
        if self._nodes is None or member is None:
            self._drain.check_new_session()
            return await self._initialize(request, server, message)
        line = messages.request_line(message.id, message.method, message.params)
        return await self._nodes.send(request, member, line)

    async def _initialize(self, request: web.BaseRequest, server: str, message: Request) -> web.StreamResponse:
        call = self._calls.begin(request, server, message)
        opening = self._open(request, server, message)
        entry = await (opening if call is None else call.sent(opening))
        try:
            exchange = await self._greeting(entry, message, call)
            response = await self._follow(request, entry.session, exchange)
        except BaseException:
            # The client has gone before it could learn the id: nobody will ever use this session.
            self._sessions.end(entry, "its client left during initialize")
            raise
        if not exchange.ended:
            self._sessions.end(entry, "its client left during initialize")
        elif exchange.failure is not None and exchange.failure.fault is Fault.UNAVAILABLE and not response.prepared:
            return refusal(exchange.failure, message.id)
        # One that was opened and has ended meanwhile keeps its id: the next request hears so, and its client begins
        # anew. Without one it would go on as if there were no sessions here.
        if entry.session.closed and not response.prepared and "error" in jsontext.fields(exchange.answer):
            return Prebuilt(exchange.answer)
        return response

    async def _follow(
        self,
        request: web.BaseRequest,
        session: StreamableSession,
        exchange: Exchange,
    ) -> web.StreamResponse:
        """Answer a request of a session: JSON if its answer comes first, else events.

        A disconnect does not cancel the call (specification, sending messages).
        """
        try:
            first = await exchange.first_within(self._silence)
        except asyncio.CancelledError:
            session.streams.hung_up(exchange)
            raise
        if first is not None and first[1] is Kind.ANSWER:
            return Prebuilt(first[0], session.id)
        return await as_events(request, session, session.backlog.open(exchange, [exchange.request.id]), self._silence)

    async def _follow_batch(
        self, request: web.BaseRequest, session: StreamableSession, batch: Batch
    ) -> web.StreamResponse:
        """Answer a batch: one JSON array if nothing but answers comes, else events."""
        try:
            answers = await batch.answers(reply.KEEP_ALIVE)
        except asyncio.CancelledError:
            session.streams.hung_up(batch)
            raise
        if answers is not None:
            return Prebuilt(b"[%b]" % b",".join(answers), session.id)
        return await as_events(request, session, session.backlog.open(batch, batch.asked), self._silence)


def hand_on(session: StreamableSession, message: Notification | Response) -> None:
    """Hand on what a client says and wants no answer to."""
    if isinstance(message, Notification):
        session.tell(message)
    elif not session.answer(message):
        # No error, though the specification allows 400: an answer may cross with the end of its question, and clients
        # exist that give up the whole session then (docs/decisions/002).
        log.debug("session %s: an answer to nothing that was asked in it is dropped", session.label)


def _check_handshake(request: web.Request) -> None:
    """GET and DELETE exist in the handshake era only."""
    if is_modern(request.headers.get(VERSION_HEADER), None):
        raise Rejection(Fault.BAD_METHOD, f"{request.method} does not exist in this version")
