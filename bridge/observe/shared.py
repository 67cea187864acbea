"""A log file that one or several processes write: whole lines at its end, and whoever finds it full rotates it.

Lines are one ``write`` to a file that was opened for appending, which the kernel puts behind all others in one piece.
Before each, the name is looked at: where it leads to another file by now, somebody has rotated, and that one is opened.
Where somebody has removed the folder, it is made again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bridge.observe.outage import Outage

#: A file is rotated at this size, and so many old ones are kept.
ROTATE_BYTES = 10 * 1024 * 1024
ROTATE_KEEP = 5
#: Most bytes of lines in one piece: by so many for each process a file may become too large.
PIECE = 64 * 1024


class SharedFile:
    """Writes lines to ``path``, which is opened with the first of them, or by :meth:`open`."""

    def __init__(self, path: Path, most: int = ROTATE_BYTES, keep: int = ROTATE_KEEP) -> None:
        self._path = path
        self._most = most
        self._keep = keep
        self._descriptor = -1
        self._file: tuple[int, int] | None = None
        self._outage = Outage(path)

    @property
    def is_well(self) -> bool:
        """Whether there is nothing to tell that it would have to remember."""
        return not self._outage.goes_on

    def open(self) -> None:
        """Open the file, which is made where there is none. Raises OSError when that is impossible."""
        descriptor = self._open()
        self.close()
        self._descriptor = descriptor
        found = os.fstat(descriptor)
        self._file = found.st_dev, found.st_ino

    def write(self, lines: Sequence[str]) -> None:
        """Write lines, each with its end. What cannot be written is lost, and told of once."""
        left = [line.encode(errors="backslashreplace") for line in lines]
        try:
            while left:
                count = self._make_room(left)
                self._append(b"".join(left[:count]))
                del left[:count]
            self._outage.written()
        except OSError as error:
            self._outage.lost(error, len(left))

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _make_room(self, lines: Sequence[bytes]) -> int:
        """Rotate where not even the first line fits; return how many of them go into one piece."""
        if count := self._fit(lines):
            return count
        with _alone(self._path.parent):
            if self._fit(lines) == 0:  # nobody else was faster
                self._rotate()
        return self._fit(lines) or 1

    def _fit(self, lines: Sequence[bytes]) -> int:
        """How many lines fit into the file, up to a piece, or a longer one; one in any case where it is empty."""
        size = self._size()
        left = self._most - size
        room = min(left, PIECE)
        for count, line in enumerate(lines):
            room -= len(line)
            if room < 0:
                return count or int(len(line) <= left or not size)
        return len(lines)

    def _append(self, piece: bytes) -> None:
        if self._file is None or self._found() != self._file:
            self.open()
        if os.write(self._descriptor, piece) < len(piece):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def _rotate(self) -> None:
        for number in range(self._keep - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                self._older(number).replace(self._older(number + 1))
        self.close()  # else Windows does not let go of the name
        self._path.replace(self._older(1))

    def _older(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _found(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        try:
            return os.open(self._path, flags, 0o666)
        except FileNotFoundError:  # the folder has gone
            self._path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(self._path, flags, 0o666)


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Be the only one of all processes that rotates in a directory."""
    if sys.platform == "win32":  # a bridge has one process there
        yield
        return
    import fcntl

    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
