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
import socket
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bridge.cli.errors import EXIT_ERROR
from bridge.cli.hung import end_the_hung
from bridge.cli.worker import READY
from bridge.cluster.board import Board, name_of, socket_of
from bridge.cluster.hosting import VARIABLE, Place, new_key
from bridge.cluster.ids import Birth
from bridge.config.errors import ConfigError
from bridge.config.files import PRIVATE, replace_file
from bridge.config.settings import Settings
from bridge.process.systemd import Notifier
from bridge.version import __version__

log = logging.getLogger(__name__)

#: Seconds before a worker that has died is replaced: none at first, then doubled up to the most.
FIRST_DELAY, MOST_DELAY = 0.5, 30.0
#: Seconds that a worker lives before its death is the first again.
SETTLED = 60.0
#: Seconds beyond SHUTDOWN_TIMEOUT_MS that a worker gets for its end.
GRACE = 20.0
#: Characters that the path of a unix socket may have, less the name of one.
LONGEST_DIRECTORY = 70
BACKLOG = 1024


class Parent:
    """``arguments`` are those of the command line, which each worker gets too. Use it in a ``with`` block.

    Raises :class:`ConfigError` when the address cannot be had.
    """

    def __init__(self, settings: Settings, arguments: Sequence[str]) -> None:
        self._settings = settings
        self._arguments = arguments
        self._key = _key(settings)
        self._sockets = _listen(settings.host, settings.port)
        self._board = Board.make(settings.workers)
        self._directory = _directory()
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._ready = [asyncio.Event() for _ in range(settings.workers)]
        self._stopping = asyncio.Event()
        self._left = EXIT_ERROR
        self.url = settings.url(self._sockets[0].getsockname()[1])

    async def run(self) -> int:
        """Run until a signal, or until every worker has drained; return the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        for number in (signal.SIGHUP, signal.SIGUSR1):
            loop.add_signal_handler(number, self._pass_on, number)
        notifier = Notifier(os.environ)
        slots = [asyncio.create_task(self._keep(index)) for index in range(1, self._settings.workers + 1)]
        beside = [
            asyncio.create_task(self._announce(notifier)),
            asyncio.create_task(end_the_hung(self._board, self._processes)),
            asyncio.create_task(notifier.keep_watched()),
        ]
        try:
            codes = await asyncio.gather(*slots)
        finally:
            for task in (*slots, *beside):
                task.cancel()
            await asyncio.gather(*slots, *beside, return_exceptions=True)
            for process in self._processes.values():
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            self._close()
        log.info("stopped")
        return max(codes)

    async def _keep(self, index: int) -> int:
        """Keep one worker running; return the code with which the last one has ended in order."""
        delay = 0.0
        while True:
            begun = time.monotonic()
            code = await self._run_one(index)
            if self._stopping.is_set() or code == 0:
                return 0 if code in (0, -signal.SIGTERM, -signal.SIGINT) else EXIT_ERROR
            if not self._ready[index - 1].is_set():  # it has never been ready: so it will not be
                log.error("worker %s could not start; its own lines say why", name_of(index))
                self._stop(signal.SIGTERM)
                return code if code > 0 else EXIT_ERROR
            delay = 0.0 if time.monotonic() - begun >= SETTLED else min(max(delay * 2, FIRST_DELAY), MOST_DELAY)
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            log.error("worker %s has ended %s: its sessions are lost; next one in %g s", name_of(index), how, delay)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._stopping.wait()
                    return 0

    async def _run_one(self, index: int) -> int:
        """Run a worker to its end; return its exit code, which is that of ``subprocess``."""
        epoch = time.time_ns() // 1_000_000
        place = Place(
            index,
            self._settings.workers,
            epoch,
            self._key,
            tuple(each.fileno() for each in self._sockets),
            self._board.descriptor,
            str(self._directory),
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bridge", *self._arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=(*place.listening, place.board),
            env={**_without_systemd(os.environ), VARIABLE: "1"},
            start_new_session=True,  # a terminal's Ctrl-C is for the parent, which passes it on
        )
        self._processes[index] = process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(dataclasses.asdict(place)).encode() + b"\n")
            while line := await process.stdout.readline():
                if line == READY:
                    self._ready[index - 1].set()
            return await process.wait()
        finally:
            if process.returncode is not None:
                del self._processes[index]
            self._board.set_epoch(index, 0)
            socket_of(self._directory, Birth(name_of(index), epoch)).unlink(missing_ok=True)

    async def _announce(self, notifier: Notifier) -> None:
        for ready in self._ready:
            await ready.wait()
        notifier.say("READY=1", f"STATUS=listens on {self.url}, {self._settings.workers} workers")
        log.info("mcp-bridge %s with %d workers listens on %s", __version__, self._settings.workers, self.url)
        log.info("see what runs: %s/", self.url)
        await self._stopping.wait()
        notifier.say("STOPPING=1")

    def _stop(self, number: int) -> None:
        if not self._stopping.is_set():
            log.info("%s: shutting down; once more to kill", signal.Signals(number).name)
            patience = self._settings.shutdown_timeout + GRACE
            asyncio.get_running_loop().call_later(patience, self._pass_on, signal.SIGKILL)
        self._stopping.set()
        self._pass_on(number)

    def _pass_on(self, number: int) -> None:
        for process in list(self._processes.values()):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    def _close(self) -> None:
        for each in self._sockets:
            each.close()
        self._board.close()
        shutil.rmtree(self._directory, ignore_errors=True)


def _listen(host: str, port: int) -> list[socket.socket]:
    """Return sockets that listen on every address of a host. Raises :class:`ConfigError`."""
    found: list[socket.socket] = []
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(infos):
            wanted = (address[0], found[0].getsockname()[1] if found and port == 0 else port)
            found.append(socket.create_server(wanted, family=family, backlog=BACKLOG))
    except OSError as error:
        for each in found:
            each.close()
        raise ConfigError(
            f"PORT: cannot listen on {host}:{port}: {error.strerror or error}; choose another with --port"
        ) from None
    return found


def _directory() -> Path:
    """Return a new directory for sockets, which only this user can enter."""
    found = tempfile.mkdtemp(prefix="mcp-bridge-")
    if len(found) <= LONGEST_DIRECTORY:
        return Path(found)
    Path(found).rmdir()
    return Path(tempfile.mkdtemp(prefix="mcp-bridge-", dir="/tmp"))


def _key(settings: Settings) -> str:
    """Return the key of the workers: CLUSTER_KEY, or one that lives as long as the sessions that it signs.

    Raises :class:`ConfigError` when it cannot be kept beside a store of sessions.
    """
    if settings.cluster_key is not None:
        return settings.cluster_key
    if settings.store == "memory":
        return new_key()
    path = settings.session_dir / "workers.key"
    try:
        if path.exists() and (found := path.read_text().strip()):
            return found
        replace_file(path, (made := new_key()).encode(), PRIVATE)
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
