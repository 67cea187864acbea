"""``/mcp/{server_id}``: Streamable HTTP of the handshake era. POST carries every message of the client, GET is a stream
for what belongs to no request, DELETE ends the session.
"""

from __future__ import annotations

import asyncio
import logging

from aiohttp import web

from bridge.children.connection import Exchange
from bridge.children.registry import Registry
from bridge.protocol import messages
from bridge.protocol.era import check_version
from bridge.protocol.errors import OF_THE_SERVER, BridgeError, Fault, Rejection
from bridge.protocol.messages import Notification, Request, Response
from bridge.sessions.directory import SessionDirectory, SessionEntry
from bridge.sessions.timing import Timing
from bridge.web.body import check_accept, read_json
from bridge.web.drain import Drain
from bridge.web.errors import refusal
from bridge.web.reply import JSON_TYPE, SSE_TYPE, follow, reply

log = logging.getLogger(__name__)

SESSION_HEADER = "Mcp-Session-Id"
VERSION_HEADER = "MCP-Protocol-Version"


class McpFace:
    """The handlers of ``/mcp/{server_id}``."""

    def __init__(self, registry: Registry, sessions: SessionDirectory, timing: Timing, drain: Drain) -> None:
        self._registry = registry
        self._sessions = sessions
        self._timing = timing
        self._drain = drain

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Take one message of the client."""
        server = request.match_info["server_id"]
        self._registry.pool(server)  # 404 before anything else is looked at
        check_accept(request, JSON_TYPE, SSE_TYPE)
        message = messages.parse(await read_json(request))
        request_id = message.id if isinstance(message, Request) else None
        try:
            check_version(request.headers.get(VERSION_HEADER), message)
            return await self._take(request, server, message)
        except BridgeError as error:
            return refusal(error, request_id, status=200 if error.fault in OF_THE_SERVER else None)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Open a stream for what the server says outside of any request."""
        check_accept(request, SSE_TYPE)
        self._drain.check()
        session = self._session(request).session
        stream = session.listen()
        try:
            return await follow(request, stream, {SESSION_HEADER: session.id})
        finally:
            session.unlisten(stream)

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """End a session."""
        self._sessions.delete(self._session(request))
        return web.Response(status=204)

    def _session(self, request: web.Request) -> SessionEntry:
        server = request.match_info["server_id"]
        self._registry.pool(server)
        check_version(request.headers.get(VERSION_HEADER), None)
        session_id = request.headers.get(SESSION_HEADER)
        if session_id is None:
            raise Rejection(Fault.NO_SESSION_ID, f"{SESSION_HEADER} is missing; send initialize first")
        return self._sessions.find(session_id, server)

    async def _take(
        self, request: web.Request, server: str, message: Request | Notification | Response
    ) -> web.StreamResponse:
        if isinstance(message, Request):
            with self._drain.call():
                return await self._call(request, server, message)
        session = self._session(request).session
        if isinstance(message, Notification):
            session.tell(message)
        elif not session.answer(message):
            # No error, though the specification allows 400: an answer may cross with the end of its question, and
            # clients exist that give up the whole session then (docs/decisions/002).
            log.debug("session %s: an answer to nothing that was asked in it is dropped", session.label)
        return web.Response(status=202)

    async def _call(self, request: web.Request, server: str, message: Request) -> web.StreamResponse:
        if message.method == "initialize" and SESSION_HEADER not in request.headers:
            return await self._initialize(request, server, message)
        session = self._session(request).session
        if message.method == "initialize":
            raise Rejection(Fault.NOT_A_MESSAGE, f"initialize opens a new session; send it without {SESSION_HEADER}")
        exchange = session.call(message, silence=self._timing.silence(server))
        return await _followed(request, exchange, {SESSION_HEADER: session.id})

    async def _initialize(self, request: web.Request, server: str, message: Request) -> web.StreamResponse:
        entry = await self._sessions.open(server)
        try:
            exchange = self._sessions.initialize(entry, message, self._timing.start(server))
            response = await reply(request, exchange, {SESSION_HEADER: entry.session.id})
        except BaseException:
            # The client has gone before it could learn the id: nobody will ever use this session.
            self._sessions.end(entry, "its client left during initialize")
            raise
        if entry.session.closed and not response.prepared:
            del response.headers[SESSION_HEADER]
        return response


async def _followed(request: web.Request, exchange: Exchange, headers: dict[str, str]) -> web.StreamResponse:
    """Answer from an exchange that belongs to the session: a disconnect does not cancel it (specification, sending
    messages: disconnection SHOULD NOT be interpreted as cancellation).
    """
    try:
        return await reply(request, exchange, headers)
    except (asyncio.CancelledError, ConnectionError):
        exchange.read = False
        raise
