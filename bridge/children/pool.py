"""The children of one configured server, lent by lease.

Each child has one owner task, which starts it, greets it where the policy says so, waits for its end and takes it down
the stop ladder; nobody else does any of that. A hundred callers that arrive at a cold shared server wait for one start.
A child without holders is stopped.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from bridge.children.connection import ChildConnection, Exchange
from bridge.children.crowd import Crowd
from bridge.children.policy import Greeting, Sharing
from bridge.children.remote import RemoteServer
from bridge.children.transport import Hearing, Transport
from bridge.config.servers import ServerConfig
from bridge.process.child import ChildProcess
from bridge.process.spawn import Command, SpawnError
from bridge.protocol import handshake, messages, translate
from bridge.protocol.errors import BridgeError, ChildUnavailable, ConnectionClosed, OtherEra, StartFailed
from bridge.protocol.handshake import Greeted, Refused
from bridge.protocol.messages import Response
from bridge.protocol.states import CHILD_TRANSITIONS, ChildEvent, ChildState, advance
from bridge.version import __version__

log = logging.getLogger(__name__)

#: Seconds on each rung of the stop ladder.
PATIENCE = 2.0
#: Seconds for which a spare child of a pool waits for the next exchange.
LINGER = 30.0
#: Seconds that an exchange waits for a child of a pool to come back.
LEASE_PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class ChildLimits:
    """What holds for every child: longest message in bytes, time to start in seconds."""

    message_bytes: int
    start_timeout: float


class Capacity:
    """How many children may live at once, over all servers (``MAX_CHILDREN``)."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.used = 0

    def take(self, server: str) -> None:
        """Count one more. Raises :class:`ChildUnavailable` when there is no room."""
        if self.used >= self._most:
            raise ChildUnavailable(server, f"all {self._most} child processes are in use (MAX_CHILDREN)", retry_in=5)
        self.used += 1

    def give_back(self) -> None:
        """Count one less."""
        self.used -= 1


@dataclass(eq=False, slots=True)
class Child:
    """One child of the pool and who holds it."""

    server: str
    sharing: Sharing
    connection: ChildConnection
    crowd: Crowd | None  # where it may have many holders
    started: float
    ready: asyncio.Future[None]
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    state: ChildState = ChildState.STARTING
    holders: int = 0
    used: bool = False
    ends_by_itself: bool = True  # until someone asks for its end
    leave_at: asyncio.TimerHandle | None = None
    greeting: bytes = b""  # InitializeResult, where the bridge greeted
    owner: asyncio.Task[None] | None = None

    def move(self, event: ChildEvent) -> None:
        """Change state, as the table allows."""
        self.state = advance(CHILD_TRANSITIONS, self.state, event)

    def stop(self) -> None:
        """Ask for its end; its owner task does the rest."""
        self.ends_by_itself = self.connection.closed and not self.stopping.is_set()
        self.stopping.set()

    @property
    def lives(self) -> bool:
        """Whether it has not begun to end."""
        alive = self.state in (ChildState.STARTING, ChildState.GREETING, ChildState.READY)
        return alive and not self.connection.closed and not self.stopping.is_set()

    @property
    def is_free(self) -> bool:
        """Whether nobody holds it and somebody may."""
        return self.holders == 0 and self.takes_holders

    @property
    def takes_holders(self) -> bool:
        """Whether one more may hold it."""
        if not self.lives or (self.used and self.sharing.is_private):
            return False
        return self.sharing.holders is None or self.holders < self.sharing.holders

    @property
    def pid(self) -> int | None:
        """Process id; None before the program runs, and for what is no process here."""
        return self.connection.transport.pid


class Lease:
    """The right to use a child until :meth:`release`."""

    def __init__(self, pool: ChildPool, child: Child) -> None:
        self._pool = pool
        self.child = child
        self._held = True

    @property
    def connection(self) -> ChildConnection:
        """The child's connection."""
        return self.child.connection

    def release(self) -> None:
        """Give the child back; the last holder's release stops it."""
        if self._held:
            self._held = False
            self._pool.returned(self.child)

    async def gone(self) -> None:
        """Wait for the end of the child, if the release has made one."""
        if self.child.stopping.is_set():
            await self.child.ended.wait()


class ChildPool:
    """All children of one server. ``on_stderr`` gets the lines its children write to stderr."""

    def __init__(
        self,
        config: ServerConfig,
        limits: ChildLimits,
        capacity: Capacity,
        on_stderr: Callable[[bytes], None],
    ) -> None:
        self.config = config
        self._limits = limits
        self._capacity = capacity
        self._on_stderr = on_stderr
        self._closing = False
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.children: list[Child] = []

    def __repr__(self) -> str:
        held = sum(1 for child in self.children if child.holders)
        return f"<ChildPool {self.config.id} [{held} held, {len(self.children) - held} free]>"

    async def lease(self, sharing: Sharing) -> Lease:
        """Return a lease on a child that is ready to be spoken to, starting one if need be.

        Under a policy that lends children for single exchanges, waits for one to come back when all are out.
        Raises :class:`ChildUnavailable` when there is no room for one, :class:`StartFailed` when it does not start.
        """
        child = await self._free(sharing)
        child.holders += 1
        child.used = True
        try:
            await asyncio.shield(child.ready)
        except BaseException:
            self.returned(child)
            raise
        self.keep_warm(sharing)
        return Lease(self, child)

    def keep_warm(self, sharing: Sharing) -> None:
        """Start as many children as the policy wants ready before anyone asks, as far as there is room."""
        free = sum(1 for child in self.children if child.sharing == sharing and child.is_free)
        try:
            while free < sharing.warm and not self._closing:
                self._check_room(sharing)
                self._start(sharing)
                free += 1
        except ChildUnavailable as full:
            log.debug("%s", full)

    def returned(self, child: Child) -> None:
        """A holder has gone. A child that nobody holds is stopped, or kept for the next exchange if it is clean."""
        child.holders -= 1
        if child.holders == 0 and not self._keeps(child):
            child.stop()
        self._wake_one()

    async def close(self) -> None:
        """Stop every child and wait until none is left."""
        self._closing = True
        while self._waiting:
            self._wake_one()
        owners = [child.owner for child in self.children if child.owner is not None]
        for child in self.children:
            child.stop()
        if owners:
            await asyncio.wait(owners)

    def _keeps(self, child: Child) -> bool:
        """Whether a child that has come back is clean and wanted (pgbouncer: a dirty connection is never lent on)."""
        if child.sharing.hold == "session" or not child.connection.is_clean or self._closing:
            return False
        idle = sum(1 for other in self.children if other.sharing == child.sharing and other.is_free)
        if idle > child.sharing.warm:
            child.leave_at = asyncio.get_running_loop().call_later(LINGER, self._leave, child)
        return True

    def _leave(self, child: Child) -> None:
        if child.holders == 0:
            child.stop()

    async def _free(self, sharing: Sharing) -> Child:
        while True:
            try:
                return self._choose(sharing)
            except ChildUnavailable:
                if sharing.hold == "session" or self._closing:
                    raise
                await self._come_back()

    async def _come_back(self) -> None:
        """Wait until a child comes back. Raises :class:`ChildUnavailable` after a while."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(LEASE_PATIENCE):
                await waiter
        except TimeoutError:
            raise ChildUnavailable(self.config.id, "all of its children are busy", retry_in=5) from None
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            elif waiter.cancelled():
                self._wake_one()

    def _wake_one(self) -> None:
        if self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def _choose(self, sharing: Sharing) -> Child:
        if self._closing:
            raise ChildUnavailable(self.config.id, "the bridge is shutting down")
        for child in self.children:
            if child.sharing == sharing and child.takes_holders:
                if child.leave_at is not None:
                    child.leave_at.cancel()
                    child.leave_at = None
                return child
        self._check_room(sharing)
        return self._start(sharing)

    def _check_room(self, sharing: Sharing) -> None:
        alike = sum(1 for child in self.children if child.sharing == sharing and child.lives)
        if sharing.limit is not None and alike >= sharing.limit:
            raise ChildUnavailable(self.config.id, f"all {sharing.limit} of its children are in use", retry_in=1)
        most = self.config.max_children
        if most is not None and len(self.children) >= most:
            raise ChildUnavailable(self.config.id, f"all {most} of its children are in use (maxChildren)", retry_in=5)

    def _start(self, sharing: Sharing) -> Child:
        self._capacity.take(self.config.id)
        closed = asyncio.Event()
        connection = ChildConnection(self.config.id, self._connect, self._on_stderr)
        ready = asyncio.get_running_loop().create_future()
        # Whoever waits may have gone when it fails; the owner logs it in any case.
        ready.add_done_callback(lambda done: done.cancelled() or done.exception())
        crowd = None if sharing.holders == 1 else Crowd(connection)
        child = Child(self.config.id, sharing, connection, crowd, time.time(), ready)
        connection.on_closed.append(lambda: self._closed(child, closed))
        self.children.append(child)
        child.owner = asyncio.create_task(self._own(child, closed), name=f"child {self.config.id}")
        return child

    def _connect(self, hearing: Hearing) -> Transport:
        config = self.config
        if config.url is not None:
            limit = self._limits.message_bytes
            return RemoteServer(config.id, config.url, config.headers, limit=limit, hearing=hearing)
        return ChildProcess(
            Command(config.argv, config.env, config.cwd),
            limit=self._limits.message_bytes,
            on_line=hearing.on_line,
            on_stderr=hearing.on_stderr,
            on_end=hearing.on_end,
        )

    async def _own(self, child: Child, closed: asyncio.Event) -> None:
        """The one task that starts, watches and ends a child."""
        try:
            await self._bring_up(child, closed)
            await self._until_end(child, closed)
        except OtherEra as verdict:  # no mistake: most servers are of the other era
            log.info("%s", verdict)
            self._fail_start(child, verdict)
        except BridgeError as error:
            log.error("%s", error)
            self._fail_start(child, error)
        except Exception as error:
            log.exception("child of server %s: unexpected error", self.config.id)
            self._fail_start(child, StartFailed(self.config.id, f"internal error: {type(error).__name__}"))
        finally:
            await self._take_down(child)

    async def _bring_up(self, child: Child, closed: asyncio.Event) -> None:
        config = self.config
        try:
            await child.connection.start()
        except SpawnError as error:
            raise StartFailed(config.id, str(error)) from None
        child.move(ChildEvent.SPAWNED)
        log.info("server %s: started child pid=%s", config.id, child.pid)
        if child.sharing.greeting is not Greeting.CLIENT:
            await self._greet(child)
        if not child.ready.done():
            child.ready.set_result(None)

    async def _greet(self, child: Child) -> None:
        is_modern = child.sharing.greeting is Greeting.MODERN
        if is_modern:
            request = translate.discover_request()
        else:
            request = handshake.greeting("mcp-stdio-bridge", __version__, child.sharing.capabilities)
        seconds = self.config.start_timeout or self._limits.start_timeout
        exchange = Exchange(request)
        child.connection.exchange(exchange)
        try:
            async with asyncio.timeout(seconds):
                answer = messages.parse(await exchange.receive())
        except TimeoutError:
            why = f"it did not answer {request.method} within {seconds:g} s"
            raise (OtherEra if is_modern else StartFailed)(self.config.id, why) from None
        if exchange.failure is not None:
            raise OtherEra(self.config.id, str(exchange.failure)) if is_modern else exchange.failure
        assert isinstance(answer, Response)
        match handshake.discovered(answer) if is_modern else handshake.greeted(answer):
            case Refused(why, other_era):
                raise (OtherEra if other_era else StartFailed)(self.config.id, why)
            case Greeted(result, line):
                child.greeting = result
                if line:
                    child.connection.send(line)
                self._ask_for_logs(child)
                child.move(ChildEvent.GREETED)

    def _ask_for_logs(self, child: Child) -> None:
        """A handshake child for modern calls is asked for every log line: each request says what it wants of them."""
        if child.sharing.greeting is Greeting.HANDSHAKE and child.sharing.hold == "exchange":
            capabilities = messages.fields(bytes(messages.fields(child.greeting).get("capabilities", b"{}")))
            if "logging" in capabilities:
                level = Exchange(messages.Request(b"0", "logging/setLevel", b'{"level":"debug"}'))
                child.connection.exchange(level)

    async def _until_end(self, child: Child, closed: asyncio.Event) -> None:
        waits = [asyncio.create_task(closed.wait()), asyncio.create_task(child.stopping.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _closed(self, child: Child, closed: asyncio.Event) -> None:
        """The connection has ended; nobody who holds it knows yet."""
        closed.set()
        if child.ends_by_itself:
            tail = child.connection.transport.last_words
            log.error(
                "server %s: child pid=%s ended by itself: %s%s",
                self.config.id,
                child.pid,
                child.connection.obituary(),
                f"; the end of its stderr: {tail}" if tail else "",
            )

    def _fail_start(self, child: Child, error: BridgeError) -> None:
        if not child.ready.done():
            why = StartFailed(self.config.id, error.why) if isinstance(error, ConnectionClosed) else error
            child.ready.set_exception(why)

    async def _take_down(self, child: Child) -> None:
        try:
            if child.state is not ChildState.STARTING and not child.connection.closed:
                child.move(ChildEvent.STOP)
            await child.connection.transport.stop(PATIENCE)
            child.move(ChildEvent.DIED)
        finally:
            self.children.remove(child)
            self._capacity.give_back()
            if child.leave_at is not None:
                child.leave_at.cancel()
            self._wake_one()
            child.ended.set()
            if child.pid is not None:
                log.info("server %s: child pid=%d ended: %s", self.config.id, child.pid, child.connection.obituary())
