"""What a child is told: lines to its standard input, few system calls for many."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bridge.process.pipes import USUAL, Room
from bridge.protocol.messages import Line
from bridge.protocol.transport import BACKLOG, Stalled


class Stdin(asyncio.BaseProtocol):
    """The writing end of the pipe. ``on_lost`` is called when nothing can be written any more."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_lost: Callable[[], None]) -> None:
        self._loop = loop
        self._on_lost = on_lost
        self._transport: asyncio.WriteTransport | None = None
        self._room = Room()
        self._turn_has_written = False
        self._lines_of_turn: list[bytes] = []

    def attach(self, transport: asyncio.WriteTransport) -> None:
        """Write to this from now on; until then, what is written is lost."""
        self._transport = transport

    def write(self, line: Line) -> None:
        """Send one line. Raises :class:`Stalled` when the child has not read for too long.

        The first line of a turn of the event loop goes out at once; those that follow in the same turn go together,
        because a system call costs more than all else that is done here for a line. A large one goes by itself, and is
        not copied to join its end to it.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            return  # its end is already on the way to everyone who waits
        if transport.get_write_buffer_size() > BACKLOG:
            raise Stalled
        if isinstance(line, tuple) or len(line) > USUAL:
            self._write_turn()
            self._room.widen(transport)
            transport.writelines((*line, b"\n") if isinstance(line, tuple) else (line, b"\n"))
            return
        if self._turn_has_written:
            self._lines_of_turn.append(line)
            return
        self._turn_has_written = True
        self._loop.call_soon(self._end_turn)
        transport.write(line + b"\n")

    def _end_turn(self) -> None:
        if not self._lines_of_turn:
            self._turn_has_written = False
            return
        self._write_turn()
        self._loop.call_soon(self._end_turn)

    def _write_turn(self) -> None:
        lines, self._lines_of_turn = self._lines_of_turn, []
        if lines and self._transport is not None:
            lines.append(b"")
            self._transport.write(b"\n".join(lines))

    def close(self) -> None:
        """End-of-file, behind all that has been written."""
        self._write_turn()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close it now; what it has not taken is lost."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The child has closed it, or we have."""
        self._transport = None
        self._room.give_back()
        self._on_lost()
