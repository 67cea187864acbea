"""What outlives the bridge: sessions as records, and records as sessions again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import NoReturn

from bridge.children.registry import Registry
from bridge.children.seat import Seat
from bridge.config.settings import Settings
from bridge.protocol import jsontext
from bridge.protocol.errors import Fault, Rejection
from bridge.sessions.backlog import Track
from bridge.sessions.keeper import Keeper
from bridge.sessions.pool import SessionPool
from bridge.sessions.recording import Recording
from bridge.sessions.room import SessionEntry
from bridge.sessions.streamable import StreamableSession
from bridge.sessions.vacant import Vacant
from bridge.stores.factory import open_store
from bridge.stores.record import Event, SessionRecord, SessionStore

log = logging.getLogger(__name__)

#: Seconds by which the clock of the system has to be set for records to be written anew.
CLOCK_SET = 5.0
#: Seconds that a session which has to be in the store waits for the bridge before this one to give that up.
STORE_PATIENCE = 30.0
#: The part of a short TTL after which a session that was used is written again: less than passes between two looks.
SOON = 1 / 6


class Kept:
    """Keeps sessions in a store. ``required``: a session that was to be kept and cannot be is refused.

    ``wall`` is the time of day in seconds, for records only. ``release`` gives sessions up, for other nodes to take;
    None where the bridge is alone.
    """

    def __init__(
        self,
        keeper: Keeper,
        registry: Registry,
        pool: SessionPool[StreamableSession],
        *,
        required: bool,
        wall: Callable[[], float] = time.time,
        release: Callable[[str], object] | None = None,
    ) -> None:
        self.keeper = keeper
        self._registry = registry
        self._pool = pool
        self._required = required
        self._wall = wall
        self._release = release
        self._saved: dict[str, float] = {}  # id -> last use, as it was written
        self._ahead = self._clock_ahead()
        #: Called with the time to live of each session that is kept from now on, or has got another.
        self.on_ttl: Callable[[float | None], object] = _nothing

    @property
    def is_lasting(self) -> bool:
        """Whether there is a store that a restart does not empty."""
        return self.keeper.is_lasting

    @property
    def is_shared(self) -> bool:
        """Whether other nodes may go on with what is kept."""
        return self._release is not None

    @property
    def is_known(self) -> bool:
        """Whether every kept session is in the pool."""
        return self.keeper.has_read

    @property
    def problem(self) -> str | None:
        """Why sessions are not kept just now, None if they are or need not be, or will be in a moment."""
        if not self.is_lasting or self.keeper.problem is None or self.keeper.waits:
            return None
        return f"the {self.keeper.name} session store is away: {self.keeper.problem}"

    def is_stored(self, entry: SessionEntry) -> bool:
        """Whether a session would outlive the bridge if that ended now."""
        return entry.session.is_kept and self.keeper.holds(entry.key)

    def warning(self, *, wanted: bool) -> str | None:
        """What to tell someone who ``wanted`` a session to be kept that is not."""
        if not wanted:
            return None
        if not self.is_lasting:
            return "there is no session store: set SESSION_STORE to file or redis; the session lives in memory only"
        return None if self.problem is None else f"{self.problem}; the session lives in memory until it is back"

    def follow(self, entry: SessionEntry) -> None:
        """Keep the events of a session too, from now on."""
        if entry.session.is_kept:
            self.on_ttl(entry.ttl)
            entry.session.backlog.on_event = lambda track, message: self._append(entry, track, message)

    def save(self, entry: SessionEntry) -> None:
        """Write a session soon, if it is to be kept. One that has ended is not: calls end with it that change what it
        remembers, and would bring it back.
        """
        if entry.session.is_kept and not entry.session.closed:
            self._follow_clock()  # it may be set back before anybody looks
            self._saved[entry.key] = self._last_used(entry)
            self.keeper.save(entry.key, lambda: self._record(entry))

    def check(self) -> None:
        """Raise :class:`Rejection` (503) where a session that is to be kept is asked for, and cannot be."""
        if self._required and not self.is_lasting:
            self._refuse("there is no session store")
        if self._required and self.problem is not None:
            self._refuse(self.problem)

    async def settle(self, entry: SessionEntry) -> None:
        """Write a new session, if it is to be kept, and wait for it.

        Raises :class:`Rejection` (503) where a store is required and cannot be reached.
        """
        self.save(entry)
        if entry.session.is_kept and self._required and self.keeper.waits:
            await self.keeper.opened(STORE_PATIENCE)
        if entry.session.is_kept and not await self.keeper.written(entry.key) and self._required:
            self._refuse(self.problem or f"the {self.keeper.name} session store does not answer")

    def _refuse(self, why: str) -> NoReturn:
        raise Rejection(Fault.UNAVAILABLE, f"{why}, and PERSISTENCE_REQUIRED is set", retry_in=5)

    async def keep(self, entry: SessionEntry, wanted: bool) -> None:
        """Make a session a kept one, or a temporary one. Raises what :meth:`settle` raises, and changes nothing then.

        A store that is away gets it when it is back.
        """
        session = entry.session
        if not wanted:
            self.forget(entry)
            session.is_kept = False
            session.backlog.on_event = None
            return
        self.check()
        was_kept, session.is_kept = session.is_kept, self.is_lasting
        try:
            await self.settle(entry)
        except BaseException:
            if not was_kept:
                self.forget(entry)
            session.is_kept = was_kept
            raise
        self.follow(entry)

    def sweep(self) -> None:
        """Write the time of last use of what has been used since it was written, or is in use.

        All of it where the clock of the system was set, or stood still while the machine slept: a store reckons by it,
        and would forget sessions that have time left here.
        """
        self._follow_clock()
        for entry in self._pool.entries():
            if entry.session.is_kept and self._is_behind(entry):
                self.save(entry)

    def sweep_brief(self, limit: float) -> float:
        """Do the same for sessions whose time to live is less than ``limit``, where a part of it has passed since they
        were written: one that lives for a second makes nobody write all others. Return the shortest, or ``limit``.
        """
        shortest, now = limit, self._pool.clock()
        for entry in self._pool.entries():
            if entry.session.is_kept and entry.ttl is not None and entry.ttl < limit:
                shortest = min(shortest, entry.ttl)
                if self._is_behind(entry) and now - self._saved.get(entry.key, 0.0) >= entry.ttl * SOON:
                    self.save(entry)
        return shortest

    def _is_behind(self, entry: SessionEntry) -> bool:
        return self._last_used(entry) > self._saved.get(entry.key, 0.0)

    def _last_used(self, entry: SessionEntry) -> float:
        """Return when it was used last: now, while it is in use, for the store must not end it meanwhile."""
        return self._pool.clock() if entry.in_use and entry.ttl is not None else entry.last_used

    def _follow_clock(self) -> None:
        ahead, before = self._clock_ahead(), self._ahead
        if abs(ahead - before) > CLOCK_SET:
            self._ahead = ahead
            log.info("the clock was set by %+.0f s; all kept sessions are written again", ahead - before)
            self.save_all()

    def _clock_ahead(self) -> float:
        return self._wall() - self._pool.clock()

    def save_all(self) -> None:
        """Write every session that is to be kept."""
        for entry in self._pool.entries():
            self.save(entry)

    def forget(self, entry: SessionEntry) -> None:
        """Remove a session that has ended."""
        if entry.session.is_kept:
            self._saved.pop(entry.key, None)
            self.keeper.delete(entry.key)

    def leave(self, entry: SessionEntry) -> None:
        """Write a session for the last time: its end here is none in the store."""
        if entry.session.is_kept:
            record = self._record(entry)
            if self._release is not None:
                self._release(entry.key)
            self.keeper.save(entry.key, lambda: record)
            self._let_go(entry)

    def disown(self, entry: SessionEntry) -> None:
        """Write a session no longer: another node has it."""
        self.keeper.drop(entry.key)
        self._let_go(entry)

    def _let_go(self, entry: SessionEntry) -> None:
        self._saved.pop(entry.key, None)
        entry.session.is_kept = False
        entry.session.backlog.on_event = None

    def idle(self, record: SessionRecord) -> float:
        """Seconds since a session was last used."""
        return max(0.0, self._wall() - record.touched)

    def age(self, record: SessionRecord) -> float:
        """Seconds since it was opened."""
        return max(0.0, self._wall() - record.created)

    def session_of(self, record: SessionRecord, events: list[Event]) -> StreamableSession:
        """Return a session without a child that goes on where the record ends."""
        session = StreamableSession(record.id, record.server, Vacant(_no_child), record.owner)
        session.is_kept = True
        session.restored = True
        session.metadata = record.metadata
        session.version = record.version or ""
        initialize = None if record.initialize is None else bytes(record.initialize)
        session.recording = Recording(initialize, record.level, record.subscriptions)
        if initialize is not None:
            session.capabilities = jsontext.member(initialize, "capabilities", b"{}")
        session.backlog.restore(record.last_event, [(event.stream, event.number, event.data) for event in events])
        return session

    def _append(self, entry: SessionEntry, track: Track, message: bytes) -> None:
        if track.sent == 0:  # the record counts the streams, and says by that whether there is anything to read
            self.save(entry)
        self.keeper.append(entry.key, Event(number=track.sent, stream=track.number, data=message))

    def _record(self, entry: SessionEntry) -> SessionRecord:
        session, now = entry.session, self._wall()
        recording = session.recording
        return SessionRecord(
            id=session.id,
            server=session.server,
            config=self._registry.known[session.server].digest,
            version=session.version or None,
            initialize=None if recording.initialize is None else jsontext.Raw(recording.initialize),
            initialized=bool(session.version),
            level=recording.level,
            subscriptions=list(recording.subscriptions),
            owner=session.owner,
            created=now - self._pool.age_of(entry),
            touched=now - self._pool.idle_for(entry),
            ttl=entry.ttl,
            metadata=session.metadata,
            last_event=session.backlog.opened,
        )


def store_of(settings: Settings) -> SessionStore:
    """Return the store that the settings name."""
    return open_store(
        settings.store, directory=settings.session_dir, redis=settings.redis_url, prefix=settings.redis_prefix
    )


def _nothing(_: object) -> None:
    """Nobody wants to know."""


async def _no_child() -> Seat:
    raise AssertionError("replaced when the session enters its pool")
