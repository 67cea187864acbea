"""A child process whose lines and end a test can wait for."""

from __future__ import annotations

import asyncio

import psutil

from bridge.process.child import ChildProcess
from bridge.process.spawn import Command, Start, start_plainly
from bridge.protocol.framing import Oversized


class Watched:
    """A child and what it said."""

    def __init__(self, command: Command, limit: int = 1000, start: Start = start_plainly) -> None:
        self.lines: asyncio.Queue[bytes | Oversized] = asyncio.Queue()
        self.stderr: asyncio.Queue[bytes] = asyncio.Queue()
        self.ended = asyncio.Event()
        self.ups = 0
        self.child = ChildProcess(
            command,
            limit=limit,
            on_line=self.lines.put_nowait,
            on_stderr=self.stderr.put_nowait,
            on_end=self.ended.set,
            start=start,
            on_up=self._up,
        )

    def _up(self) -> None:
        self.ups += 1

    async def line(self) -> str:
        """The next line of its stdout."""
        line = await self.lines.get()
        assert isinstance(line, bytes)
        return line.decode()

    @property
    def errors(self) -> list[str]:
        """The lines of its stderr so far, taken."""
        return [self.stderr.get_nowait().decode() for _ in range(self.stderr.qsize())]


def lives(pid: int) -> bool:
    """Whether there is such a process, and not only what is left of it."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
