"""The owner of one child: starts it, greets it where the policy says so, waits for its end, takes it down.

Nobody else does any of that. It runs as one task per child.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from bridge.children.ahead import Ahead
from bridge.children.child import Child
from bridge.children.connection import ChildConnection
from bridge.children.crowd import SET_LEVEL, Crowd
from bridge.children.exchange import Exchange
from bridge.children.guard import Guard, GuardedConnection
from bridge.children.launcher import Launcher
from bridge.children.policy import Greeting, Sharing
from bridge.children.restart import PROVEN, Attempt
from bridge.children.starts import Slot
from bridge.config.server import ServerConfig
from bridge.observe import audit
from bridge.observe.secrets import masked
from bridge.process.child import ChildProcess
from bridge.process.spawn import Command, Process, SpawnError
from bridge.protocol import handshake, messages, translate
from bridge.protocol.capabilities import has
from bridge.protocol.errors import BridgeError, ChildUnavailable, ConnectionClosed, NoServer, OtherEra, StartFailed
from bridge.protocol.handshake import Greeted, Refused
from bridge.protocol.messages import Request, Response
from bridge.protocol.states import ChildEvent, ChildState
from bridge.protocol.transport import Hearing, Transport
from bridge.remote.server import RemoteServer
from bridge.version import __version__

log = logging.getLogger(__name__)

#: Seconds on each rung of the stop ladder.
PATIENCE = 2.0


@dataclass(frozen=True, slots=True)
class ChildLimits:
    """What holds for every child: longest message in bytes, time to start in seconds."""

    message_bytes: int
    start_timeout: float


class Owner:
    """Owns one child, from its start to its end. ``on_stderr`` gets the lines that it writes to stderr.

    ``guard`` says which of its tools are for clients, None for all.
    """

    def __init__(
        self,
        config: ServerConfig,
        limits: ChildLimits,
        sharing: Sharing,
        launcher: Launcher,
        attempt: Attempt,
        on_stderr: Callable[[bytes], None],
        guard: Guard | None = None,
    ) -> None:
        self._config = config
        self._limits = limits
        self._launcher = launcher
        self._attempt = attempt
        self._slot: Slot | None = None
        self._is_judged = False
        self._told = ""  # the log's words on how it ended by itself
        self._closed = asyncio.Event()
        if guard is None:
            connection = ChildConnection(config.id, self._connect, on_stderr)
        else:
            connection = GuardedConnection(config.id, self._connect, on_stderr, guard)
        connection.on_closed[self._connection_closed] = None
        if sharing.greeting is Greeting.CLIENT:  # else `run` is told, because it greets
            connection.on_ungreeted = self._ungreeted
        ready = asyncio.get_running_loop().create_future()
        # Whoever waits may have gone when it fails; it is logged here in any case.
        ready.add_done_callback(lambda done: done.cancelled() or done.exception())
        crowd = None if sharing.holders == 1 else Crowd(connection, mixes=sharing.mixes)
        self.child = Child(config.id, sharing, connection, crowd, time.monotonic(), ready)

    async def run(self) -> None:
        """Start the child and see it to its end."""
        proven = asyncio.get_running_loop().call_later(PROVEN, self._prove)
        try:
            await self._live()
            self._fail_start(ChildUnavailable(self._config.id, "it was stopped while it started"))
        except OtherEra as verdict:  # no mistake: most servers are of the other era
            log.info("%s", verdict)
            self._fail_start(verdict)
        except BridgeError as error:
            if not self._told:  # else the log says why it has ended
                log.error("%s", error)
            self._judge(str(error))
            self._fail_start(error)
        except Exception as error:
            log.exception("child of server %s: unexpected error", self._config.id)
            self._fail_start(StartFailed(self._config.id, f"internal error: {type(error).__name__}"))
        finally:
            proven.cancel()
            self._judge()
            await self._take_down()

    def _prove(self) -> None:
        if self.child.state is ChildState.READY:  # else it takes its time to start, and may still fail
            self._judge()

    def _judge(self, failure: str = "") -> None:
        """Tell once how the start went, as soon as that is known: whoever comes next must find it."""
        if self._is_judged:
            return
        self._is_judged = True
        if failure:
            self._attempt.failed(failure, has_served=self.child.state is ChildState.READY)
        elif self.child.state is ChildState.READY:
            self._attempt.proven()
        else:
            self._attempt.undecided()

    async def _live(self) -> None:
        """Bring the child up and wait for its end, or until that is asked for, which is a deadline that comes then."""
        if self.child.is_stopping:
            return
        try:
            async with asyncio.timeout(None) as until:
                self.child.on_stop = lambda: until.reschedule(0)
                await self._bring_up()
                await self._closed.wait()
        except TimeoutError:
            if not until.expired():
                raise
        finally:
            self.child.on_stop = None

    def _connect(self, hearing: Hearing) -> Transport:
        config = self._config
        if config.url is not None:
            limit = self._limits.message_bytes
            return RemoteServer(config.id, config.url, config.headers, limit=limit, hearing=hearing)
        return ChildProcess(
            self._launcher.command,
            limit=self._limits.message_bytes,
            on_line=hearing.on_line,
            on_stderr=hearing.on_stderr,
            on_end=hearing.on_end,
            start=self._launch,
            on_up=self._leave_slot,
        )

    async def _launch(self, _command: Command) -> Process:
        process, self._slot = await self._launcher.launch(lambda: self.child.holders > 0, self.child.sharing.variables)
        return process

    def _leave_slot(self) -> None:
        """It no longer counts as starting."""
        if self._slot is not None:
            self._slot.leave()

    async def _bring_up(self) -> None:
        config, child = self._config, self.child
        try:
            await child.connection.start()
        except SpawnError as error:
            raise StartFailed(config.id, str(error)) from None
        child.move(ChildEvent.SPAWNED)
        if config.url is None:
            log.info("server %s: started child pid=%s", config.id, child.pid)
        else:
            log.info("server %s: opened a connection to it", config.id)
        if child.pid is not None:
            why = "a caller waits" if child.holders else "kept ready"
            audit.record("spawn", server=config.id, pid=child.pid, argv=masked(config.argv), why=why)
        if child.sharing.greeting is not Greeting.CLIENT:
            await self._greet()
        elif child.sharing.words:
            child.ahead = Ahead(child.connection, child.sharing.words, self._start_timeout, self._fail_ahead)
        if not child.ready.done():
            child.ready.set_result(None)

    async def _greet(self) -> None:
        child = self.child
        is_modern = child.sharing.greeting is Greeting.MODERN
        # Programs of the other era hang or exit; that a remote server is not there tells nothing of its era.
        is_verdict = is_modern and self._config.url is None
        if is_modern:
            request = translate.discover_request()
        else:
            request = handshake.greeting("mcp-stdio-bridge", __version__, child.sharing.capabilities)
        exchange = Exchange(request)
        exchange.greets = True
        child.connection.exchange(exchange, self._start_timeout)
        answer = messages.parse(await exchange.receive())
        if exchange.failure is not None:
            if is_verdict and not isinstance(exchange.failure, NoServer):
                raise OtherEra(self._config.id, str(exchange.failure))
            raise exchange.failure
        assert isinstance(answer, Response)
        match handshake.discovered(answer) if is_modern else handshake.greeted(answer):
            case Refused(why, other_era):
                raise (OtherEra if other_era else StartFailed)(self._config.id, why)
            case Greeted(result, line):
                child.greeting = result
                if line:
                    child.connection.send(line)
                self._ask_for_logs()
                child.move(ChildEvent.GREETED)

    @property
    def _start_timeout(self) -> float:
        return self._config.start_timeout or self._limits.start_timeout

    def _fail_ahead(self) -> None:
        """Its client's greeting came to nothing before that client came: by itself, unless its end was asked for."""
        if not self.child.is_stopping:
            self.child.is_no_good = True
            self.child.stop()

    def _ask_for_logs(self) -> None:
        """A handshake child for modern calls is asked for every log line: each request says what it wants of them."""
        child = self.child
        if child.sharing.logs and has(child.greeting, "logging"):
            level = Exchange(Request(b"0", SET_LEVEL, b'{"level":"debug"}'))
            child.connection.exchange(level)

    def _ungreeted(self, error: BridgeError) -> None:
        """The child has no answer to what its client greets it with."""
        log.error("%s", error)
        self._judge(str(error))

    def _connection_closed(self) -> None:
        """The connection has ended; nobody who holds it knows yet."""
        self._closed.set()
        child = self.child
        if child.ends_by_itself:
            self._told = child.connection.obituary()
            self._judge(self._told)
            tail = child.connection.transport.last_words
            more = "" if self._told.endswith(tail) else f"; the end of its stderr: {tail}"
            what = "its connection" if child.pid is None else f"child pid={child.pid}"
            log.error("server %s: %s ended by itself: %s%s", self._config.id, what, self._told, more)

    def _fail_start(self, error: BridgeError) -> None:
        if not self.child.ready.done():
            why = StartFailed(self._config.id, error.why) if isinstance(error, ConnectionClosed) else error
            self.child.ready.set_exception(why)

    async def _take_down(self) -> None:
        child = self.child
        self._leave_slot()
        try:
            if child.state is not ChildState.STARTING and not child.connection.closed:
                child.move(ChildEvent.STOP)
            await child.connection.transport.stop(PATIENCE)
            child.move(ChildEvent.DIED)
        finally:
            if child.leave_at is not None:
                child.leave_at.cancel()
            if child.pid is not None:
                how = child.connection.obituary()
                if how != self._told:
                    log.info("server %s: child pid=%d ended: %s", self._config.id, child.pid, how)
                audit.record("exit", server=self._config.id, pid=child.pid, why=how)
