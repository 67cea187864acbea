"""The end of a log that is rotated by size: its last lines, and what comes after them.

Plain blocking reads, for a thread of an event loop and for a command that has nothing else to do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from bridge.observe.shared import ROTATE_KEEP

#: Bytes that are read at a time, and at most for one answer: a log is looked at, not downloaded.
BLOCK = 64 * 1024
MOST_BYTES = 4 * 1024 * 1024
#: Lines that anybody may ask for at once.
MOST_LINES = 10_000
#: Longest line that is waited for while it is written; a longer one comes in parts.
LONGEST = 64 * 1024
#: Seconds between two looks for new lines. No event says on every system that a file has grown.
LOOK = 0.25

#: Logs have none of these; a file in their place may.
_UNPRINTABLE = {code: f"\\x{code:02x}" for code in (*range(9), *range(10, 32), *range(127, 160))}


class Tail:
    """Follows one log. Use it in a ``with`` block; both methods raise OSError for a file that cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._rest = b""
        self._is_at_end = False

    def __enter__(self) -> Tail:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def last(self, count: int) -> list[str]:
        """Return the last lines, at most ``count``, from rotated files too; :meth:`more` goes on behind them."""
        self._open()
        found = _lines_before(self._path, self._file.tell(), count) if self._file else []
        for number in range(1, ROTATE_KEEP + 1):
            if len(found) >= count or sum(map(len, found)) >= MOST_BYTES:
                break
            older = self._path.with_name(f"{self._path.name}.{number}")
            try:
                found = _lines_before(older, older.stat().st_size, count - len(found)) + found
            except FileNotFoundError:
                break
        return [_shown(line) for line in found]

    def more(self) -> list[str]:
        """Return the lines that were written since; none when there are none."""
        found: list[bytes] = []
        if self._file is None:
            self._open(at_end=False)
        if self._file is not None:
            found += self._read()
            if self._is_at_end and self._was_rotated():
                found += self._read()  # what was written between the last read and the rotation
                if self._rest:
                    found.append(self._rest)
                    self._rest = b""
                self._file.close()
                self._file = None
                self._open(at_end=False)
                if self._file is not None:
                    found += self._read()
        return [_shown(line) for line in found]

    def _open(self, *, at_end: bool = True) -> None:
        try:
            self._file = self._path.open("rb")
        except FileNotFoundError:  # nothing was written yet
            return
        if at_end:
            self._file.seek(_end_of_last_line(self._file))

    def _read(self) -> list[bytes]:
        assert self._file is not None
        data = self._file.read(MOST_BYTES)
        self._is_at_end = len(data) < MOST_BYTES
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST:
            lines.append(self._rest)
            self._rest = b""
        return lines

    def _was_rotated(self) -> bool:
        assert self._file is not None
        mine = os.fstat(self._file.fileno())
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return False  # between the two steps of a rotation, or removed for good
        if (now.st_dev, now.st_ino) != (mine.st_dev, mine.st_ino):
            return True
        if now.st_size < self._file.tell():  # emptied in place, as logrotate's copytruncate does
            self._file.seek(0)
            self._rest = b""
        return False


def _end_of_last_line(file: BinaryIO) -> int:
    end = file.seek(0, os.SEEK_END)
    start = max(0, end - LONGEST)
    file.seek(start)
    at = file.read(end - start).rfind(b"\n")
    return end if at < 0 and start else start + at + 1


def _lines_before(path: Path, end: int, count: int) -> list[bytes]:
    """The last ``count`` lines that end before ``end``."""
    blocks: list[bytes] = []
    newlines, start = 0, end
    with path.open("rb") as file:
        for start, size in _blocks(end):
            file.seek(start)
            blocks.append(file.read(size))
            newlines += blocks[-1].count(b"\n")
            if newlines > count:
                break
    lines = b"".join(reversed(blocks)).removesuffix(b"\n").split(b"\n")
    if start:
        lines = lines[1:]  # its beginning was not read
    return [] if lines == [b""] or not count else lines[-count:]


def _blocks(end: int) -> Iterator[tuple[int, int]]:
    least = max(0, end - MOST_BYTES)
    while end > least:
        start = max(least, end - BLOCK)
        yield start, end - start
        end = start


def _shown(line: bytes) -> str:
    return line.decode(errors="backslashreplace").translate(_UNPRINTABLE)
