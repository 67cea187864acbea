"""Bytes of an event stream to events, as the WHATWG defines them: the framing of HTTP, as lines are that of stdio.

An event over the limit is dropped as it arrives, reported once, and reading goes on behind it. What a reader needs to
go on with a stream that broke is kept here too: the id of the last event that arrived whole, and how long to wait.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bridge.protocol.framing import HEAD_BYTES, Oversized


@dataclass(frozen=True, slots=True)
class Event:
    """One event with data; ``kind`` is ``message`` where the stream names none."""

    kind: str
    data: bytes | Oversized


_LINE_END = re.compile(rb"\r\n|\n|\r")
#: What a header cannot bring back; the WHATWG names the first of them only.
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_BOM = b"\xef\xbb\xbf"


class EventParser:
    """Cuts one event stream into events. ``limit`` is the longest ``data`` in bytes.

    ``last_id`` is the id to come back with, empty while there is none; ``retry`` the seconds to wait first, None where
    the stream says nothing; ``count`` the events that arrived whole, with those that bring only an id.
    """

    __slots__ = (
        "_begun",
        "_data",
        "_data_size",
        "_id",
        "_kind",
        "_line",
        "_line_size",
        "_skips_newline",
        "count",
        "last_id",
        "limit",
        "retry",
    )

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.last_id = ""
        self.retry: float | None = None
        self.count = 0
        self._line: list[bytes] = []
        self._line_size = 0
        self._skips_newline = False
        self._begun = False
        self._id = self._kind = ""
        self._data: list[bytes] = []
        self._data_size = 0

    def reopen(self) -> None:
        """Forget half an event: the next bytes are the beginning of a stream that goes on where the last one broke."""
        self._line, self._line_size = [], 0
        self._skips_newline = self._begun = False
        self._id = self.last_id
        self._clear()

    def feed(self, data: bytes) -> list[Event]:
        """Take the next chunk; return the events that it completes."""
        events: list[Event] = []
        start = 1 if self._skips_newline and data[:1] == b"\n" else 0
        if data:
            self._skips_newline = False
        for end in _LINE_END.finditer(data, start):
            self._keep(data[start : end.start()])
            self._end_line(events)
            start = end.end()
            self._skips_newline = end[0] == b"\r" and start == len(data)  # its newline may be in the next chunk
        if start < len(data):
            self._keep(data[start:])
        return events

    def _keep(self, part: bytes) -> None:
        """One more part of a line. Of a line that is too long only the head is kept."""
        self._line_size += len(part)
        if self._line_size <= self.limit + len(b"data: "):
            self._line.append(part)
        else:
            self._line = [b"".join([*self._line, part])[: HEAD_BYTES + len(b"data: ")]]

    def _end_line(self, events: list[Event]) -> None:
        line, size = b"".join(self._line), self._line_size
        self._line, self._line_size = [], 0
        if not self._begun:
            self._begun = True
            if line.startswith(_BOM):
                line, size = line[len(_BOM) :], size - len(_BOM)
        if size == 0:
            self._end_event(events)
            return
        name, _, value = line.partition(b":")
        missing = size - len(line)
        value = value.removeprefix(b" ")
        if name == b"data":
            self._add_data(value, len(value) + missing)
        elif not missing:
            self._field(name, value)

    def _field(self, name: bytes, value: bytes) -> None:
        if name == b"event":
            self._kind = value.decode(errors="replace")
        elif name == b"id" and not _CONTROL.search(value) and len(value) <= HEAD_BYTES:
            self._id = value.decode(errors="replace")
        elif name == b"retry" and value.isdigit() and len(value) <= 12:
            self.retry = int(value) / 1000

    def _add_data(self, value: bytes, size: int) -> None:
        self._data_size += size + (1 if self._data else 0)
        if self._data_size <= self.limit:
            self._data.append(value)
        else:
            self._data = [b"\n".join([*self._data, value])[:HEAD_BYTES]]

    def _end_event(self, events: list[Event]) -> None:
        """A blank line. An event without data is none, but its id counts (that is how a stream is primed)."""
        if self._data or self._id != self.last_id:
            self.count += 1
        self.last_id = self._id
        if self._data_size > self.limit:
            events.append(Event(self._kind or "message", Oversized(b"".join(self._data), self._data_size)))
        elif data := b"\n".join(self._data):
            events.append(Event(self._kind or "message", data))
        self._clear()

    def _clear(self) -> None:
        self._kind = ""
        self._data, self._data_size = [], 0
