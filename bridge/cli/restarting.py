"""Restarting the bridge without a gap: another process takes over, and this one ends with what it has.

Whoever has started the first process watches that. systemd is told that the new one counts (``MAINPID``). Elsewhere the
first process stays, as a program that only waits (``process/foreign/waiter``); the ones between just end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from bridge.cli.heir import Heir
from bridge.cluster.hosting import Inheritance
from bridge.cluster.side import Side
from bridge.config.settings import Settings
from bridge.process.foreign import waiter
from bridge.process.systemd import Notifier
from bridge.protocol.errors import Fault, Rejection
from bridge.version import __version__
from bridge.web.admin import PATIENCE

log = logging.getLogger(__name__)

#: Seconds between two looks at whether the new bridge lives.
LOOK = 0.1

T = TypeVar("T")


class Bridge(Protocol):
    """What is restarted: one process, or the parent of workers."""

    @property
    def sockets(self) -> Sequence[socket.socket]:
        """Those of the port."""
        ...

    async def is_busy(self) -> bool:
        """Whether the bridge before this one still lives."""
        ...

    @property
    def stopped(self) -> Sequence[str]:
        """The servers that an operator has stopped."""
        ...

    def side(self) -> Side:
        """Return what the other one needs to reach this one."""
        ...

    def discard(self, own: Side) -> None:
        """Nobody came who would have used it."""
        ...

    async def give_way(self, own: Side, other: Side, patience: float) -> None:
        """Leave what comes to the other one."""
        ...

    async def come_back(self) -> None:
        """Take it again: the other one has died."""
        ...

    def end(self, why: str) -> object:
        """End: the other one has ended in order."""
        ...


class Restarting:
    """Has one bridge at a time take over from this one. ``arguments`` and ``environ`` are those of this process."""

    def __init__(
        self,
        settings: Settings,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        notifier: Notifier,
        inherited: Inheritance | None,
        bridge: Bridge,
    ) -> None:
        self._settings = settings
        self._arguments = arguments
        self._environ = {name: value for name, value in environ.items() if name != "WATCHDOG_PID"}
        self._notifier = notifier
        self._inherited = inherited
        self._bridge = bridge
        self._told, self._waiter = -1, -1 if inherited is None else inherited.waiter
        self._starts = False
        self._following: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        #: Who takes over, once it does.
        self.heir: Heir | None = None

    async def restart(self, patience: float) -> dict[str, Any]:
        """Have a new process take over; return what to tell. Raises :class:`Rejection`."""
        await self._check()
        # It is not given up half-way, should whoever has asked for it go.
        return await asyncio.shield(self._begin(self._restart(patience)))

    async def _check(self) -> None:
        """Raise :class:`Rejection` where that cannot be done now; else it has begun."""
        if sys.platform == "win32":
            raise Rejection(Fault.CONFLICT, "a process cannot hand its port on on Windows: stop and start the bridge")
        if self._settings.cluster is not None:
            why = "with CLUSTER=redis nodes are restarted one after the other: stop and start this one"
            raise Rejection(Fault.CONFLICT, f"{why} (docs/how-to/nodes.md)")
        is_busy = await self._bridge.is_busy()  # meanwhile another may ask, and begin
        if is_busy or self._starts or self.heir is not None:
            why = "a restart is under way: the bridge before still ends its sessions"
            raise Rejection(Fault.CONFLICT, f"{why}; try again when it has ended")
        self._starts = True

    def ask(self) -> None:
        """Restart where nobody waits for an answer: what is wrong is logged."""
        self._begin(self._try())

    def _begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work, name="restart")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _try(self) -> None:
        try:
            await self._check()
        except Rejection as error:
            log.error("not restarted: %s", error)
        else:
            with contextlib.suppress(Rejection):  # the log has it
                await self._restart(PATIENCE)

    async def _restart(self, patience: float) -> dict[str, Any]:
        log.info("restarting: a new bridge starts")
        own: Side | None = None
        try:
            own = self._side()
            heir = self._start(own)
            await heir.ready()
        except BaseException as error:
            if own is not None:
                self._bridge.discard(own)
            if isinstance(error, Rejection):  # whoever asked for it may not be there any more
                log.error("not restarted: %s", error)
            raise
        finally:
            self._starts = False
        self.heir = heir
        await self._bridge.give_way(own, heir.side, patience)
        self._notifier.say(f"MAINPID={heir.pid}")
        self._notifier.is_silent = True
        self._tell(heir.pid)
        heir.go(self._bridge.stopped)
        self._following = asyncio.create_task(self._follow(heir), name="heir")
        log.info("restarted: process %d takes over from %d", heir.pid, os.getpid())
        return {
            "old": {"pid": os.getpid(), "version": __version__},
            "new": {"pid": heir.pid, "version": heir.version},
            "patience_s": patience,
        }

    def _side(self) -> Side:
        try:
            return self._bridge.side()
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise Rejection(Fault.INTERNAL, f"no folder could be made: {where}{error.strerror}") from None

    def _start(self, own: Side) -> Heir:
        if self._waiter < 0 and sys.platform == "linux" and not self._notifier.is_heard:
            self._told, self._waiter = os.pipe()
        stderr = os.dup(sys.stderr.fileno())
        try:
            listening = tuple(each.fileno() for each in self._bridge.sockets)
            address = self._settings.host, self._settings.port
            stopped = tuple(self._bridge.stopped)
            left = Inheritance(*address, listening, own, stderr, self._waiter, stopped)
            return Heir(self._arguments, self._environ, left)
        except OSError as error:
            raise Rejection(Fault.INTERNAL, f"no process could be started: {error.strerror}") from None
        finally:
            os.close(stderr)

    async def _follow(self, heir: Heir) -> None:
        while (code := heir.code) is None:  # noqa: ASYNC110
            await asyncio.sleep(LOOK)
        if code == 0:
            self._bridge.end("the new bridge has ended")
            return
        log.error("the new bridge has died (%d): this one goes on", code)
        self.heir = None
        self._notifier.is_silent = False
        self._notifier.say(f"MAINPID={os.getpid()}")
        self._tell(os.getpid())
        await self._bridge.come_back()

    def pass_on(self, number: int) -> bool:
        """Send a signal on to whoever has taken over; False where nobody has."""
        if self.heir is None:
            return False
        self.heir.pass_on(number)
        return True

    def close(self) -> None:
        """Look after nothing any more. What still comes for whoever has taken over is passed on without the event loop,
        which is about to end: a signal that nobody hears would end this process, and not reach that one.
        """
        for task in (*self._tasks, *(() if self._following is None else (self._following,))):
            task.cancel()
        if self.heir is not None:
            loop = asyncio.get_running_loop()
            for number in waiter.PASSED:
                loop.remove_signal_handler(number)
                signal.signal(number, lambda number, _: self.pass_on(number))

    def wait(self, code: int) -> int:
        """Return the exit code of this process, which has ended with ``code``: at once, unless somebody watches it and
        another has taken over.
        """
        if self.heir is None:
            return code
        if (ended := self.heir.code) is not None:
            return ended if ended >= 0 else 128 - ended
        is_first = self._inherited is None or self._inherited.waiter < 0
        if self._notifier.is_heard or not is_first:
            return code
        words = [str(self.heir.pid), str(self._told)]
        if self._told >= 0:
            os.set_inheritable(self._told, True)
        signal.pthread_sigmask(signal.SIG_BLOCK, waiter.PASSED)
        with contextlib.suppress(OSError):  # that Python is no more
            command = [sys.executable, "-I", "-S", str(Path(waiter.__file__)), *words]
            os.execv(sys.executable, command)  # noqa: S606
        return waiter.wait(*map(int, words))

    def _tell(self, pid: int) -> None:
        """Say to the process that waits which one counts now."""
        if self._waiter >= 0:
            with contextlib.suppress(OSError):
                os.write(self._waiter, b"%d\n" % pid)
