"""``GET /api/v1/events``: what runs, as a stream of snapshots for whoever looks, which is mostly the page at ``/``.

One producer makes the snapshots for all listeners, from the rows of the lists, one per principal; it runs only while
somebody listens. A listener that reads slowly skips snapshots: the newest one is all that waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable

from aiohttp import web

from bridge.auth.principal import Principal
from bridge.process.usage import Usage, UsageMeter
from bridge.protocol import jsontext
from bridge.protocol.errors import Fault, Rejection
from bridge.web.principal import principal_of
from bridge.web.reply import event_stream
from bridge.web.sessions import SessionsFace
from bridge.web.status import StatusFace

log = logging.getLogger(__name__)

#: Seconds between two snapshots.
INTERVAL = 1.0
#: Streams that may be open at the same time.
MOST_LISTENERS = 100
#: Sessions in one snapshot, those that were used last.
MOST_SESSIONS = 200
#: Seconds that a listener may leave a snapshot unread before its stream is cut.
PATIENCE = 60.0


class Listener:
    """One open stream: its request, and the newest snapshot that it has not read. None there ends it."""

    def __init__(self, request: web.Request) -> None:
        self.request = request
        self._newest: asyncio.Queue[bytes | None] = asyncio.Queue(1)

    def put(self, snapshot: bytes | None) -> None:
        """Let it have this next, in the place of what it has not read."""
        if self._newest.full():
            self._newest.get_nowait()
        self._newest.put_nowait(snapshot)

    async def get(self) -> bytes | None:
        """Return what to send next, None at the end."""
        return await self._newest.get()


class EventsFace:
    """The handler of ``/api/v1/events``. ``admit`` raises :class:`Rejection` for a request that may not come in, or no
    longer: a token that ends, ends its streams.
    """

    def __init__(
        self, status: StatusFace, sessions: SessionsFace, admit: Callable[[web.BaseRequest], Awaitable[None]]
    ) -> None:
        self._status = status
        self._sessions = sessions
        self._admit = admit
        self._meter = UsageMeter()
        self._usage: dict[int, Usage] = {}
        self._listeners: set[Listener] = set()
        self._producer: asyncio.Task[None] | None = None
        self._closed = False

    def routes(self) -> list[web.RouteDef]:
        """Return what it answers."""
        return [web.get("/api/v1/events", self.connect, allow_head=False)]

    async def connect(self, request: web.Request) -> web.StreamResponse:
        """Send a snapshot now and every second, until the client goes or the bridge ends."""
        if self._closed:
            raise Rejection(Fault.UNAVAILABLE, "the bridge is shutting down", retry_in=5)
        if len(self._listeners) >= MOST_LISTENERS:
            raise Rejection(Fault.UNAVAILABLE, f"all {MOST_LISTENERS} event streams are in use", retry_in=30)
        listener = Listener(request)
        response = event_stream(request)
        self._listeners.add(listener)
        try:
            listener.put(self._snapshot(principal_of(request)))
            if self._producer is None or self._producer.done():
                self._producer = asyncio.create_task(self._produce(), name="events")
            await response.prepare(request)
            await _send(listener, response)
        except ConnectionError:  # the client has gone: nothing is wrong with us
            pass
        finally:
            self._listeners.discard(listener)
        return response

    async def close(self) -> None:
        """End every stream."""
        self._closed = True
        self._end_all()
        if self._producer is not None:
            self._producer.cancel()
            await asyncio.gather(self._producer, return_exceptions=True)

    async def _produce(self) -> None:
        try:
            while self._listeners:
                measure = asyncio.get_running_loop().run_in_executor(None, self._meter.measure, self._status.pids())
                self._usage = await measure
                await self._tell_all()
                await asyncio.sleep(INTERVAL)
        except Exception:
            log.exception("event streams: unexpected error")
            self._end_all()

    async def _tell_all(self) -> None:
        audience: defaultdict[Principal, list[Listener]] = defaultdict(list)
        for listener in list(self._listeners):
            try:
                await self._admit(listener.request)
            except Rejection as refused:
                log.info("an event stream ends: %s", refused)
                listener.put(None)
            else:
                audience[principal_of(listener.request)].append(listener)
        for principal, listeners in audience.items():
            snapshot = self._snapshot(principal)
            for listener in listeners:
                listener.put(snapshot)

    def _end_all(self) -> None:
        for listener in self._listeners:
            listener.put(None)

    def _snapshot(self, principal: Principal) -> bytes:
        """Everything that a principal may see. ``at`` is in seconds since some time, for differences."""
        sessions, total = self._sessions.recent_for(principal, MOST_SESSIONS)
        data = jsontext.encode(
            {
                "at": round(time.monotonic(), 4),
                "admin": principal.is_admin,
                "bridge": self._status.health_for(principal),
                "servers": self._status.servers_for(principal),
                "children": self._status.children_for(principal, self._usage),
                "sessions": sessions,
                "total_sessions": total,
            }
        )
        return b"event: snapshot\ndata: %b\n\n" % data


async def _send(listener: Listener, response: web.StreamResponse) -> None:
    try:
        while (snapshot := await listener.get()) is not None:
            async with asyncio.timeout(PATIENCE):
                await response.write(snapshot)
    except TimeoutError:
        transport = listener.request.transport
        if transport is not None:  # its end could not be written either
            transport.abort()
        return
    await response.write_eof()
