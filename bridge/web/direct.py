"""Calls that are answered without a task.

Most of what a server spends on a request is what lets its handler wait: a task, and turns of the event loop to wake it.
A call of a session whose child is there waits for nothing but its answer. So it is sent to the child as soon as it has
been read, and answered as soon as the child has answered, each in the turn that brings it (docs/decisions/105).

Nothing is decided here that is not decided on the usual way (:mod:`bridge.web.front`, :mod:`bridge.web.mcp`): what is
not the usual case goes there before anything of it has happened, and what goes wrong is found again there, and told. So
does what has to wait for anything else: for a client that reads slowly, or to break a long silence.
"""

from __future__ import annotations

import asyncio
import logging

from aiohttp import StreamReader, hdrs, web
from aiohttp.http import RawRequestMessage

from bridge.children.exchange import Exchange
from bridge.children.silence import SilenceWatch
from bridge.children.stream import Stream, StreamEnded
from bridge.protocol import messages
from bridge.protocol.era import is_modern
from bridge.protocol.errors import BridgeError
from bridge.protocol.messages import Request
from bridge.protocol.versions import is_handshake
from bridge.sessions.backlog import Track
from bridge.sessions.streamable import StreamableSession
from bridge.web.around import Around
from bridge.web.body import ENOUGH, LARGE
from bridge.web.drain import Drain
from bridge.web.front import named
from bridge.web.guards import Guards
from bridge.web.mcp import VERSION_HEADER
from bridge.web.prebuilt import json_answer, session_lines, sharing_lines, stream_head, stream_pieces
from bridge.web.reply import JSON_TYPE, SESSION_HEADER, as_events, next_event, opening
from bridge.web.server import Connection

log = logging.getLogger(__name__)


class DirectCalls:
    """Calls of sessions over ``/mcp/{server_id}``, in the handshake era, below ``base`` or not (``BASE_PATH``).

    ``most`` is the size in bytes of a body.
    """

    def __init__(self, around: Around, guards: Guards, most: int, base: str) -> None:
        self._base = base + "/"
        self._guards = guards
        self._limits = around.limits
        self._most = min(most, LARGE - 1)
        self._servers: dict[str, str] = {}  # by paths that have come
        self._known = around.core.registry.entries
        self._find = around.core.stream_pool.find
        self._timing = around.core.timing
        self._drain = around.drain
        self._calls = around.calls
        self._silence = around.silence

    def begin(self, connection: Connection, message: RawRequestMessage, content: StreamReader) -> DirectCall | None:
        """Send a call to its child; None where it has to go the usual way, and nothing of it has happened.

        ``content`` is the body, which has come as a whole.
        """
        server = self._servers.get(message.path) or self._named(message.path)
        if not server or message.method != "POST" or self._limits.is_set or log.isEnabledFor(logging.DEBUG):
            return None
        headers = message.headers
        principal = self._guards.recall(headers, connection.peer, server)
        if principal is None:
            return None
        session_id = headers.get(SESSION_HEADER)
        version = headers.get(VERSION_HEADER)
        origin = headers.get(hdrs.ORIGIN)
        if (
            session_id is None
            or headers.get(hdrs.CONTENT_TYPE) != JSON_TYPE
            or headers.get(hdrs.ACCEPT, "*/*") not in ENOUGH
            or (origin is not None and not (origin.isascii() and origin.isprintable()))
            or (version is not None and not is_handshake(version))
            or not 0 < content.total_bytes <= self._most
            or self._drain.begun
            or self._calls.are_watched
            or server in self._calls.most
        ):
            return None
        entry = self._find(session_id)
        if entry is None:
            return None
        session = entry.session
        if session.server != server or session.owner != principal.owner:
            return None
        body = content.read_nowait()
        exchange = self._sent(session, version, body)
        if exchange is None:
            connection.put_back(body)
            return None
        return DirectCall(connection, session, exchange, origin, self._drain, self._silence)

    def _named(self, path: str) -> str:
        name, server = named(path, self._base)
        if name != "mcp" or server not in self._known:
            return ""
        self._servers[path] = server
        return server

    def _sent(self, session: StreamableSession, version: str | None, body: bytes) -> Exchange | None:
        try:
            request = messages.parse(body)
            if not isinstance(request, Request) or request.method == "initialize":
                return None
            if request.meta and is_modern(version, request):
                return None
            return session.call_now(request, silence=self._timing.silence(session.server))
        except BridgeError:  # nothing was sent: the usual way says so
            return None


class DirectCall:
    """A call that its child has, and that its connection waits for."""

    __slots__ = (
        *("_connection", "_session", "_exchange", "_origin", "_drain", "_silence"),
        *("_track", "_reader", "_is_lost"),
    )

    def __init__(
        self,
        connection: Connection,
        session: StreamableSession,
        exchange: Exchange,
        origin: str | None,
        drain: Drain,
        silence: SilenceWatch[Stream],
    ) -> None:
        self._connection = connection
        self._session = session
        self._exchange = exchange
        self._origin = origin
        self._drain = drain
        self._silence = silence
        self._track: Track | None = None  # once it is answered with events
        self._reader = 0
        self._is_lost = False

    def begin(self) -> None:
        """Wait for the answer, which may be there already."""
        self._drain.__enter__()
        if self._exchange.ended:
            self._look()
        else:
            self._wait()

    def lost(self) -> None:
        """The client has gone. The call goes on (specification, sending messages)."""
        self._is_lost = True
        if self._track is None:
            self._stop_waiting()
            self._session.hung_up(self._exchange)
        elif self._exchange.is_read_by(self._reader):
            self._stop_waiting()
            self._session.lost(self._track)
        self._drain.__exit__()

    async def rest(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer with events on the usual way, or with the rest of them."""
        exchange, session = self._exchange, self._session
        track = self._track or session.backlog.open(exchange, [exchange.request.id])
        try:
            return await as_events(request, session, track, self._silence, begun_by=self._reader)
        finally:
            self._drain.__exit__()

    def _wait(self) -> None:
        self._exchange.call_back(self._look)
        self._silence.start(self._exchange)

    def _stop_waiting(self) -> None:
        self._exchange.call_back(None)
        self._silence.end(self._exchange)

    def _look(self) -> None:
        """Something has come, or nothing for too long."""
        exchange = self._exchange
        self._silence.end(exchange)
        if exchange.answer and self._track is None:
            self._drain.__exit__()
            self._connection.answer(json_answer(exchange.answer, self._lines()))
        elif exchange.waiting or exchange.ended or not exchange.is_read_by(self._reader):
            # What else comes in this turn is written with it, as the answer often is.
            asyncio.get_running_loop().call_soon(self._events)
        else:
            self._connection.go_on()

    def _events(self) -> None:
        """Answer with events, from the first one on, until there is a reason to wait for more than the next one."""
        if self._is_lost:
            return
        exchange, session = self._exchange, self._session
        head = data = b""
        if self._track is None:
            self._track = session.backlog.open(exchange, [exchange.request.id])
            self._reader = exchange.take_over()
            head, data = stream_head(self._lines()), opening(session, self._track)
        try:
            found = exchange.take(self._reader)
        except StreamEnded:  # or the client goes on with it over another connection
            found, is_last = [], True
        else:
            is_last = exchange.is_over
        track = self._track
        data += b"".join(next_event(session, track, message) for message in found)
        pieces = stream_pieces(head, data, is_last=is_last)
        if is_last:
            self._drain.__exit__()
            self._connection.answer(pieces)
            return
        self._connection.send(pieces)
        if self._connection.writing_paused or exchange.waiting:
            self._connection.go_on()
        else:
            self._wait()

    def _lines(self) -> bytes:
        lines = session_lines(self._session.id)
        return lines if self._origin is None else lines + sharing_lines(self._origin)
