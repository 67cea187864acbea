"""Answers whose heads are constants, each written to the connection in as few pieces as can be.

Building an aiohttp response - header map, writer, chunks - costs about as much as all the bridge's own work on a call.
The answer of a call always has the same few headers, so its head is a constant with a length and an id in it, and what
a page has to be told where one asks; that of an event stream likewise. Whatever is not the usual case (HTTP/1.0, a
connection that will close) goes the usual way.
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

_TAIL = b"%bDate: %b\r\nServer: " + SERVER_SOFTWARE.encode() + b"\r\n\r\n"
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" + _TAIL
_BARE = {
    202: b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n" + _TAIL,
    204: b"HTTP/1.1 204 No Content\r\n" + _TAIL,
}
_SESSION = b"Mcp-Session-Id: %b\r\n"

SSE_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}


def _lines(headers: dict[str, str]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()


_STREAM_HEAD = b"HTTP/1.1 200 OK\r\n%bTransfer-Encoding: chunked\r\n" % _lines(SSE_HEADERS) + _TAIL
_END = b"0\r\n\r\n"


def fits_a_head(origin: str) -> bool:
    """Whether an origin is printable ASCII, as every browser writes it."""
    return origin.isascii() and origin.isprintable()


@functools.lru_cache(maxsize=100)
def sharing_lines(origin: str) -> bytes:
    """What lets a page of this origin see an answer, as lines of its head, where the origin fits one."""
    return _lines(sharing(origin))


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


def session_lines(session_id: str) -> bytes:
    """What tells the id of a session, as lines of a head."""
    return _SESSION % session_id.encode()


def json_answer(body: bytes, lines: bytes) -> tuple[bytes, ...]:
    """Return 200 with a JSON body, in the pieces that are to be written; ``lines`` are further lines of its head."""
    head = _HEAD % (len(body), lines, _clock.date())
    return (head + body,) if len(body) <= COPIED else (head, body)


def bare_answer(status: int, lines: bytes) -> tuple[bytes, ...]:
    """Return 202 or 204, which have no body, with further ``lines`` of its head."""
    return (_BARE[status] % (lines, _clock.date()),)


def stream_head(lines: bytes) -> bytes:
    """Return the head of an event stream, with further ``lines``."""
    return _STREAM_HEAD % (lines, _clock.date())


def stream_pieces(head: bytes, data: bytes, *, is_last: bool = False) -> tuple[bytes, ...]:
    """Return events behind the head of their stream, or what was sent before, in the pieces that are to be written."""
    end = _END if is_last else b""
    if not data:  # an empty chunk would be the end
        return (head + end,)
    if len(data) <= COPIED:
        return (b"%b%x\r\n%b\r\n%b" % (head, len(data), data, end),)
    return (b"%b%x\r\n" % (head, len(data)), data, b"\r\n" + end)


class _Short(web.StreamResponse):
    """An answer with a few headers, and the session id where there is one."""

    _code = 200
    _usual: web.StreamResponse | None = None
    _request: web.BaseRequest | None = None
    _more: CIMultiDict[str] | None = None
    _sharing = b""

    def __init__(self, session_id: str) -> None:
        # Not StreamResponse.__init__, which is what this class avoids: only the usual case is prepared here.
        self._session_id = session_id

    @property
    def status(self) -> int:
        """That of the answer."""
        return self._code

    @property
    def prepared(self) -> bool:
        """Whether it has begun."""
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
        if fits_a_head(origin):
            self._sharing = sharing_lines(origin)
        else:
            share(self, origin)

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Decide which way it goes."""
        if self._request is not None:
            return None
        self._request = request
        if request.version == HttpVersion11 and request.keep_alive and not self._more:
            return None
        headers = CIMultiDict(self._more or ())
        if self._sharing:
            headers.update(sharing(request.headers["Origin"]))
        if self._session_id:
            headers["Mcp-Session-Id"] = self._session_id
        self._usual = self._in_full(headers)
        return await self._usual.prepare(request)

    def _in_full(self, headers: CIMultiDict[str]) -> web.StreamResponse:
        """The same as aiohttp has it."""
        raise NotImplementedError

    def _own_lines(self) -> bytes:
        """The headers that are not the same for all."""
        return (session_lines(self._session_id) if self._session_id else b"") + self._sharing

    def _send(self, *parts: bytes) -> bool:
        """Write these; return whether the client sends requests and does not read the answers."""
        assert self._request is not None
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has gone")
        for part in parts:
            transport.write(part)
        return self._request.protocol.writing_paused

    async def _drain(self) -> None:
        assert self._request is not None
        await self._request.writer.drain()


class Prebuilt(_Short, web.Response):
    """200 with a JSON body, or 202 or 204 without any."""

    def __init__(self, body: bytes, session_id: str = "", status: int = 200) -> None:
        self._json = body
        self._session_id = session_id
        self._code = status

    def _in_full(self, headers: CIMultiDict[str]) -> web.StreamResponse:
        if self._code != 200:
            return web.Response(status=self._code, headers=headers)
        return web.Response(body=self._json, content_type="application/json", headers=headers)

    async def write_eof(self, data: bytes = b"") -> None:
        """Send everything. Raises :class:`ConnectionError` when the client has gone."""
        if self._usual is not None:
            await self._usual.write_eof()
            return
        lines = self._own_lines()
        pieces = json_answer(self._json, lines) if self._code == 200 else bare_answer(self._code, lines)
        if self._send(*pieces):
            await self._drain()


def taken() -> web.Response:
    """What wants no answer was taken (specification, sending messages)."""
    return Prebuilt(b"", status=202)


def gone() -> web.Response:
    """What was to be deleted is."""
    return Prebuilt(b"", status=204)


class PrebuiltStream(_Short):
    """200 with an event stream in chunks; its head goes out with the first of them."""

    _has_begun = _is_over = False

    def _in_full(self, headers: CIMultiDict[str]) -> web.StreamResponse:
        return web.StreamResponse(headers={**SSE_HEADERS, **headers})

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send something, at first behind the head. Raises :class:`ConnectionError` when the client has gone."""
        if self._usual is not None:
            await self._usual.write(data)
        else:
            await self._send_chunk(bytes(data))

    async def write_eof(self, data: bytes = b"") -> None:
        """Send something and end the stream. Raises :class:`ConnectionError` when the client has gone."""
        if self._usual is not None:
            await self._usual.write_eof(data)
        elif not self._is_over:
            self._is_over = True
            await self._send_chunk(data, is_last=True)

    def go_on(self, request: web.BaseRequest) -> None:
        """Somebody else has begun it."""
        self._request = request
        self._has_begun = True

    async def _send_chunk(self, data: bytes, *, is_last: bool = False) -> None:
        head = b"" if self._has_begun else stream_head(self._own_lines())
        self._has_begun = True
        if self._send(*stream_pieces(head, data, is_last=is_last)):
            await self._drain()
