"""HTTP connections: how long a client may take for a request, and what is said of one that is no HTTP.

aiohttp waits for a request as long as it keeps an idle connection, which must be longer than any proxy in front does.
A client that sends half a head, first or later, would hold a descriptor for that long; here it gets a minute
(slow-loris). The body has a limit of its own, in :mod:`bridge.web.body`.

A request that comes on an idle connection may be answered without a task (:mod:`bridge.web.direct`). For aiohttp such
a request is one that it has put aside and not been told of yet. One with the same head as another before it is not even
given to aiohttp (:mod:`bridge.web.heads`). Where a task is wanted after all it is given and told.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Protocol

from aiohttp import StreamReader, web
from aiohttp.http import HttpRequestParser, HttpVersion11, RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError, InvalidURLError

from bridge.protocol.errors import Fault, Rejection
from bridge.web.errors import refusal
from bridge.web.heads import UNKNOWN, Head, rest_of

log = logging.getLogger(__name__)

#: Seconds for the head of a request, that of the first one from its connection on (nginx and Node.js have the same).
#: Who takes longer is cut off within twice as many.
HEAD_PATIENCE = 60.0
#: Seconds for which a connection is kept between two requests: longer than proxies keep theirs (the longest known to
#: us does so for ten minutes), because a request that crosses with the end of its connection is lost.
KEEP_ALIVE = 630.0


class Waits(enum.Enum):
    """What a connection waits for."""

    HEAD = "head"  # the end of a head: no request has come yet, or some of the next one has
    LATE = "late"  # the same, and it did so at the last look
    BODY = "body"  # the rest of a body that is put aside until it is whole
    ANSWER = "answer"  # the bridge; or the rest of a body that the bridge did not want
    NOTHING = "nothing"  # idle: the only one that may last


# Each request looks three of them up, which costs a global 50 ns less than a class in Python 3.11.
_HEAD, _LATE, _BODY, _ANSWER, _NOTHING = Waits

#: Whether aiohttp's parser is told of each request that has been taken: not yet in 3.14.0.
_COUNTS = hasattr(HttpRequestParser, "message_consumed")


class Waiting(Protocol):
    """A request that is answered without a task: by :meth:`Connection.send` as often as it wants, and then either by
    :meth:`Connection.answer`, or in a task by :meth:`Connection.go_on`.
    """

    def begin(self) -> None:
        """The connection waits for it now."""
        ...

    def lost(self) -> None:
        """The connection has ended before it was answered."""
        ...

    async def rest(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer the rest of it in a task, after :meth:`Connection.go_on`."""
        ...


class Body(Protocol):
    """The body of a request, which has come as a whole, of ``total_bytes``."""

    total_bytes: int

    def read_nowait(self) -> bytes:
        """Return it, once."""
        ...


class Direct(Protocol):
    """Answers requests without a task. ``most`` is the size in bytes of a body that such a request may have."""

    most: int

    def begin(self, connection: Connection, message: RawRequestMessage, body: Body) -> Waiting | None:
        """Begin to answer; None where that cannot be, and then the body is put back if it was read."""
        ...


class Never:
    """No request is answered without a task."""

    most = 0

    def begin(self, *_: object) -> None:
        """Return None."""


Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
NEVER: Direct = Never()


class Server(web.Server):
    """Makes a :class:`Connection` of each that comes in. ``handler`` answers requests; ``options`` are aiohttp's."""

    def __init__(self, handler: Handler, direct: Direct = NEVER, **options: Any) -> None:
        super().__init__(self._serve, **options)
        self._handler = handler
        self.direct = direct

    def __call__(self) -> web.RequestHandler:
        """Return the protocol of a new connection."""
        options: dict[str, Any] = {"access_log": None, "keepalive_timeout": KEEP_ALIVE}
        return Connection(self, loop=asyncio.get_running_loop(), **options)

    def use(self, handler: Handler, direct: Direct = NEVER) -> None:
        """Have requests answered by others from now on."""
        self._handler, self.direct = handler, direct

    async def run(self) -> None:
        """Close connections on which no head has come in time, until cancelled."""
        while True:
            await asyncio.sleep(HEAD_PATIENCE)
            self.look()

    def look(self) -> None:
        """Close connections on which a head is late; one that has not come now is late at the next look."""
        for connection in self.connections:
            if not isinstance(connection, Connection):
                continue
            if connection.waits is _HEAD:
                connection.waits = _LATE
            elif connection.waits is _BODY:
                connection.go_on()  # a task waits for it with patience
            elif connection.waits is _LATE or connection.has_begun():
                connection.force_close()

    def _serve(self, request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        connection: Any = request.protocol  # a Connection, which nobody has to find out each time
        connection.waits = _ANSWER
        waiting, connection.waiting = connection.waiting, None
        return self._handler(request) if waiting is None else waiting.rest(request)


# Not super(), which makes an object for each call of a function that each request calls three times.
_data_received = web.RequestHandler.data_received
_finish_response = web.RequestHandler.finish_response


class _Whole:
    """A :class:`Body` that aiohttp does not have."""

    __slots__ = ("_body", "total_bytes")

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.total_bytes = len(body)

    def read_nowait(self) -> bytes:
        return self._body


class Connection(web.RequestHandler):
    """One connection. ``waiting`` is the request that is answered without a task.

    A request that was put aside is either given to aiohttp, and then the first of its messages, or it is kept: one with
    a known head, of which nothing is given before it is known to need a task.
    """

    __slots__ = ("_head", "_idle", "_kept", "_left", "_missing", "_peer", "_server", "waiting", "waits")

    def __init__(self, server: Server, **options: Any) -> None:
        super().__init__(server, **options)
        self.waits = _HEAD
        self.waiting: Waiting | None = None
        self._server = server
        self._idle: asyncio.Future[None] | None = None  # what aiohttp waits for while a request is put aside
        self._kept: list[bytes] = []
        self._missing = 0  # bytes of what is kept that are still to come
        self._head: Head | None = None  # that of the last request that was given to aiohttp, where it may come again
        self._left = 0  # bytes of that request that are still to come, or UNKNOWN
        self._peer: str | None = None

    def peer(self) -> str:
        """Return the address that it comes from, as requests have it."""
        if self._peer is None:
            found = None if self.transport is None else self.transport.get_extra_info("peername")
            self._peer = str((found[0] if isinstance(found, list | tuple) else found) or "")
        return self._peer

    def data_received(self, data: bytes) -> None:
        """Take what has come; on an idle connection a request begins."""
        idle = self._waiter
        if self._missing:
            self._take_more(data)
        elif idle is None or idle.done():
            self._give_kept()
            self._give(data)
        else:
            self._take(data, idle)

    def resume_reading(self, *args: Any, **options: Any) -> None:
        """Go on reading. aiohttp does so whenever a body has been read, and looks for more to parse each time."""
        if self._reading_paused:
            super().resume_reading(*args, **options)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client has gone."""
        waiting, self.waiting = self.waiting, None
        super().connection_lost(exc)
        if waiting is not None:
            waiting.lost()

    def close(self) -> None:
        """Take no more requests, nor the rest of one that is coming."""
        if self._missing:
            assert self._idle is not None
            self._idle.cancel()
        else:
            self._give_kept()  # before aiohttp takes nothing any more
        super().close()

    def put_back(self, body: bytes) -> None:
        """The body of the request that has come was read, and is to be read again."""
        if self._kept:
            return
        message, content = self._messages[0]
        content = StreamReader(self, len(body), loop=self._loop)
        content.feed_data(body)
        content.feed_eof()
        self._messages[0] = message, content

    def send(self, pieces: Iterable[bytes]) -> None:
        """Send some of the answer of the request that was put aside."""
        transport = self.transport
        if transport is not None and not transport.is_closing():
            for piece in pieces:
                transport.write(piece)

    def answer(self, pieces: Iterable[bytes]) -> None:
        """Send the rest of the answer of the request that was put aside, and let the next one come."""
        self.send(pieces)
        self.waiting = None
        if self._kept:
            self._kept.clear()
        else:
            self._messages.popleft()
            if _COUNTS and self._parser is not None:
                self._parser.message_consumed()
        self._wait_for_the_next()

    def go_on(self) -> None:
        """Let aiohttp make a task for the request that was put aside, to answer what is not answered of it yet."""
        idle, self._idle = self._idle, None
        assert idle is not None
        self._missing = 0
        self.waits = _ANSWER
        self._waiter = idle
        self._give_kept()
        _tell(idle)

    def _take(self, data: bytes, idle: asyncio.Future[None]) -> None:
        """Put the request aside that begins, so that aiohttp is not told of it before it is known to need a task."""
        if self.waits is _NOTHING:
            self.waits = _HEAD
        self._waiter = None
        is_aside = False
        try:
            is_aside = self._take_known(data, idle) or self._take_new(data, idle)
        finally:
            if not is_aside:
                self._waiter = idle
                if self._messages:
                    _tell(idle)

    def _take_known(self, data: bytes, idle: asyncio.Future[None]) -> bool:
        """Keep a request with a known head until it is whole, and have it answered; False where it is for aiohttp."""
        head = self._head
        found = None if head is None or self._left else head.begins(data)
        if head is None or found is None:
            return False
        start, length = found
        missing = start + length - len(data)
        if missing < 0 or length > self._server.direct.most:
            return False
        self._kept.append(data)
        if missing:
            self._idle, self._missing = idle, missing
            self.waits = _BODY
        elif not self._begin(head.message, _Whole(data[start:]), idle):
            self._kept.clear()
            return False
        return True

    def _take_more(self, data: bytes) -> None:
        """The rest of a request that is kept, or some of it."""
        if self._close or self._force_close:
            return
        self._kept.append(data)
        self._missing -= len(data)
        if self._missing > 0:
            return
        is_whole = not self._missing
        head, idle = self._head, self._idle
        assert head is not None
        assert idle is not None
        is_aside = False
        try:
            is_aside = is_whole and self._begin(head.message, _Whole(head.body(self._kept)), idle)
        finally:
            if not is_aside:
                self.go_on()

    def _take_new(self, data: bytes, idle: asyncio.Future[None]) -> bool:
        """Have aiohttp read the request, and have it answered; False where it needs a task."""
        self._give(data)
        if not self._messages:
            return False
        message, content = self._messages[0]
        if (
            not isinstance(message, RawRequestMessage)  # but an error
            or message.version != HttpVersion11
            or message.should_close
            or message.upgrade
            or message.compression is not None
            or not content.is_eof()
        ):
            return False
        return self._begin(message, content, idle)

    def _begin(self, message: RawRequestMessage, body: Body, idle: asyncio.Future[None]) -> bool:
        if self.writing_paused:  # its answer would have to wait
            return False
        waiting = self._server.direct.begin(self, message, body)
        if waiting is None:
            return False
        self.waiting = waiting
        self.waits = _ANSWER
        self._idle = idle
        waiting.begin()
        return True

    def _give(self, data: bytes) -> None:
        """Let aiohttp read, and follow where a request ends."""
        left = self._left
        _data_received(self, data)
        if left > 0:
            self._left = max(left - len(data), UNKNOWN)
        elif not left:
            message = self._messages[0][0] if len(self._messages) == 1 else None
            self._left = rest_of(data, message)
            if isinstance(message, RawRequestMessage) and self._left != UNKNOWN:
                self._head = Head.of(data, message)

    def _give_kept(self) -> None:
        kept, self._kept = self._kept, []
        for data in kept:
            self._give(data)

    def _wait_for_the_next(self) -> None:
        """What aiohttp does behind each request."""
        idle, self._idle = self._idle, None
        assert idle is not None
        if self._close or self._force_close:
            idle.cancel()
            self.force_close()
            return
        self._waiter = idle
        self._next_keepalive_close_time = close_time = self._loop.time() + KEEP_ALIVE
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(close_time, self._process_keepalive)
        if self._messages:
            _tell(idle)
        else:
            self.waits = _NOTHING

    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        """Send what the handler has returned, or what became of what it has raised."""
        # What comes of a body that nobody has read is no head of the next request.
        self.waits = _NOTHING if request.content.is_eof() else _ANSWER
        return _finish_response(self, request, resp, start_time)

    def has_begun(self) -> bool:
        """Whether half a head came along with the request before it, so that nothing told of it, and no more since.

        It is asked of an idle connection once in a while, and costs a request nothing. Empty lines before a request
        mean nothing (RFC 9112, 2.2); in the middle of a head they are an error, or its end.
        """
        idle = self._loop.time() - (self._next_keepalive_close_time - KEEP_ALIVE)
        if self._waiter is None or self._messages or self._parser is None or idle < HEAD_PATIENCE:
            return False
        try:
            messages, *_ = self._parser.feed_data(b"\r\n\r\n")
        except HttpProcessingError:
            return True
        return bool(messages)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Refuse what is no HTTP, in our words; the rest is aiohttp's."""
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        why = _in_short(exc)
        log.info("a request from %s is no HTTP and refused: %s", request.remote, why)
        response = refusal(Rejection(Fault.NOT_HTTP, f"this is no HTTP request: {why}"))
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log what went wrong: with a traceback where it is our fault, in a line where it is the client's."""
        error = kw.get("exc_info")
        if isinstance(error, web.RequestPayloadError):
            log.info("the body of a request could not be read: %s", _in_short(error))
        else:
            super().log_exception(*args, **kw)


def _tell(idle: asyncio.Future[None]) -> None:
    """Let aiohttp take the request that has come."""
    if not idle.done():
        idle.set_result(None)


def _in_short(error: HttpProcessingError | web.RequestPayloadError) -> str:
    """Why, without what was sent: that may be a token."""
    if isinstance(error, InvalidURLError):
        return "its target is no URL"
    lines = (error.message if isinstance(error, HttpProcessingError) else str(error)).splitlines()
    first = next((line.partition(":")[0].strip() for line in lines if line.strip()), "")
    return first or "it cannot be read"
