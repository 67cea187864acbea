"""One HTTP answer that becomes JSON or SSE at the last possible moment.

JSON if the response comes first; SSE as soon as something precedes it, or when silence has lasted so long that a proxy
would cut the connection (users' scar 23).
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from bridge.children.connection import Exchange
from bridge.children.stream import Stream, StreamEnded

#: Seconds of silence after which an answer becomes a stream, and between two comments on a stream.
KEEP_ALIVE = 15.0

JSON_TYPE = "application/json"
SSE_TYPE = "text/event-stream"

_SSE_HEADERS = {
    "Content-Type": SSE_TYPE,
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}
_PING = b": ping\n\n"


async def reply(request: web.Request, exchange: Exchange, headers: dict[str, str]) -> web.StreamResponse:
    """Answer a request with what comes on its exchange."""
    try:
        async with asyncio.timeout(KEEP_ALIVE):
            first = await exchange.receive()
    except TimeoutError:
        return await _stream(request, exchange, headers, _PING)
    if first is exchange.answer:
        return web.Response(body=first, content_type=JSON_TYPE, headers=headers)
    return await _stream(request, exchange, headers, event(first))


async def follow(request: web.Request, stream: Stream, headers: dict[str, str]) -> web.StreamResponse:
    """Answer a GET with what comes on a stream, until one side ends it."""
    return await _stream(request, stream, headers, _PING)


async def _stream(request: web.Request, stream: Stream, headers: dict[str, str], first: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={**_SSE_HEADERS, **headers})
    await response.prepare(request)
    await response.write(first)
    while True:
        try:
            async with asyncio.timeout(KEEP_ALIVE):
                message = await stream.receive()
        except TimeoutError:
            await response.write(_PING)
        except StreamEnded:
            break
        else:
            await response.write(event(message))
    await response.write_eof()
    return response


def event(message: bytes) -> bytes:
    """One SSE event. A message is one line: nothing in it can end the event early."""
    return b"event: message\ndata: %b\n\n" % message
