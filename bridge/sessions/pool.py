"""A pool of what is alive between requests, with use counts and the time of last use.

It is made twice: the *bridge pool* holds clients that the bridge itself owns, the *streamable pool* sessions that HTTP
clients own. An entry with a use count above zero is ACTIVE, and only IDLE entries can be reaped, so a call in flight,
an open stream or an unanswered question keeps its session alive however long it takes (users' scar 10).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from bridge.protocol.errors import ChildUnavailable
from bridge.protocol.states import SESSION_TRANSITIONS, SessionEvent, SessionState, advance

Clock = Callable[[], float]


class Poolable(Protocol):
    """What can live in a pool."""

    @property
    def server(self) -> str:
        """Id of the server it is a session of."""
        ...

    @property
    def label(self) -> str:
        """What logs and lists may call it."""
        ...

    async def close(self, why: str) -> None:
        """Give back everything it holds; ``why`` is told to whoever still waits."""
        ...


T = TypeVar("T", bound=Poolable)


@dataclass(eq=False, slots=True)
class Entry(Generic[T]):
    """One pooled session. ``ttl`` and times are seconds; a ttl of None means that it never expires."""

    key: str
    session: T
    ttl: float | None
    created: float
    last_used: float
    state: SessionState = SessionState.OPENING
    in_use: int = field(default=0)

    def idle_for(self, now: float) -> float:
        """Seconds since the last use ended; 0 while it is in use."""
        return 0.0 if self.in_use else now - self.last_used

    def expired(self, now: float) -> bool:
        """Whether the reaper may end it now."""
        return self.state is SessionState.IDLE and self.ttl is not None and now - self.last_used >= self.ttl


class SessionPool(Generic[T]):
    """Live entries by key. ``clock`` is monotonic; ``limit`` is the most entries."""

    def __init__(self, name: str, clock: Clock, limit: int) -> None:
        self.name = name
        self._clock = clock
        self._limit = limit
        self._entries: dict[str, Entry[T]] = {}
        self.reaped = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        active = sum(1 for entry in self._entries.values() if entry.in_use)
        return f"<SessionPool {self.name} [{active} active, {len(self) - active} idle]>"

    def entries(self) -> list[Entry[T]]:
        """All entries, oldest first."""
        return list(self._entries.values())

    def add(self, key: str, session: T, ttl: float | None) -> Entry[T]:
        """Take a session in. It is OPENING, which nobody reaps, until :meth:`opened`."""
        now = self._clock()
        entry = self._entries[key] = Entry(key, session, ttl, now, now)
        return entry

    def opened(self, entry: Entry[T]) -> None:
        """Its child has been greeted."""
        entry.state = advance(SESSION_TRANSITIONS, entry.state, SessionEvent.OPENED)
        if entry.in_use:
            entry.state = advance(SESSION_TRANSITIONS, entry.state, SessionEvent.USED)

    def check_room(self, server: str) -> None:
        """Raise :class:`ChildUnavailable` when the pool is full (``MAX_SESSIONS``)."""
        if len(self._entries) >= self._limit:
            raise ChildUnavailable(server, f"all {self._limit} sessions are in use (MAX_SESSIONS)", retry_in=5)

    def find(self, key: str) -> Entry[T] | None:
        """Return the entry that may still be used, None when there is none."""
        return self._entries.get(key)

    def enter(self, entry: Entry[T]) -> None:
        """Count one more use: until :meth:`leave`, the entry cannot expire."""
        if entry.in_use == 0 and entry.state is SessionState.IDLE:
            entry.state = advance(SESSION_TRANSITIONS, entry.state, SessionEvent.USED)
        entry.in_use += 1

    def leave(self, entry: Entry[T]) -> None:
        """Count one use less; the idle time starts with the last."""
        entry.in_use -= 1
        entry.last_used = self._clock()
        if entry.in_use == 0 and entry.state is SessionState.ACTIVE:
            entry.state = advance(SESSION_TRANSITIONS, entry.state, SessionEvent.RELEASED)

    @contextlib.contextmanager
    def using(self, entry: Entry[T]) -> Iterator[T]:
        """Keep an entry from expiring for the length of the block."""
        self.enter(entry)
        try:
            yield entry.session
        finally:
            self.leave(entry)

    def take_expired(self) -> list[Entry[T]]:
        """Remove and return what has expired; the caller closes it. Nobody finds those entries any longer."""
        now = self._clock()
        expired = [entry for entry in self._entries.values() if entry.expired(now)]
        for entry in expired:
            entry.state = advance(SESSION_TRANSITIONS, entry.state, SessionEvent.REAPED)
            del self._entries[entry.key]
        self.reaped += len(expired)
        return expired

    def take(self, entry: Entry[T]) -> bool:
        """Remove an entry, in use or not; False when someone else did already. The caller closes it."""
        if self._entries.get(entry.key) is not entry:
            return False
        entry.state = advance(SESSION_TRANSITIONS, entry.state, SessionEvent.CLOSE)
        del self._entries[entry.key]
        return True

    def age_of(self, entry: Entry[T]) -> float:
        """Seconds since an entry came in."""
        return self._clock() - entry.created

    def idle_for(self, entry: Entry[T]) -> float:
        """Seconds an entry has been idle."""
        return entry.idle_for(self._clock())
