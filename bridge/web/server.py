"""HTTP connections: how long a client may take for a request, and what is said of one that is no HTTP.

aiohttp waits for the first request of a connection as long as it keeps an idle one, which must be longer than any proxy
in front does. A client that connects and sends half a head would hold a descriptor for that long; here it gets a
minute (slow-loris). The body has a limit of its own, in :mod:`bridge.web.body`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, InvalidURLError

from bridge.protocol.errors import Fault, Rejection
from bridge.web.errors import refusal

log = logging.getLogger(__name__)

#: Seconds from a connection to the end of the head of its first request (nginx and Node.js have the same).
HEAD_PATIENCE = 60.0
#: Seconds for which a connection is kept between two requests: longer than proxies keep theirs (the longest known to
#: us does so for ten minutes), because a request that crosses with the end of its connection is lost.
KEEP_ALIVE = 630.0


class Server(web.Server):
    """Makes a :class:`Connection` of each that comes in."""

    def __call__(self) -> web.RequestHandler:
        """Return the protocol of a new connection."""
        options: dict[str, Any] = {"access_log": None, "keepalive_timeout": KEEP_ALIVE}
        return Connection(self, loop=asyncio.get_running_loop(), **options)

    async def run(self) -> None:
        """Close connections on which no request has come in time, until cancelled."""
        silent: set[Connection] = set()
        while True:
            await asyncio.sleep(HEAD_PATIENCE)
            waiting = {each for each in self.connections if isinstance(each, Connection) and each.awaits_first}
            for connection in silent & waiting:
                connection.force_close()
            silent = waiting - silent


class Connection(web.RequestHandler):
    """One connection."""

    __slots__ = ()

    @property
    def awaits_first(self) -> bool:
        """Whether it has not brought a request yet."""
        return self._request_count == 0

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
