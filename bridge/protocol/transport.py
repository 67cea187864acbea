"""What a connection needs of the other side: a local program, or a remote server that looks like one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from bridge.protocol.framing import Oversized
from bridge.protocol.messages import Line

#: Bytes that may wait for a server which does not take them; past it, writing is refused.
BACKLOG = 64 * 1024 * 1024
#: Seconds for which the answer of a cancelled request may still come. A server should not answer it at all
#: (specification, cancellation), and whoever waited for that would wait for ever.
CANCEL_PATIENCE = 30.0
#: What stands in an obituary before what a program has written, which may be about whoever used it.
LAST_WORDS = "; last words: "
#: The code of the error that ends such a request then, as in the Language Server Protocol.
REQUEST_CANCELLED = -32800


class Stalled(Exception):
    """The other side does not take what is written to it, and the backlog is full."""


@dataclass(frozen=True, slots=True)
class Hearing:
    """Who hears the other side: each message as a line, each line for its log, and once that it has ended."""

    on_line: Callable[[bytes | Oversized], None]
    on_stderr: Callable[[bytes], None]
    on_end: Callable[[], None]


class Transport(Protocol):
    """Lines to an MCP server, lines back, and its end."""

    @property
    def pid(self) -> int | None:
        """Process id, None for what is no process here."""
        ...

    @property
    def obituary(self) -> str:
        """How it ended, in words."""
        ...

    @property
    def last_words(self) -> str:
        """The end of what it wrote to its log, in one line; empty when it wrote nothing."""
        ...

    @property
    def stderr_at(self) -> float:
        """Loop time at which it last wrote to its log, 0 for never."""
        ...

    async def start(self) -> None:
        """Start it, or open the way to it. Raises :class:`bridge.process.spawn.SpawnError`."""
        ...

    def write(self, line: Line) -> None:
        """Send one message. Raises :class:`Stalled` when it does not take any more."""
        ...

    async def stop(self, patience: float) -> None:
        """End it, with ``patience`` seconds for each step; afterwards nothing of it is left."""
        ...

    def kill(self) -> None:
        """End it now."""
        ...


#: Makes the transport of a connection.
Connect = Callable[[Hearing], Transport]
