"""Sessions that are kept as long as the bridge runs: they outlive their child, not the bridge."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence

from bridge.stores.record import KEEP_BYTES, KEEP_EVENTS, Append, Change, Event, Save, SessionRecord, from_json, newest

#: Seconds between two looks for what has expired and nobody asked for.
PURGE_EVERY = 60.0


class MemoryStore:
    """A dict. It holds bytes, because a record goes on changing after it was saved."""

    name = "memory"

    def __init__(
        self, *, clock: Callable[[], float] = time.time, keep: int = KEEP_EVENTS, keep_bytes: int = KEEP_BYTES
    ) -> None:
        self._clock = clock
        self._keep = keep
        self._keep_bytes = keep_bytes
        self._records: dict[str, tuple[bytes, float | None]] = {}
        self._events: dict[str, Sequence[Event]] = {}
        self._purge_at = 0.0

    def __repr__(self) -> str:
        return f"<MemoryStore of {len(self._records)} sessions>"

    async def open(self) -> None:
        """Forget what has expired."""
        self._purge_at = self._clock()
        self._purge()

    async def close(self) -> None:
        """Nothing to do."""

    async def ping(self) -> None:
        """Nothing to do."""

    async def look(self) -> None:
        """Nothing to do."""

    async def load(self, id: str) -> SessionRecord | None:
        """Return a session that has not expired."""
        return from_json(self._records[id][0]) if self._lives(id) else None

    async def scan(self) -> AsyncIterator[SessionRecord]:
        """Yield what has not expired."""
        for id in list(self._records):
            if self._lives(id):
                yield from_json(self._records[id][0])

    async def events(self, id: str) -> list[Event]:
        """Return the kept events of a session, oldest first."""
        return list(self._events.get(id, ())) if self._lives(id) else []

    async def write(self, changes: Sequence[Change]) -> None:
        """Make the changes."""
        encoded = [change.record.to_json() if isinstance(change, Save) else b"" for change in changes]
        for change, data in zip(changes, encoded, strict=True):
            if isinstance(change, Save):
                self._records[change.record.id] = (data, change.record.expires())
            elif isinstance(change, Append):
                self._append(change)
            else:
                self._drop(change.id)
        self._purge()

    def _append(self, change: Append) -> None:
        if not self._lives(change.id):
            return
        cut, new = change.newest(self._keep, self._keep_bytes)
        events = [] if cut else list(self._events.get(change.id, ()))
        reached = {event.stream: event.number for event in events}
        for event in new:
            if event.number > reached.get(event.stream, -1):
                events.append(event)
        self._events[change.id] = newest(events, self._keep, self._keep_bytes)

    def _lives(self, id: str) -> bool:
        if id not in self._records:
            return False
        expires = self._records[id][1]
        return expires is None or expires > self._clock()

    def _drop(self, id: str) -> None:
        self._records.pop(id, None)
        self._events.pop(id, None)

    def _purge(self) -> None:
        now = self._clock()
        if now < self._purge_at:
            return
        self._purge_at = now + PURGE_EVERY
        for id in [id for id in self._records if not self._lives(id)]:
            self._drop(id)
