"""One end of a child's pipe, in the form that an event loop wants, closed exactly once.

uvloop closes the descriptor of a pipe and then the file object that it was given, which closes the same number again.
In between another thread may have been given that number for a file of its own, and loses it. So uvloop gets an object
that has nothing left to close; asyncio's loop, which closes the object only, gets one that closes.
"""

from __future__ import annotations

import asyncio
import os
from typing import IO


class Pipe:
    """Takes the descriptor out of a file, for the transport that ``loop`` will make of it."""

    def __init__(self, file: IO[bytes], loop: asyncio.AbstractEventLoop) -> None:
        self._fd = os.dup(file.fileno())
        file.close()
        self._loop_closes = type(loop).__module__.partition(".")[0] == "uvloop"
        self._attached = False
        self._closed = False

    def fileno(self) -> int:
        """The descriptor."""
        return self._fd

    def attached(self) -> None:
        """A transport is made of it from now on; the loop closes it even where that fails or is cancelled."""
        self._attached = True

    def close_unless_attached(self) -> None:
        """Close it if no transport will."""
        if not self._attached:
            self.close()

    def close(self) -> None:
        """Close the descriptor, unless the loop has done so or will."""
        if self._closed or (self._attached and self._loop_closes):
            return
        self._closed = True
        os.close(self._fd)
