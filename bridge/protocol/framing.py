"""Bytes to lines: the framing of stdio, one JSON-RPC message per line.

A large message arrives in many chunks. They are kept in a list and joined once, when the newline comes, so that a line
costs one copy and not one per chunk. One of many megabytes is written into a buffer that grows where it is, which the
system does by moving pages, and which becomes the line: parts and line need not both be in memory. A line over the
limit is dropped as it arrives, reported once, and reading goes on behind it: one bad message never costs the connection
(specification, stdio transport; users' scars 17 and 18).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Oversized:
    """A line that was longer than the limit. Its first and last bytes may tell which request it answers."""

    head: bytes
    size: int
    tail: bytes = b""


#: How much of either end of an oversized line is kept: enough to hold ``{"jsonrpc":"2.0","id":...``.
HEAD_BYTES = 1024
#: Bytes from which a line is collected in a buffer.
BUFFERED = 8 * 1024 * 1024


def message_of(line: bytes) -> bytes:
    """Return a line without a carriage return (Windows children), surrounding blanks, which JSON does not mind either,
    and the byte order mark with which .NET begins (RFC 8259, 8.1: a parser may ignore it).
    """
    if line and line[0] not in _TRIMMED and line[-1] not in _TRIMMED:
        return line
    return line.strip(_BLANKS).removeprefix(_MARK)


def text_of(line: bytes) -> bytes:
    """Return a line for people as it was written, without the blanks at its end."""
    return line.rstrip(_BLANKS)


_MARK = b"\xef\xbb\xbf"
_BLANKS = b" \t\r"
_TRIMMED = _BLANKS + _MARK[:1]


class LineSplitter:
    """Cuts a byte stream into lines without their line ends; blank lines are left out.

    ``limit`` is the longest line in bytes, ``trim`` takes from a line what is not meant.
    """

    __slots__ = ("_buffer", "_parts", "_size", "_trim", "limit")

    def __init__(self, limit: int, trim: Callable[[bytes], bytes] = message_of) -> None:
        self.limit = limit
        self._trim = trim
        self._parts: list[bytes] = []
        self._buffer: io.BytesIO | None = None
        self._size = 0

    @property
    def kept(self) -> int:
        """Bytes of a line whose end has not come."""
        return self._size

    def feed(self, data: bytes) -> list[bytes | Oversized]:
        """Take the next chunk; return the lines that it completes."""
        end = data.find(b"\n")
        if end < 0:
            self._keep(data)
            return []
        if end == len(data) - 1 and not self._size and end <= self.limit:  # one line in one piece, as most come
            line = self._trim(data[:end])
            return [line] if line else []
        first, *rest = data.split(b"\n")
        self._keep(first)
        lines = [self._take()]
        tail = rest.pop()
        lines.extend(self._measured(line) for line in rest)
        if tail:
            self._keep(tail)
        return [line for line in lines if line]

    def finish(self) -> list[bytes | Oversized]:
        """Return what stands behind the last newline once the stream has ended: a last line without its end."""
        line = self._take()
        return [line] if line else []

    def _keep(self, data: bytes) -> None:
        self._size += len(data)
        if self._buffer is not None:
            self._buffer.write(data)
        else:
            self._parts.append(data)
        if self._size > self.limit:
            self._parts = [_ends(self._joined())]
        elif self._size > BUFFERED and self._buffer is None:
            self._buffer = io.BytesIO()
            self._buffer.writelines(self._parts)
            self._parts = []

    def _take(self) -> bytes | Oversized:
        size, line = self._size, self._joined()
        self._size = 0
        return _oversized(line, size) if size > self.limit else self._trim(line)

    def _joined(self) -> bytes:
        """Return what has been kept, and forget it."""
        parts, self._parts = self._parts, []
        if self._buffer is not None:
            buffer, self._buffer = self._buffer, None
            return buffer.getvalue()  # itself, not a copy
        return b"".join(parts) if len(parts) != 1 else parts[0]

    def _measured(self, line: bytes) -> bytes | Oversized:
        if len(line) > self.limit:
            return _oversized(line, len(line))
        return self._trim(line)


def _ends(line: bytes) -> bytes:
    """The first and the last bytes of what has come of a line."""
    return line if len(line) <= 2 * HEAD_BYTES else line[:HEAD_BYTES] + line[-HEAD_BYTES:]


def _oversized(ends: bytes, size: int) -> Oversized:
    return Oversized(ends[:HEAD_BYTES], size, ends[HEAD_BYTES:][-HEAD_BYTES:])
