"""One HTTP answer that becomes JSON or SSE at the last possible moment.

JSON if the response comes first; SSE as soon as something precedes it, or when silence has lasted so long that a proxy
would cut the connection (users' scar 23). Every event has an id with which a client that lost the connection goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import web
from multidict import istr

from bridge.children.silence import SilenceWatch
from bridge.children.stream import Stream, StreamEnded
from bridge.protocol import jsontext
from bridge.sessions.backlog import Track
from bridge.sessions.streamable import StreamableSession
from bridge.web.prebuilt import PrebuiltStream

log = logging.getLogger(__name__)

#: Seconds of silence after which an answer becomes a stream, and between two comments on a stream.
KEEP_ALIVE = 15.0
#: Milliseconds after which a client that lost a stream should come back.
RETRY_MS = 1000

SESSION_HEADER = istr("Mcp-Session-Id")
JSON_TYPE = "application/json"
SSE_TYPE = "text/event-stream"

PING = b": ping\n\n"


def keep_alive() -> SilenceWatch[Stream]:
    """Watches for silence on the streams of all answers. Must be made on the event loop."""
    return SilenceWatch(KEEP_ALIVE, Stream.wake, asyncio.get_running_loop())


def event_stream(request: web.BaseRequest, session_id: str = "") -> PrebuiltStream:
    """An event stream that has not begun."""
    response = PrebuiltStream(session_id)
    origin = request.headers.get("Origin")
    if origin is not None:
        response.share(origin)
    return response


def json_answer(value: Any, status: int = 200) -> web.Response:
    """An answer of the REST API."""
    return web.Response(body=jsontext.encode(value) + b"\n", content_type=JSON_TYPE, status=status)


async def as_events(
    request: web.BaseRequest,
    session: StreamableSession,
    track: Track,
    silence: SilenceWatch[Stream],
    *,
    missed: Sequence[tuple[str, bytes]] = (),
    begun_by: int = 0,
) -> web.StreamResponse:
    """Answer with an event stream until it ends, or until the client goes on with it over another connection.

    ``missed`` are events that are sent again first. ``begun_by`` is the reader who has begun to answer with it, if any.
    """
    stream = track.stream
    reader = begun_by or stream.take_over()
    response = event_stream(request, session.id)
    if begun_by:
        response.go_on(request)
    try:
        await response.prepare(request)
        head = PING if missed or begun_by else opening(session, track)
        head += b"".join(event(message, event_id) for event_id, message in missed)
        await pump(
            response,
            stream,
            lambda message: next_event(session, track, message),
            silence,
            f"session {session.label}",
            head=head,
            reader=reader,
        )
        with contextlib.suppress(ConnectionError):
            await response.write_eof()
    except ConnectionError:  # the client has gone: nothing is wrong with us
        if stream.is_read_by(reader):
            session.streams.lost(track)
    except asyncio.CancelledError:
        if stream.is_read_by(reader):
            session.streams.lost(track)
        raise
    return response


async def pump(
    response: web.StreamResponse,
    stream: Stream,
    as_event: Callable[[bytes], bytes],
    silence: SilenceWatch[Stream],
    whose: str,
    *,
    head: bytes = b"",
    reader: int = 0,
) -> None:
    """Write ``head`` and what comes on a stream until it ends, and a comment whenever it has been silent for long.

    What waits at the same time is written at the same time, and so is the end, because each write costs a client and us
    more than what is in it. ``whose`` tells in the log who read too slowly, and how much that cost.
    """
    dropped = stream.dropped
    try:
        await _pump(response, stream, as_event, silence, head, reader)
    finally:
        if stream.dropped > dropped:
            lost = stream.dropped - dropped
            log.warning("%s: its client reads too slowly; %d of its oldest notifications were dropped", whose, lost)


async def _pump(
    response: web.StreamResponse,
    stream: Stream,
    as_event: Callable[[bytes], bytes],
    silence: SilenceWatch[Stream],
    head: bytes,
    reader: int,
) -> None:
    if not stream.waiting:  # a client waits for the head of the answer too
        await response.write(head)
        head = b""
    while True:
        try:
            messages = await stream.receive_within(silence, reader)
        except StreamEnded:
            return
        data = head + b"".join(map(as_event, messages)) or PING
        head = b""
        if stream.is_over and stream.is_read_by(reader):
            await response.write_eof(data)
            return
        await response.write(data)


def plain_event(message: bytes) -> bytes:
    """One SSE event of a transport without event ids."""
    return b"".join((b"event: message\ndata: ", message, b"\n\n"))


def event(message: bytes, event_id: str) -> bytes:
    """One SSE event. A message is one line: nothing in it can end the event early."""
    return b"".join((b"event: message\nid: ", event_id.encode(), b"\ndata: ", message, b"\n\n"))


def opening(session: StreamableSession, track: Track) -> bytes:
    """What an event stream begins with, so that its client knows at once that it is there."""
    return _primer(track.last_id) if session.primes else PING


def next_event(session: StreamableSession, track: Track, message: bytes) -> bytes:
    """The next event of a stream, kept for a client that loses it."""
    return event(message, session.backlog.record(track, message))


def _primer(event_id: str) -> bytes:
    return b"retry: %d\nid: %b\ndata: \n\n" % (RETRY_MS, event_id.encode())
