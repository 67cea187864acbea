"""The JSON answer of a call, written to the connection in one piece.

Building an aiohttp response - header map, writer, chunks - costs about as much as all the bridge's own work on a call.
The answer of a call always has the same few headers, so its head is a constant with a length and an id in it, and what
a page has to be told where one asks. Whatever is not the usual case (HTTP/1.0, a connection that will close) goes the
usual way.
"""

from __future__ import annotations

import email.utils
import functools
import time

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import SERVER_SOFTWARE, HttpVersion11
from multidict import CIMultiDict

from bridge.web.cors import share, sharing

#: Bodies up to this size in bytes are copied behind their head; a larger one is written by itself.
COPIED = 64 * 1024

_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%bDate: %b\r\nServer: "
    + SERVER_SOFTWARE.encode()
    + b"\r\n\r\n"
)
_SESSION = b"Mcp-Session-Id: %b\r\n"


@functools.lru_cache(maxsize=100)
def _sharing(origin: str) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in sharing(origin).items()).encode()


class _Clock:
    """The date of this second, formatted once."""

    def __init__(self) -> None:
        self._second = 0
        self._text = b""

    def date(self) -> bytes:
        """Return the value of a ``Date`` header."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._text = email.utils.formatdate(second, usegmt=True).encode()
        return self._text


_clock = _Clock()


class Prebuilt(web.Response):
    """200 with a JSON body, and the session id of the call where there is one."""

    def __init__(self, body: bytes, session_id: str = "") -> None:
        # Not Response.__init__, which is what this class avoids: only the usual case is prepared here.
        self._json = body
        self._session_id = session_id
        self._usual: web.Response | None = None
        self._request: web.BaseRequest | None = None
        self._more: CIMultiDict[str] | None = None
        self._sharing = b""

    @property
    def status(self) -> int:
        """Always 200."""
        return 200

    @property
    def prepared(self) -> bool:
        """Whether the head has been sent."""
        return self._request is not None

    @property
    def headers(self) -> CIMultiDict[str]:
        """Headers besides the usual ones; with any, it goes the usual way."""
        if self._more is None:
            self._more = CIMultiDict()
        return self._more

    @property
    def keep_alive(self) -> bool | None:
        """Whether the connection stays open."""
        return True if self._usual is None else self._usual.keep_alive

    def share(self, origin: str) -> None:
        """Let a page see it."""
        if origin.isascii() and origin.isprintable():
            self._sharing = _sharing(origin)
        else:
            share(self, origin)

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Decide which way it goes."""
        self._request = request
        if request.version == HttpVersion11 and request.keep_alive and not self._more:
            return None
        headers = CIMultiDict(self._more or ())
        if self._sharing:
            headers.update(sharing(request.headers["Origin"]))
        if self._session_id:
            headers["Mcp-Session-Id"] = self._session_id
        self._usual = web.Response(body=self._json, content_type="application/json", headers=headers)
        return await self._usual.prepare(request)

    async def write_eof(self, data: bytes = b"") -> None:
        """Send everything. Raises :class:`ConnectionError` when the client has gone."""
        if self._usual is not None:
            await self._usual.write_eof()
            return
        assert self._request is not None
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has gone")
        session = _SESSION % self._session_id.encode() if self._session_id else b""
        head = _HEAD % (len(self._json), session + self._sharing, _clock.date())
        if len(self._json) <= COPIED:
            transport.write(head + self._json)
        else:
            transport.write(head)
            transport.write(self._json)
        if self._request.protocol.writing_paused:  # it sends requests and does not read the answers
            await self._request.writer.drain()
