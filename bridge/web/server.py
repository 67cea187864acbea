"""HTTP connections: how long a client may take for a request, and what is said of one that is no HTTP.

aiohttp waits for a request as long as it keeps an idle connection, which must be longer than any proxy in front does.
A client that sends half a head, first or later, would hold a descriptor for that long; here it gets a minute
(slow-loris). The body has a limit of its own, in :mod:`bridge.web.body`.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, InvalidURLError

from bridge.protocol.errors import Fault, Rejection
from bridge.web.errors import refusal

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
    ANSWER = "answer"  # the bridge; or the rest of a body that the bridge did not want
    NOTHING = "nothing"  # idle: the only one that may last


# Each request looks three of them up, which costs a global 50 ns less than a class in Python 3.11.
_HEAD, _LATE, _ANSWER, _NOTHING = Waits

#: Where aiohttp has its parser: before 3.14, and since.
_PARSER = "_request_parser" if hasattr(web.RequestHandler, "_request_parser") else "_parser"


class Server(web.Server):
    """Makes a :class:`Connection` of each that comes in. ``handler`` answers requests; ``options`` are aiohttp's."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], **options: Any) -> None:
        super().__init__(self._serve, **options)
        self._handler = handler

    def __call__(self) -> web.RequestHandler:
        """Return the protocol of a new connection."""
        options: dict[str, Any] = {"access_log": None, "keepalive_timeout": KEEP_ALIVE}
        return Connection(self, loop=asyncio.get_running_loop(), **options)

    def use(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        """Have requests answered by another handler from now on."""
        self._handler = handler

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
            elif connection.waits is _LATE or connection.has_begun():
                connection.force_close()

    def _serve(self, request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        connection: Any = request.protocol  # a Connection, which nobody has to find out each time
        connection.waits = _ANSWER
        return self._handler(request)


# Not super(), which makes an object for each call of a function that each request calls three times.
_data_received = web.RequestHandler.data_received
_finish_response = web.RequestHandler.finish_response


class Connection(web.RequestHandler):
    """One connection."""

    __slots__ = ("waits",)

    def __init__(self, server: Server, **options: Any) -> None:
        super().__init__(server, **options)
        self.waits = _HEAD

    def data_received(self, data: bytes) -> None:
        """Take what has come; on an idle connection a head begins."""
        if self.waits is _NOTHING:
            self.waits = _HEAD
        _data_received(self, data)

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
        parser: Any = getattr(self, _PARSER)
        if self._waiter is None or self._messages or parser is None or idle < HEAD_PATIENCE:
            return False
        try:
            messages, *_ = parser.feed_data(b"\r\n\r\n")
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


def _in_short(error: HttpProcessingError | web.RequestPayloadError) -> str:
    """Why, without what was sent: that may be a token."""
    if isinstance(error, InvalidURLError):
        return "its target is no URL"
    lines = (error.message if isinstance(error, HttpProcessingError) else str(error)).splitlines()
    first = next((line.partition(":")[0].strip() for line in lines if line.strip()), "")
    return first or "it cannot be read"
