"""Answers that a connection waits for without a task: of a call in a session, and of a modern one.

Both are the answers of the usual way (:mod:`bridge.web.mcp`, :mod:`bridge.web.modern`): JSON if the answer comes first,
else events. They go on there, in a task, where somebody has to be waited for: a client that reads slowly, or everybody
in a long silence.
"""

from __future__ import annotations

import abc
import asyncio

from aiohttp import web

from bridge.children.exchange import Exchange
from bridge.children.silence import SilenceWatch
from bridge.children.stream import Kind, RequestStream, Stream, StreamEnded
from bridge.sessions.backlog import Track
from bridge.sessions.modern import ModernAnswer
from bridge.sessions.streamable import StreamableSession
from bridge.web.drain import Drain
from bridge.web.modern import ModernFace, status_of_answer
from bridge.web.prebuilt import bare_answer, json_answer, session_lines, sharing_lines, stream_head, stream_pieces
from bridge.web.reply import as_events, next_event, opening, plain_event
from bridge.web.waiting import Asker


class Taken:
    """The answer to what wants none."""

    __slots__ = ("_connection", "_origin")

    def __init__(self, connection: Asker, origin: str | None) -> None:
        self._connection = connection
        self._origin = origin

    def begin(self) -> None:
        """Answer."""
        self._connection.answer(bare_answer(202, b"" if self._origin is None else sharing_lines(self._origin)))

    def lost(self) -> None:
        """Nothing is lost: it was answered at once."""

    async def rest(self, request: web.BaseRequest) -> web.StreamResponse:
        """There is none."""
        raise AssertionError(request)


class DirectAnswer(abc.ABC):
    """What comes on ``stream``, for the request that ``connection`` has put aside. ``origin`` is that of its page."""

    __slots__ = ("_connection", "_drain", "_has_begun", "_is_lost", "_origin", "_reader", "_silence", "_stream")

    def __init__(
        self,
        connection: Asker,
        stream: RequestStream,
        origin: str | None,
        drain: Drain,
        silence: SilenceWatch[Stream],
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._origin = origin
        self._drain = drain
        self._silence = silence
        self._has_begun = self._is_lost = False
        self._reader = 0

    def begin(self) -> None:
        """Wait for the answer, which may be there already."""
        self._drain.__enter__()
        if self._stream.ended:
            self._look()
        else:
            self._wait()

    def lost(self) -> None:
        """The client has gone."""
        self._is_lost = True
        if self._stream.is_read_by(self._reader):
            self._stream.call_back(None)
            self._silence.end(self._stream)
            self._leave()
        self._drain.__exit__()

    async def rest(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer on the usual way, or go on there with events that have begun."""
        try:
            return await self._go_on(request)
        finally:
            self._drain.__exit__()

    @abc.abstractmethod
    def _own_lines(self) -> bytes:
        """The headers of this answer."""

    @abc.abstractmethod
    def _is_plain(self, answer: bytes) -> bool:
        """Whether an answer that came first is JSON with status 200."""

    @abc.abstractmethod
    def _open(self) -> bytes:
        """Answer with events, and return what they begin with."""

    @abc.abstractmethod
    def _event(self, message: bytes) -> bytes:
        """The next event."""

    @abc.abstractmethod
    def _leave(self) -> None:
        """Nobody reads this any more."""

    @abc.abstractmethod
    async def _go_on(self, request: web.BaseRequest) -> web.StreamResponse:
        """What the handler of the usual way would do from here on."""

    def _wait(self) -> None:
        self._stream.call_back(self._look)
        self._silence.start(self._stream)

    def _look(self) -> None:
        """Something has come, or nothing for too long."""
        stream = self._stream
        self._silence.end(stream)
        first = stream.next
        if first is not None and first[1] is Kind.ANSWER and not self._has_begun:
            self._answer_with(first[0])
        elif first is not None or stream.ended or not stream.is_read_by(self._reader):
            # What else comes in this turn is written with it, as the answer often is.
            asyncio.get_running_loop().call_soon(self._events)
        else:
            self._connection.go_on()

    def _answer_with(self, answer: bytes) -> None:
        if self._is_plain(answer):
            self._drain.__exit__()
            self._connection.answer(json_answer(answer, self._lines()))
        else:
            self._connection.go_on()

    def _events(self) -> None:
        """Write what has come, and wait for the next."""
        stream = self._stream
        if self._is_lost:
            return
        head = data = b""
        if not self._has_begun:
            self._has_begun = True
            data = self._open()
            head = stream_head(self._lines())
        try:
            found = stream.take(self._reader)
        except StreamEnded:  # or the client goes on with it over another connection
            found, is_last = [], True
        else:
            is_last = stream.is_over
        pieces = stream_pieces(head, data + b"".join(map(self._event, found)), is_last=is_last)
        if is_last:
            self._drain.__exit__()
            self._connection.answer(pieces)
            return
        self._connection.send(pieces)
        if self._connection.writing_paused or stream.next is not None:
            self._connection.go_on()
        else:
            self._wait()

    def _lines(self) -> bytes:
        return self._own_lines() if self._origin is None else self._own_lines() + sharing_lines(self._origin)


class SessionAnswer(DirectAnswer):
    """The answer of a call in a session. The call goes on without its client (specification, sending messages)."""

    __slots__ = ("_exchange", "_session", "_track")

    def __init__(
        self,
        connection: Asker,
        session: StreamableSession,
        exchange: Exchange,
        origin: str | None,
        drain: Drain,
        silence: SilenceWatch[Stream],
    ) -> None:
        DirectAnswer.__init__(self, connection, exchange, origin, drain, silence)  # super() would be made for each
        self._session = session
        self._exchange = exchange
        self._track: Track | None = None

    def _own_lines(self) -> bytes:
        return session_lines(self._session.id)

    def _is_plain(self, _: bytes) -> bool:
        return True

    def _open(self) -> bytes:
        self._track = self._opened()
        self._reader = self._exchange.take_over()
        return opening(self._session, self._track)

    def _opened(self) -> Track:
        return self._session.backlog.open(self._exchange, [self._exchange.request.id])

    def _event(self, message: bytes) -> bytes:
        assert self._track is not None
        return next_event(self._session, self._track, message)

    def _leave(self) -> None:
        if self._track is None:
            self._session.streams.hung_up(self._exchange)
        else:
            self._session.streams.lost(self._track)

    async def _go_on(self, request: web.BaseRequest) -> web.StreamResponse:
        track = self._track or self._opened()
        return await as_events(request, self._session, track, self._silence, begun_by=self._reader)


class ModernDirectAnswer(DirectAnswer):
    """The answer of a modern call, which a client cancels by going away (specification 2026-07-28)."""

    __slots__ = ("_answer", "_face")

    def __init__(
        self,
        connection: Asker,
        face: ModernFace,
        answer: ModernAnswer,
        origin: str | None,
        drain: Drain,
        silence: SilenceWatch[Stream],
    ) -> None:
        DirectAnswer.__init__(self, connection, answer.stream, origin, drain, silence)
        self._face = face
        self._answer = answer

    def _own_lines(self) -> bytes:
        return b""

    def _is_plain(self, answer: bytes) -> bool:
        return status_of_answer(answer) == 200

    def _open(self) -> bytes:
        return b""

    def _event(self, message: bytes) -> bytes:
        return plain_event(message)

    def _leave(self) -> None:
        if not self._stream.ended:
            self._answer.cancel()

    async def _go_on(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self._face.go_on(request, self._answer, has_begun=self._has_begun)
