"""The parent of ``serve --workers N``: it binds the port, starts the workers and replaces those that die.

It answers nothing itself. All workers accept from the same sockets, which stay open here: a connection that comes while
a worker dies waits for another. Signals go on to the workers; what one of them ends with by itself decides what
follows: 0 is the end of a drain, anything else is a death.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bridge.cli.errors import EXIT_ERROR
from bridge.cli.hung import end_the_hung
from bridge.cli.inherited import take_over
from bridge.cli.restarting import Restarting
from bridge.cli.slot import Slot, write
from bridge.cli.worker import DONE, DRAIN, READY, RESTART, STOPPED, sockets_of
from bridge.cluster.board import Board, socket_of
from bridge.cluster.hosting import VARIABLE, Inheritance, Place, new_key
from bridge.cluster.ids import Birth
from bridge.cluster.side import Side, Sockets
from bridge.config.errors import ConfigError
from bridge.config.files import PRIVATE, replace_file
from bridge.config.settings import Settings
from bridge.process.systemd import Notifier
from bridge.protocol.errors import Rejection
from bridge.web.coming import answers
from bridge.web.listening import listen, private_directory

log = logging.getLogger(__name__)

#: Seconds before a worker that has died is replaced: none at first, then doubled up to the most.
FIRST_DELAY, MOST_DELAY = 0.5, 30.0
#: Seconds that a worker lives before its death is the first again.
SETTLED = 60.0
#: Seconds for a worker to do what it is told in a restart.
TOLD = 10.0
#: Seconds beyond SHUTDOWN_TIMEOUT_MS that a worker gets for its end.
GRACE = 20.0


class Parent:
    """``arguments`` are those of the command line, which each worker gets too, ``environ`` is what this process was
    given, ``inherited`` what another bridge has left to it. ``say`` tells the URL to whom it may concern.

    Raises :class:`ConfigError` when the address cannot be had.
    """

    def __init__(
        self,
        settings: Settings,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        inherited: Inheritance | None,
        say: Callable[[str], object],
    ) -> None:
        self._say = say
        self._settings = settings
        self._arguments = arguments
        self._inherited = inherited
        self._other = None if inherited is None else inherited.other
        self._waits = inherited is not None  # for a word before the workers listen
        self._gives_way = False
        self._notifier = Notifier(os.environ)
        #: Has another bridge take over from this one.
        self.restarting = Restarting(settings, arguments, environ, self._notifier, inherited, self)
        self._key = _key(settings, new_key() if inherited is None else inherited.other.key)
        #: Those of the port.
        self.sockets = listen(settings.host, settings.port) if inherited is None else sockets_of(inherited.listening)
        self._board = Board.make(settings.workers)
        self._directory = private_directory()
        self._slots = [Slot(index) for index in range(1, settings.workers + 1)]
        self._drains = False
        #: The servers that an operator has stopped.
        self.stopped: Sequence[str] = () if inherited is None else inherited.stopped
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self.url = settings.url(self.sockets[0].getsockname()[1])

    async def run(self) -> int:
        """Run until a signal, or until every worker has drained; return the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            loop.add_signal_handler(number, self._hear, number)
        self._keep_all()
        beside = [
            asyncio.create_task(self._announce()),
            asyncio.create_task(end_the_hung(self._board, {slot.index: slot for slot in self._slots})),
            asyncio.create_task(self._notifier.keep_watched()),
        ]
        try:
            while pending := [keeper for keeper in self._keepers if not keeper.done()]:
                await asyncio.wait(pending)
            codes = [keeper.result() for keeper in self._keepers]
        finally:
            self.restarting.close()
            tasks = (*self._keepers, *beside, *self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for slot in self._slots:
                slot.kill()
            self._close()
        log.info("stopped")
        return max(codes)

    def _keep_all(self) -> None:
        """Keep every worker running that is not kept already."""
        for slot in self._slots:
            if slot.keeper is None or slot.keeper.done():
                slot.keeper = asyncio.create_task(self._keep(slot))

    @property
    def _keepers(self) -> list[asyncio.Task[int]]:
        return [slot.keeper for slot in self._slots if slot.keeper is not None]

    async def is_busy(self) -> bool:
        """Whether the bridge before this one still lives."""
        if self._other is not None:
            living = [await answers(each.address.removeprefix("unix:")) for each in Sockets(self._other).all()]
            self._other = self._other if any(living) else None
        return self._other is not None

    def side(self) -> Side:
        """Return where the workers are reached by those of another bridge."""
        return Side(str(self._directory), self._key)

    def discard(self, own: Side) -> None:
        """The workers use it among themselves."""

    async def give_way(self, own: Side, other: Side, patience: float) -> None:
        """Have the workers leave what comes to another bridge."""
        self._gives_way = True
        await self._tell_all(do="give way", other=dataclasses.asdict(other), patience=patience)

    async def come_back(self) -> None:
        """Have them take it again: the other bridge has died."""
        self._gives_way = False
        await self._tell_all(do="come back")
        self._keep_all()

    def end(self, why: str) -> None:
        """End, because the bridge that has taken over has."""
        log.info("%s", why)
        self._stop(signal.SIGTERM)

    async def _tell_all(self, **words: Any) -> None:
        """Say something to every worker, and wait until it is done."""
        doing = [slot.tell(words) for slot in self._slots if not slot.is_empty]
        try:
            async with asyncio.timeout(TOLD):
                await asyncio.gather(*doing)
        except TimeoutError:
            log.warning("a worker does not do what it was told: %s", words["do"])

    async def _restart(self, process: asyncio.subprocess.Process, patience: float) -> None:
        """Do what a worker was asked for."""
        try:
            found = await self.restarting.restart(patience)
        except Rejection as error:
            found = {"refused": str(error), "fault": error.fault.name}
        write(process, {"do": "tell", "found": found})

    def _hear_worker(self, slot: Slot, process: asyncio.subprocess.Process, line: bytes) -> None:
        if line == READY:
            slot.ready()
        elif line == DONE:
            slot.done()
        elif line == DRAIN:
            self._drain()
        elif line.startswith(STOPPED):
            self.stopped = json.loads(line.removeprefix(STOPPED))
        elif line.startswith(RESTART):
            task = asyncio.create_task(self._restart(process, float(line.removeprefix(RESTART))))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _keep(self, slot: Slot) -> int:
        """Keep one worker running; return the code with which the last one has ended in order."""
        delay = 0.0
        while True:
            begun = time.monotonic()
            code = await self._run_one(slot)
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            if code in (0, -signal.SIGTERM, -signal.SIGINT) and (self._is_ending or code == 0):
                return 0
            if self._is_ending:
                if not self._stopping.is_set():
                    log.error("worker %s has ended %s: its sessions are lost", slot.name, how)
                return EXIT_ERROR
            if not slot.has_been_ready.is_set():  # it has never been ready: so it will not be
                log.error("worker %s could not start; its own lines say why", slot.name)
                self._stop(signal.SIGTERM)
                return code if code > 0 else EXIT_ERROR
            delay = 0.0 if time.monotonic() - begun >= SETTLED else min(max(delay * 2, FIRST_DELAY), MOST_DELAY)
            log.error("worker %s has ended %s: its sessions are lost; next one in %g s", slot.name, how, delay)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._stopping.wait()
            if self._is_ending:
                return 0

    @property
    def _is_ending(self) -> bool:
        """Whether workers that end have no successor here."""
        return self._stopping.is_set() or self._gives_way or self._drains

    async def _run_one(self, slot: Slot) -> int:
        """Run a worker to its end; return its exit code, which is that of ``subprocess``."""
        epoch = time.time_ns() // 1_000_000
        place = Place(
            slot.index,
            self._settings.workers,
            epoch,
            self._key,
            tuple(each.fileno() for each in self.sockets),
            self._board.descriptor,
            str(self._directory),
            tuple(self.stopped),
            self._other,
            self._waits,
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bridge", *self._arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._inherited.stderr if self._inherited is not None and self._waits else None,
            pass_fds=(*place.listening, place.board),
            env={**_without_systemd(os.environ), VARIABLE: "1"},
            start_new_session=True,  # a terminal's Ctrl-C is for the parent, which passes it on
        )
        slot.begun(process)
        if self._is_ending:  # and this one, which was only being started, has not been told
            slot.send(signal.SIGTERM)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(dataclasses.asdict(place)).encode() + b"\n")
            while line := await process.stdout.readline():
                self._hear_worker(slot, process, line)
            return await process.wait()
        finally:
            slot.ended()
            self._board.set_epoch(slot.index, 0)
            socket_of(self._directory, Birth(slot.name, epoch)).unlink(missing_ok=True)

    async def _announce(self) -> None:
        for slot in self._slots:
            await slot.has_been_ready.wait()
        if self._inherited is not None:
            self.stopped = await take_over(self._inherited, self.side())
            self._waits = False
            await self._tell_all(do="listen", stopped=self.stopped)
        self._notifier.say("READY=1", f"STATUS=listens on {self.url}, {self._settings.workers} workers")
        self._say(self.url)
        await self._stopping.wait()
        self._notifier.say("STOPPING=1")

    def _hear(self, number: int) -> None:
        """Take a signal that does not end this process; where another bridge has taken over, it is for that one."""
        if not self.restarting.pass_on(number):
            if number == signal.SIGUSR2:
                self.restarting.ask()
            elif number == signal.SIGUSR1:
                self._drain()
            else:
                self._pass_on(number)

    def _stop(self, number: int) -> None:
        self.restarting.pass_on(number)
        if not self._stopping.is_set():
            log.info("%s: shutting down; once more to kill", signal.Signals(number).name)
            patience = self._settings.shutdown_timeout + GRACE
            asyncio.get_running_loop().call_later(patience, self._pass_on, signal.SIGKILL)
        self._stopping.set()
        self._pass_on(number)

    def _drain(self) -> None:
        if not self._drains:
            self._drains = True
            for slot in self._slots:
                slot.drain()

    def _pass_on(self, number: int) -> None:
        for slot in self._slots:
            slot.send(number)

    def _close(self) -> None:
        for each in self.sockets:
            each.close()
        self._board.close()
        shutil.rmtree(self._directory, ignore_errors=True)


def _key(settings: Settings, made: str) -> str:
    """Return the key of the workers: CLUSTER_KEY, or one that lives as long as the sessions that it signs: ``made``,
    and beside a store of sessions a file of it.

    Raises :class:`ConfigError` when it cannot be kept beside a store of sessions.
    """
    if settings.cluster_key is not None:
        return settings.cluster_key
    if settings.store == "memory":
        return made
    path = settings.session_dir / "workers.key"
    try:
        if path.exists() and (found := path.read_text().strip()):
            return found
        replace_file(path, made.encode(), PRIVATE)
    except OSError as error:
        raise ConfigError(
            f"CLUSTER_KEY: is not set, and a key cannot be kept in {path} ({error.strerror}); set it, so that ids of "
            "persistent sessions stay good over a restart"
        ) from None
    return made


def _without_systemd(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without what systemd wants to hear from the parent only."""
    parents = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}
    return {name: value for name, value in environ.items() if name not in parents}
