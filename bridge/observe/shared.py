"""A log file that several processes write: whole lines at its end, and one of them rotates it.

A line is one ``write`` to a file that was opened for appending, which the kernel puts behind all others in one piece.
Before each, the name is looked at: where it leads to another file by now, somebody has rotated, and that one is opened.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from bridge.observe.outage import Outage

#: A file is rotated at this size, and so many old ones are kept.
ROTATE_BYTES = 10 * 1024 * 1024
ROTATE_KEEP = 5


class SharedFile(logging.Handler):
    """Writes records to ``path``. Raises OSError when it cannot be opened."""

    def __init__(self, path: Path, most: int = ROTATE_BYTES, keep: int = ROTATE_KEEP) -> None:
        super().__init__()
        self._path = path
        self._most = most
        self._keep = keep
        self._descriptor = -1
        self._file: tuple[int, int] | None = None
        self._outage = Outage(path)
        self._reopen()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        try:
            line = f"{self.format(record)}\n".encode(errors="backslashreplace")
            if self._is_full(line):
                with _alone(self._path.parent):
                    if self._is_full(line):  # nobody else was faster
                        self._rotate()
            if self._found() != self._file:
                self._reopen()
            if os.write(self._descriptor, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._outage.written()
        except OSError as error:
            self._outage.lost(error)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        super().close()

    def _is_full(self, line: bytes) -> bool:
        try:
            return self._path.stat().st_size + len(line) > self._most
        except FileNotFoundError:
            return False

    def _rotate(self) -> None:
        for number in range(self._keep - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                self._older(number).replace(self._older(number + 1))
        self._path.replace(self._older(1))

    def _older(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _found(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _reopen(self) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = descriptor
        found = os.fstat(descriptor)
        self._file = found.st_dev, found.st_ino


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Be the only one of all processes that rotates in a directory."""
    import fcntl  # which Windows has not

    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
