"""One end of a child's pipe, in the form that an event loop wants, closed exactly once; and how much it holds.

uvloop closes the descriptor of a pipe and then the file object that it was given, which closes the same number again.
In between another thread may have been given that number for a file of its own, and loses it. So uvloop gets an object
that has nothing left to close; asyncio's loop, which closes the object only, gets one that closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from typing import IO

if sys.platform == "linux":
    import fcntl

#: Bytes that a pipe holds; a line over that makes the two processes wait for each other again and again.
USUAL = 64 * 1024
#: Bytes that a pipe holds which gets such a line. So many pipes at most: together they stay below half of what Linux
#: lets a user have (``fs.pipe-user-pages-soft``).
WIDE, MOST_WIDE = 1024 * 1024, 32


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


class Room:
    """How much one pipe holds. ``taken`` is how many hold more than usual."""

    taken = 0

    def __init__(self) -> None:
        self._is_wide = False

    def widen(self, transport: asyncio.BaseTransport) -> None:
        """Let the pipe of a transport hold more, once, where there is some left."""
        if self._is_wide or sys.platform != "linux" or Room.taken >= MOST_WIDE:
            return
        self._is_wide = True
        Room.taken += 1
        with contextlib.suppress(OSError):  # a user that has too many pipes may widen no more of them
            fcntl.fcntl(transport.get_extra_info("pipe").fileno(), fcntl.F_SETPIPE_SZ, WIDE)

    def give_back(self) -> None:
        """The pipe is closed."""
        Room.taken -= self._is_wide
        self._is_wide = False
