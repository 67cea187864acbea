"""Reading what a client sends: content type, size, accept."""

from __future__ import annotations

import asyncio

from aiohttp import StreamReader, hdrs, web

from bridge.children import connection
from bridge.protocol.errors import Fault, Rejection

#: Bytes of a message from which on others are served between two pieces of work on it.
LARGE = connection.LARGE
#: Seconds for the body of a request to come, after its head (Node.js has the same).
PATIENCE = 300.0
#: What curl names a body that it is given with ``-d``, and a page on another origin may send without being asked.
FORM = "application/x-www-form-urlencoded"
TOO_LARGE = "the body is larger than MAX_REQUEST_BYTES allows"


async def read_json(request: web.BaseRequest) -> bytes:
    """Return the body. Raises :class:`Rejection` when it is not JSON by its type, or too large."""
    # The header as most clients send it first: reading it as a media type costs as much as reading the body.
    given = request.headers.get(hdrs.CONTENT_TYPE)
    if given != "application/json" and request.content_type != "application/json":
        curl = " (curl: --json instead of -d)" if request.content_type == FORM else ""
        why = f"Content-Type is {repr(given[:60]) if given else 'missing'}, must be application/json{curl}"
        raise Rejection(Fault.BAD_CONTENT_TYPE, why)
    content = request.content
    body = content.read_nowait() if content.is_eof() else await _read(content, request.client_max_size)
    if len(body) >= LARGE:
        await others_first()
    if len(body) > request.client_max_size:
        raise Rejection(Fault.BODY_TOO_LARGE, TOO_LARGE)
    return body


async def read_body(request: web.BaseRequest) -> bytes:
    """Return the body, whatever it is. Raises :class:`Rejection` when it is too large."""
    content = request.content
    body = content.read_nowait() if content.is_eof() else await _read(content, request.client_max_size)
    if len(body) > request.client_max_size:
        raise Rejection(Fault.BODY_TOO_LARGE, TOO_LARGE)
    return body


async def others_first() -> None:
    """Between two pieces of work on a body that is ``LARGE``: whole calls of others, then go on."""
    await asyncio.sleep(connection.PAUSE)


async def _read(content: StreamReader, most: int) -> bytes:
    try:
        async with asyncio.timeout(PATIENCE):
            return await _rest(content, most)
    except TimeoutError:
        raise Rejection(Fault.TOO_SLOW, f"the body did not come within {PATIENCE:g} s") from None
    except web.RequestPayloadError:
        raise Rejection(Fault.NOT_JSON, "the body is not what its Content-Encoding says") from None


async def _rest(content: StreamReader, most: int) -> bytes:
    """What comes until the end, joined once; of a body that is too large only so much that one can tell."""
    chunks: list[bytes] = []
    while most >= 0 and (chunk := await content.readany()):
        chunks.append(chunk)
        most -= len(chunk)
    return b"".join(chunks)


#: What clients send that take both, so that most requests need one look.
ENOUGH = frozenset({"*/*", "application/json, text/event-stream", "application/json,text/event-stream"})


def check_accept(request: web.BaseRequest, *types: str) -> None:
    """Raise :class:`Rejection` (406) unless the client takes every one of these media types.

    An absent header and ``*/*`` take everything, so that plain curl works.
    """
    if request.headers.get(hdrs.ACCEPT, "*/*") in ENOUGH:
        return
    accept = ",".join(request.headers.getall("Accept")).lower()
    ranges = {part.partition(";")[0].strip() for part in accept.split(",")}
    for kind in types:
        if not ranges & {kind, kind.partition("/")[0] + "/*", "*/*"}:
            raise Rejection(Fault.NOT_ACCEPTABLE, f"Accept must list {' and '.join(types)}")
