"""A remote server as the transport of a connection: lines go out as POSTs, what comes back are lines again.

The handshake keeps its order: ``initialize`` is answered before the next line goes out, and
``notifications/initialized`` is accepted before any later one. After that requests go out side by side, and everything
else - notifications, answers to questions - one after the other in a lane of its own, so that neither a long call nor a
hundred of them can hold up a cancellation or an answer.

A server of the modern era gets ``server/discover`` in the place of ``initialize``, and has nothing but requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from bridge.protocol import jsontext, messages
from bridge.protocol.errors import INTERNAL_ERROR, Rejection
from bridge.protocol.framing import Oversized
from bridge.protocol.messages import Line, Message, Notification, Request, Response
from bridge.protocol.modern import DISCOVER, LISTEN
from bridge.protocol.mux import CANCELLED
from bridge.protocol.transport import BACKLOG, CANCEL_PATIENCE, REQUEST_CANCELLED, Hearing, Stalled
from bridge.remote.call import Call, Wire
from bridge.remote.events import EventsWire
from bridge.remote.http import Gone, HttpClient, HttpFailure
from bridge.remote.opening import Opening
from bridge.remote.streamable import StreamableWire

log = logging.getLogger(__name__)

#: Requests to one server at the same time; more wait for their turn.
IN_FLIGHT = 100
#: Seconds for an answer to the first request that is on its way when the connection is stopped: it brings the session
#: id, without which nothing can end the session that the server has made.
LAST_WELCOME = 1.0

INITIALIZED = "notifications/initialized"


class RemoteServer:
    """One session with an MCP server somewhere else. ``limit`` is the longest message in bytes."""

    def __init__(self, name: str, url: str, headers: Mapping[str, str], *, limit: int, hearing: Hearing) -> None:
        self._name = name
        self._url = url
        self._headers = headers
        self._limit = limit
        self._hearing = hearing
        self._http: HttpClient | None = None
        self._wire: Wire | None = None
        self._lines: asyncio.Queue[tuple[Message, bytes]] = asyncio.Queue()
        self._notes: asyncio.Queue[tuple[Message, bytes]] = asyncio.Queue()
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._calls: dict[bytes, Call] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._held = 0
        self._spoken = False
        self._opening: asyncio.Event | None = None  # set when the first request has ended
        self._ended = False
        self._closing: asyncio.Task[None] | None = None
        self._obituary = "the connection to it was closed"

    def __repr__(self) -> str:
        return f"<RemoteServer {self._name} [{len(self._calls)} calls, {self._held} bytes waiting]>"

    @property
    def pid(self) -> int | None:
        """It is no process here."""
        return None

    @property
    def obituary(self) -> str:
        """How its session ended."""
        return self._obituary

    @property
    def last_words(self) -> str:
        """We do not see its log."""
        return ""

    @property
    def stderr_at(self) -> float:
        """We do not see its log."""
        return 0.0

    async def start(self) -> None:
        """Get ready to send. Whether the server is there shows when ``initialize`` is."""
        self._http = HttpClient(self._url, self._headers, self._limit)
        self._wire = StreamableWire(self._http, self.hear)
        self._spawn("lines", self._send_lines)
        self._spawn("notes", self._send_notes)

    def write(self, line: Line) -> None:
        """Send one line. Raises :class:`Stalled` when the server has not taken any for too long."""
        if self._ended or self._http is None:
            return  # its end is already on the way to everyone who waits
        if self._held > BACKLOG:
            raise Stalled
        line = messages.joined(line)
        self._held += len(line)
        message = messages.parse(line)
        # An answer must not wait behind requests: they may be waiting for it.
        (self._notes if isinstance(message, Response) else self._lines).put_nowait((message, line))

    async def stop(self, patience: float) -> None:
        """End the session at the server, if it lets us, and close everything."""
        if self._http is None:
            return
        try:
            if self._opening is not None:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._opening.wait(), min(patience, LAST_WELCOME))
            if tasks := self._cancel_tasks():
                await asyncio.wait(tasks, timeout=patience)
            if self._wire is not None and self._closing is None and not self._ended:
                await self._leave(self._wire, patience)
        finally:
            await (self._http.close() if self._closing is None else self._closing)
            self._end(self._obituary)

    def kill(self) -> None:
        """Close everything, and tell the server nothing."""
        if self._http is not None and self._closing is None:
            self._cancel_tasks()
            self._closing = asyncio.create_task(self._http.close(), name=f"remote {self._name}: close")
            self._end(self._obituary)

    def hear(self, line: bytes | Oversized, call: Call | None = None) -> None:
        """Pass on what the server says; ``call`` is the request on whose response it came."""
        if self._ended:
            return
        if isinstance(line, Oversized):
            line = self._too_long(line, call)
        else:
            line = line.replace(b"\r", b" ").replace(b"\n", b" ")  # JSON has them between its tokens only
            line = self._note_answer(line, call)
        self._hearing.on_line(line)

    def _note_answer(self, line: bytes, call: Call | None) -> bytes:
        try:
            message = messages.parse(line)
        except Rejection:
            return line  # the connection says so in the log
        if not isinstance(message, Response):
            return line
        if call is not None and message.error and not messages.is_id(message.id):  # it could not read our id
            message = Response(call.id, error=message.error)
            line = messages.response_line(message)
        answered = self._calls.get(message.id)
        if answered is not None:
            answered.answer = message
            answered.answered.set()
        return line

    def _too_long(self, line: Oversized, call: Call | None) -> Oversized:
        """Name the request that a message too long to be read answers, where its first bytes do not."""
        number = messages.id_in_broken(line.head + line.tail)
        if number is None and call is not None and b'"method"' not in line.head:
            number = int(call.id)
        answered = None if number is None else self._calls.get(b"%d" % number)
        if answered is None:
            return line
        answered.answered.set()
        return Oversized(b'{"id":%b,"result":' % answered.id, line.size)

    async def _send_lines(self) -> None:
        while True:
            message, line = await self._lines.get()
            if isinstance(message, Request):
                call = self._calls[message.id] = Call(message, line, self._sent)
                if message.method == "initialize" or (message.method == DISCOVER and not self._spoken):
                    await self._open(call)
                else:
                    call.task = self._spawn(f"request {call.id.decode()}", self._run, call)
                    call.task.add_done_callback(functools.partial(self._forget, call))
            elif isinstance(message, Notification) and message.method == INITIALIZED:
                await self._tell(message, line)
                assert self._wire is not None
                self._spawn("GET stream", self._listen, self._wire)
            else:
                self._notes.put_nowait((message, line))

    async def _send_notes(self) -> None:
        while True:
            await self._tell(*await self._notes.get())

    async def _open(self, call: Call) -> None:
        """The first request, without whose answer nothing else can be sent."""
        assert self._http is not None
        self._spoken = True
        self._opening = asyncio.Event()
        opening = Opening(self._name, self._http, self.hear, self._use, self._start_reading)
        try:
            await (opening.initialize(call) if call.request.method == "initialize" else opening.discover(call))
            self._expect_answer(call)
        except HttpFailure as failure:
            self._end(f"it {failure}")
        except Gone as gone:
            self._end(str(gone))
        finally:
            self._opening.set()
            self._forget(call)

    def _use(self, wire: Wire) -> None:
        self._wire = wire

    def _start_reading(self, wire: EventsWire) -> None:
        self._spawn("event stream", self._read, wire)

    async def _read(self, wire: EventsWire) -> None:
        try:
            await wire.read()
        except HttpFailure as failure:
            self._end(f"it {failure}")

    async def _listen(self, wire: Wire) -> None:
        try:
            await wire.listen()
        except Gone as gone:
            self._end(str(gone))

    async def _run(self, call: Call) -> None:
        """See one request to its end: it is answered, or ends with an error that says why."""
        try:
            # A subscription is not over as long as anyone wants it, so it takes no turn from others.
            async with contextlib.nullcontext() if call.request.method == LISTEN else self._slots:
                call.waits = False
                assert self._wire is not None
                await self._wire.call(call)
            self._expect_answer(call)
        except Gone as gone:
            self._end(str(gone))
        except HttpFailure as failure:
            self._fail(call, f'server "{self._name}" {failure}', failure.code)
        except Exception as error:  # what nobody has thought of ends this one, and not those of its neighbours
            log.exception("server %s: unexpected error", self._name)
            self._fail(call, f'server "{self._name}": internal error: {type(error).__name__}', INTERNAL_ERROR)

    def _expect_answer(self, call: Call) -> None:
        if not call.answered.is_set():
            raise HttpFailure("answered a request with something that is no answer to it", status=200)

    async def _tell(self, message: Message, line: bytes) -> None:
        try:
            cancelled = None
            if isinstance(message, Notification) and message.method == CANCELLED:
                cancelled = self._calls.get(jsontext.member(message.params, "requestId"))
                if cancelled is None:
                    return  # it has been answered meanwhile
                if cancelled.waits or (self._wire is not None and self._wire.hangs_up):
                    self._give_up(cancelled)
                    return
                await cancelled.sent.wait()  # over another connection it could come first, and be ignored
            assert self._wire is not None
            await self._wire.tell(line)
            if cancelled is not None and not cancelled.answered.is_set() and cancelled.give_up_at is None:
                loop = asyncio.get_running_loop()
                cancelled.give_up_at = loop.call_later(CANCEL_PATIENCE, self._give_up, cancelled)
        except Gone as gone:
            self._end(str(gone))
        except HttpFailure as failure:
            log.warning("server %s: a message to it is lost: it %s", self._name, failure)
        finally:
            self._held -= len(line)

    def _give_up(self, call: Call) -> None:
        """End a cancelled request that nobody answers."""
        self._fail(call, "the request was cancelled", REQUEST_CANCELLED)
        if call.task is not None:
            call.task.cancel()

    def _fail(self, call: Call, why: str, code: int) -> None:
        if not call.answered.is_set() and not self._ended:
            call.answered.set()
            self._hearing.on_line(messages.error_line(call.id, code, why))

    def _forget(self, call: Call, _done: object = None) -> None:
        self._calls.pop(call.id, None)
        call.went_out()
        if call.give_up_at is not None:
            call.give_up_at.cancel()

    def _sent(self, call: Call) -> None:
        self._held -= len(call.line)

    def _spawn(self, what: str, work: Callable[..., Awaitable[None]], *args: Any) -> asyncio.Task[None]:
        task = asyncio.create_task(self._guard(work, *args), name=f"remote {self._name}: {what}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _guard(self, work: Callable[..., Awaitable[None]], *args: Any) -> None:
        try:
            await work(*args)
        except Exception as error:
            log.exception("server %s: unexpected error", self._name)
            self._end(f"internal error: {type(error).__name__}")

    def _cancel_tasks(self) -> list[asyncio.Task[None]]:
        for task in (tasks := list(self._tasks)):
            task.cancel()
        return tasks

    async def _leave(self, wire: Wire, patience: float) -> None:
        try:
            async with asyncio.timeout(patience):
                await wire.leave()
        except (HttpFailure, TimeoutError) as error:
            log.debug("server %s: DELETE of its session: %s", self._name, error)

    def _end(self, why: str) -> None:
        if not self._ended:
            self._obituary = why
            self._ended = True
            self._hearing.on_end()
