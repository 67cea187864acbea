"""A pool of what is alive between requests, with use counts and the time of last use.

It is made twice: the *bridge pool* holds clients that the bridge itself owns, the *streamable pool* sessions that HTTP
clients own. Only an entry with a use count of zero can be reaped, so a call in flight, an open stream or an unanswered
question keeps its session alive however long it takes (users' scar 10).
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
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
    was_reaped: bool = field(default=False)

    def idle_for(self, now: float) -> float:
        """Seconds since the last use ended; 0 while it is in use."""
        return 0.0 if self.in_use else now - self.last_used

    def expired(self, now: float, scale: float = 1.0) -> bool:
        """Whether the reaper may end it now, when only ``scale`` of its time to live counts."""
        return (
            self.ttl is not None
            and now - self.last_used >= self.ttl * scale
            and not self.in_use
            and (self.state is SessionState.IDLE or self.state is SessionState.DORMANT)
        )


class SessionPool(Generic[T]):
    """Live entries by key. ``clock`` is monotonic; ``limit`` is the most entries."""

    def __init__(self, name: str, clock: Clock, limit: int) -> None:
        self.name = name
        self.clock = clock
        self.limit = limit
        self._entries: dict[str, Entry[T]] = {}
        #: How many idle sessions the bridge has ended, by reason.
        self.reaped: Counter[str] = Counter()
        #: The part of each time to live that counts: less than 1 while the bridge runs out of something.
        self.ttl_scale = 1.0
        #: Whether anybody ends those whose time is over.
        self.is_reaped = True
        #: Called with the time to live of each entry that comes in or changes.
        self.on_ttl: Callable[[float | None], None] = _nothing

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
        now = self.clock()
        entry = self._entries[key] = Entry(key, session, ttl, now, now)
        self.on_ttl(ttl)
        return entry

    def add_dormant(self, key: str, session: T, ttl: float | None, *, age: float, idle: float) -> Entry[T]:
        """Take in a session without a process. ``age`` and ``idle`` are the seconds that it has been so."""
        entry = self.add(key, session, ttl)
        entry.created -= age
        entry.last_used -= idle
        self.park(entry)
        return entry

    def set_ttl(self, entry: Entry[T], ttl: float | None) -> None:
        """Give an entry another time to live."""
        entry.ttl = ttl
        self.on_ttl(ttl)

    def touch(self, entry: Entry[T]) -> None:
        """Begin the idle time of an entry anew."""
        entry.last_used = self.clock()

    def opened(self, entry: Entry[T]) -> None:
        """Its child has been greeted."""
        entry.state = advance(SESSION_TRANSITIONS, entry.state, SessionEvent.OPENED)
        if entry.in_use:
            entry.state = advance(SESSION_TRANSITIONS, entry.state, SessionEvent.USED)

    def park(self, entry: Entry[T]) -> None:
        """It has no process any longer."""
        entry.state = advance(SESSION_TRANSITIONS, entry.state, SessionEvent.PARKED)

    def wake(self, entry: Entry[T]) -> None:
        """It is getting a process again; :meth:`opened` follows, or :meth:`park`."""
        entry.state = advance(SESSION_TRANSITIONS, entry.state, SessionEvent.WOKEN)

    def check_room(self, server: str) -> None:
        """Raise :class:`ChildUnavailable` when the pool is full (``MAX_SESSIONS``)."""
        if len(self._entries) >= self.limit:
            raise ChildUnavailable(server, f"all {self.limit} sessions are in use (MAX_SESSIONS)", retry_in=5)

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
        entry.last_used = self.clock()
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

    def count_expired(self) -> int:
        """How many entries have expired."""
        now = self.clock()
        return sum(1 for entry in self._entries.values() if entry.expired(now, self.ttl_scale))

    def take_expired(self, most: int | None = None) -> list[Entry[T]]:
        """Remove and return what has expired, ``most`` entries at most; the caller closes it. Nobody finds those
        entries any longer.
        """
        now = self.clock()
        found = (entry for entry in self._entries.values() if entry.expired(now, self.ttl_scale))
        expired = list(itertools.islice(found, most))
        for entry in expired:
            entry.state = advance(SESSION_TRANSITIONS, entry.state, SessionEvent.REAPED)
            entry.was_reaped = True
            del self._entries[entry.key]
        self.reaped["ttl" if self.ttl_scale == 1.0 else "pressure"] += len(expired)
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
        return self.clock() - entry.created

    def idle_for(self, entry: Entry[T]) -> float:
        """Seconds an entry has been idle."""
        return entry.idle_for(self.clock())


def _nothing(_: object) -> None:
    """No reaper looks after this pool."""
