"""A place for one worker after the other: what their parent knows of the one that is there, and says to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from asyncio.subprocess import Process
from collections.abc import Mapping
from typing import Any

from bridge.cluster.board import name_of


class Slot:
    """``index`` is the number of the worker, from 1."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.name = name_of(index)
        #: Keeps a worker here; its result is the exit code of the last one.
        self.keeper: asyncio.Task[int] | None = None
        #: Set when a worker here has been ready for the first time.
        self.has_been_ready = asyncio.Event()
        self._process: Process | None = None
        self._hears = False  # signals, of which it dies before it is ready
        self._owes_reload = False  # once it is: it may have read what was there before
        self._doing: asyncio.Future[None] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is no worker."""
        return self._process is None

    def begun(self, process: Process) -> None:
        """A worker has been started here."""
        self._process = process

    def ready(self) -> None:
        """It has said that it serves."""
        self.has_been_ready.set()
        self._hears = True
        if self._owes_reload:
            self._owes_reload = False
            self.send(signal.SIGHUP)

    def ended(self) -> None:
        """It says nothing more; where nobody has seen it exit it is still there to be killed."""
        self._hears = False
        self.done()
        if self._process is not None and self._process.returncode is not None:
            self._process = None

    def tell(self, words: Mapping[str, Any]) -> asyncio.Future[None]:
        """Say something; return what is done when the worker has done it, or has ended."""
        assert self._process is not None
        self._doing = asyncio.get_running_loop().create_future()
        write(self._process, words)
        return self._doing

    def done(self) -> None:
        """It has done what it was told."""
        doing, self._doing = self._doing, None
        if doing is not None and not doing.done():
            doing.set_result(None)

    def send(self, number: int) -> None:
        """Send a signal. For a worker that still starts a reload waits."""
        if not self._hears and number == signal.SIGHUP:
            self._owes_reload = True
        elif self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def drain(self) -> None:
        """Have it take no new session. One that still starts ends: it has none."""
        if not self._hears:
            self.send(signal.SIGTERM)
        elif self._process is not None:
            write(self._process, {"do": "drain"})  # a signal would kill it where it has just drained, and ends

    def kill(self) -> None:
        """End it at once."""
        self.send(signal.SIGKILL)


def write(process: Process, words: Mapping[str, Any]) -> None:
    """Say something to a worker, who has perhaps just ended."""
    assert process.stdin is not None
    with contextlib.suppress(OSError, RuntimeError):
        process.stdin.write(json.dumps(words).encode() + b"\n")
