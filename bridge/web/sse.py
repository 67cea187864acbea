"""``/sse/{server_id}`` and ``/messages/{server_id}``: HTTP+SSE of 2024-11-05, where the session is the connection.

The client opens one event stream, learns from its first event where to POST, and gets everything on that stream. When
it goes, the session ends with its process.
"""

from __future__ import annotations

import contextlib

from aiohttp import web

from bridge.children.stream import RequestStream
from bridge.protocol import messages
from bridge.protocol.errors import Fault, Rejection
from bridge.protocol.messages import Request
from bridge.sessions.room import SessionEntry
from bridge.web.around import Around
from bridge.web.body import LARGE, others_first, read_json
from bridge.web.prebuilt import taken
from bridge.web.principal import owner_of
from bridge.web.reply import event_stream, plain_event, pump


class SseFace:
    """The handlers of ``/sse`` and ``/messages``, which clients are told to find below ``base``."""

    def __init__(self, around: Around, base: str) -> None:
        self._base = base
        self._registry = around.core.registry
        self._sessions = around.core.sessions
        self._timing = around.core.timing
        self._drain = around.drain
        self._calls = around.calls
        self._silence = around.silence
        self._stays = around.stays
        self._variables = around.variables
        self._streams: dict[str, RequestStream] = {}

    def routes(self) -> list[web.RouteDef]:
        """Return what it answers."""
        return [
            web.get("/sse/{server_id}", self.connect, allow_head=False),
            web.post("/messages/{server_id}", self.post),
        ]

    async def connect(self, request: web.Request) -> web.StreamResponse:
        """Open a session and its one stream."""
        self._drain.check_new_session()
        server = request.match_info["server_id"]
        self._registry.pool(server)  # 404 before anything else is looked at
        entry = await self._sessions.open(
            server, owner_of(request), lasting=False, variables=self._variables.take(request, server)
        )
        session = entry.session
        where = f"{self._base}/messages/{server}?session_id={session.id}"
        stream = self._streams[session.id] = RequestStream()
        response = event_stream(request)
        try:
            with self._stays.during(request), self._sessions.pool.using(entry), contextlib.suppress(ConnectionError):
                session.listen(stream)
                await response.prepare(request)
                await response.write(f"event: endpoint\ndata: {where}\n\n".encode())
                await pump(response, stream, plain_event, self._silence, f"session {session.label}")
        finally:
            del self._streams[session.id]
            self._sessions.end(entry, "its client closed the stream")
        return response

    async def post(self, request: web.Request) -> web.Response:
        """Take one message; what answers it comes on the stream."""
        self._session(request)  # who has none is refused before the body is read
        body = await read_json(request)
        message = messages.parse_body(body)
        if len(body) >= LARGE:
            await others_first()
        entry = self._session(request)  # it may have ended meanwhile, and its stream with it
        stream = self._streams[entry.session.id]
        if isinstance(message, Request):
            self._drain.check()
            return await self._ask(request, entry, message, stream)
        await entry.session.take(message, silence=None, into=stream)
        return taken()

    async def _ask(
        self, request: web.Request, entry: SessionEntry, message: Request, stream: RequestStream
    ) -> web.Response:
        session = entry.session
        call = self._calls.begin(request, session.server, message, session)
        if message.method == "initialize" and not session.version:
            greeting = self._sessions.greeting.initialize(entry, message, self._timing.start(session.server), stream)
            if call is None:
                await greeting
            else:
                call.greets(await call.sent(greeting), session)
        else:
            silence = self._timing.silence(session.server)
            if call is None:
                await session.take(message, silence=silence, into=stream)
            else:
                taking = session.take(call.message, silence=silence, into=stream, on_end=call.ended)
                await call.sent(taking, goes_on=True)
        return taken()

    def _session(self, request: web.Request) -> SessionEntry:
        server = request.match_info["server_id"]
        self._registry.pool(server)
        session_id = request.query.get("session_id") or request.query.get("sessionId")
        if not session_id:
            raise Rejection(Fault.NO_SESSION_ID, f"session_id is missing; open GET /sse/{server} first")
        entry = self._sessions.find(session_id, server, owner_of(request))
        if session_id not in self._streams:
            raise Rejection(Fault.UNKNOWN_SESSION, f"this session is not one of /sse; POST to /mcp/{server}")
        return entry
