"""What a child says: the lines of its standard output, in turns that leave the event loop to others."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

from bridge.process.pipes import USUAL, Room
from bridge.protocol.framing import LineSplitter, Oversized

#: Lines that are taken in one turn of the event loop. A child that writes as fast as it can would have it for itself
#: otherwise: libuv goes on reading a pipe for as long as there is more in it.
TURN_LINES = 100
#: Bytes at a time after which the others have their turn, if they end a line: a part of one is only kept.
TURN_BYTES = 64 * 1024
#: Bytes of a line that took long enough to be put together.
LARGE = 4 * 1024 * 1024
#: Seconds that others have then: a call is several turns of the loop.
PAUSE = 0.02

LineHandler = Callable[[bytes | Oversized], None]


class Stdout(asyncio.Protocol):
    """The reading end of the pipe. ``limit`` is the longest line in bytes.

    ``on_up`` is called with the first line, ``on_line`` gets each one, ``on_ended`` is called behind the last.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limit: int,
        on_up: Callable[[], None],
        on_line: LineHandler,
        on_ended: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._splitter = LineSplitter(limit)
        self._on_up = on_up
        self._on_later_line = on_line
        self._on_line: LineHandler = self._first_line
        self._on_ended = on_ended
        self._waiting: deque[bytes | Oversized] = deque()  # for the next turns
        self._transport: asyncio.ReadTransport | None = None
        self._room = Room()
        self.is_open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Read from this."""
        self._transport = cast(asyncio.ReadTransport, transport)  # uvloop has classes of its own

    def data_received(self, data: bytes) -> None:
        """Take what has come; the rest of the lines in later turns, where there are many."""
        lines = self._splitter.feed(data)
        if not lines:
            if self._splitter.kept >= USUAL:
                assert self._transport is not None
                self._room.widen(self._transport)
            return
        if isinstance(lines[0], bytes) and len(lines[0]) >= LARGE:  # no other one can be longer than the data
            self._wait_a_turn(lines)
            return
        if len(lines) <= TURN_LINES and len(data) < TURN_BYTES:
            for line in lines:
                self._on_line(line)
            return
        self._waiting.extend(lines)
        assert self._transport is not None
        self._transport.pause_reading()
        self._take_turn()

    def connection_lost(self, exc: Exception | None) -> None:
        """End-of-file: nothing more will come."""
        self.is_open = False
        self._room.give_back()
        self._waiting.extend(self._splitter.finish())
        self.take_all()
        self._on_ended()

    def take_all(self) -> None:
        """Take the lines that wait, now."""
        while self._waiting:
            self._on_line(self._waiting.popleft())

    def _wait_a_turn(self, lines: list[bytes | Oversized]) -> None:
        """Take lines in the next turn: putting a large one together was enough for this one."""
        assert self._transport is not None
        self._waiting.extend(lines)
        self._transport.pause_reading()
        self._loop.call_later(PAUSE, self._take_turn)

    def _take_turn(self) -> None:
        """Take some of the lines that wait; when there are none, read on."""
        try:
            for _ in range(min(TURN_LINES, len(self._waiting))):
                self._on_line(self._waiting.popleft())
        finally:
            self._loop.call_soon(self._take_turn if self._waiting else self._read_on)

    def _read_on(self) -> None:
        assert self._transport is not None
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _first_line(self, line: bytes | Oversized) -> None:
        self._on_line = self._on_later_line
        self._on_up()
        self._on_line(line)
