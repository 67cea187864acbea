"""HTTP connections: how long a client may take for a request, and what is said of one that is no HTTP.

aiohttp waits for a request as long as it keeps an idle connection, which must be longer than any proxy in front does.
A client that sends half a head, first or later, would hold a descriptor for that long; here it gets a minute
(slow-loris). The body has a limit of its own, in :mod:`bridge.web.body`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import ContentEncodingError, HttpProcessingError, InvalidURLError

from bridge.protocol.errors import Fault, Rejection
from bridge.web.aside import KEEP_ALIVE, Aside, Directed, Waits
from bridge.web.errors import refusal
from bridge.web.waiting import NEVER, Direct

log = logging.getLogger(__name__)

#: Seconds for the head of a request, that of the first one from its connection on (nginx and Node.js have the same).
#: Who takes longer is cut off within twice as many.
HEAD_PATIENCE = 60.0

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Server(Directed):
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
            if connection.waits is Waits.HEAD:
                connection.waits = Waits.LATE
            elif connection.waits is Waits.BODY:
                connection.go_on()  # a task waits for it with patience
            elif connection.waits is Waits.LATE or connection.has_begun():
                connection.force_close()

    def _serve(self, request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        connection: Any = request.protocol  # a Connection, which nobody has to find out each time
        connection.waits = Waits.ANSWER
        waiting, connection.waiting = connection.waiting, None
        return self._handler(request) if waiting is None else waiting.rest(request)


class Connection(Aside):
    """One connection of a client."""

    __slots__ = ()

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
        if isinstance(exc, ContentEncodingError):
            coded = "the Content-Encoding of the body cannot be read here; send it as it is, or as gzip or deflate"
            response = refusal(Rejection(Fault.BAD_CONTENT_TYPE, coded))
        else:
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
