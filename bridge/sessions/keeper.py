"""Writes sessions to the store, behind the requests that change them, and goes on without it when it is away.

What is owed waits here and is written when the store is back. Nothing that a client does waits for the store, except
that a new session is written before its client learns its id.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from bridge.observe.ids import shorten
from bridge.sessions.reaper import Sleep
from bridge.sessions.writing import Make, Writing
from bridge.stores.record import KEEP_BYTES, Event, SessionRecord, SessionStore, StoreUnavailable, Unwritable, newest

log = logging.getLogger(__name__)

#: Seconds between two tries to reach a store that is away: doubled from the first to the last.
FIRST_RETRY = 0.25
LAST_RETRY = 5.0
#: Seconds between two looks at a store that is there: nothing else tells of its end while nothing is written.
LOOK = 5.0
#: Events of one session that wait for the store; older ones are dropped.
OWED_EVENTS = 256
#: Seconds that a new session waits to be written.
PATIENCE = 2.0

_NOT_YET = "it has not been opened yet"


class Keeper:
    """One store and what is owed to it, between :meth:`start` and :meth:`close`.

    ``adopt`` gets each session that the store holds when it is first reached; ``on_return`` is called when the store is
    back after it was away: it may have come back empty. ``problem`` says why the store is away, None while it is not.
    ``after`` is set when the store may be opened: until then the bridge that this one takes over from has it.
    """

    def __init__(
        self,
        store: SessionStore,
        adopt: Callable[[SessionRecord, list[Event]], object],
        on_return: Callable[[], object],
        sleep: Sleep = asyncio.sleep,
        after: asyncio.Event | None = None,
    ) -> None:
        self._store = store
        self._after = after
        self._tried = asyncio.Event()  # to open it
        self._adopt = adopt
        self._on_return = on_return
        self._sleep = sleep
        self._records: dict[str, Make | None] = {}  # None: to be deleted
        self._events: dict[str, list[Event]] = {}
        self._stored: set[str] = set()
        self._writer: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._resting: asyncio.Future[None] | None = None
        self._closing = False
        self._owes_all = False  # since it was away
        self._writing: Writing | None = None
        self._work = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._unwritable: set[str] = set()  # sessions of which it has been said
        self.has_read = False
        self.problem: str | None = _NOT_YET

    @property
    def name(self) -> str:
        """``memory``, ``file`` or ``redis``."""
        return self._store.name

    @property
    def is_lasting(self) -> bool:
        """Whether there is a store that a restart does not empty."""
        return self.name != "memory"

    @property
    def owed(self) -> int:
        """How many sessions wait to be written."""
        return len(self._records.keys() | self._events.keys())

    @property
    def waits(self) -> bool:
        """Whether the bridge before this one still has the store."""
        return self._after is not None and not self._tried.is_set()

    async def opened(self, within: float) -> None:
        """Wait until the store has been opened, or could not be."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._tried.wait()

    def holds(self, session_id: str) -> bool:
        """Whether a session is in the store, and the store can be reached."""
        return self.problem is None and session_id in self._stored

    def save(self, session_id: str, make: Make) -> None:
        """Write a session soon; ``make`` gives its record at that moment."""
        self._records[session_id] = make
        self._work.set()

    def delete(self, session_id: str) -> None:
        """Remove a session soon."""
        self._records[session_id] = None
        self._events.pop(session_id, None)
        self._stored.discard(session_id)
        self._unwritable.discard(session_id)
        self._work.set()

    def owes(self, session_id: str) -> bool:
        """Whether something of a session waits to be written."""
        return session_id in self._records or session_id in self._events

    def found(self, session_id: str) -> None:
        """A session was read from the store."""
        self._stored.add(session_id)

    def drop(self, session_id: str) -> None:
        """Owe nothing more of a session: it is written elsewhere from now on."""
        self._records.pop(session_id, None)
        self._events.pop(session_id, None)
        self._stored.discard(session_id)
        if self._writing is not None:
            self._writing.drop(session_id)

    def hurry(self) -> None:
        """Try at once to reach a store that is away."""
        if self._resting is not None:
            self._resting.cancel()

    def append(self, session_id: str, event: Event) -> None:
        """Write an event of a session soon."""
        self._events[session_id] = _bounded([*self._events.get(session_id, ()), event])
        self._work.set()

    async def written(self, session_id: str, within: float = PATIENCE) -> bool:
        """Wait until a session that was saved is in the store; False when the store is away."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                while self.problem is None and session_id in self._records:
                    waiter = asyncio.get_running_loop().create_future()
                    self._waiting.append(waiter)
                    await waiter
        return session_id not in self._records and self.holds(session_id)

    async def start(self) -> None:
        """Try to read the store once, so that a restarted bridge knows its sessions before it takes requests; from then
        on write what is owed.
        """
        if self._after is None:
            try:
                await self._open()
            except Exception as error:
                self._failed(error)
        self._writer = asyncio.create_task(self._run(), name="keeper")
        if self.is_lasting:
            self._watcher = asyncio.create_task(self._watch(), name="keeper: looks")

    async def load(self, session_id: str) -> tuple[SessionRecord, list[Event]] | None:
        """Return a session as it is in the store, once what is owed of it is there; None while that is away."""
        if not await self.written(session_id):
            return None
        try:
            record = await self._store.load(session_id)
            return None if record is None else (record, await self._store.events(session_id))
        except StoreUnavailable as error:
            self._lost(error)
            return None

    async def reopen(self) -> None:
        """Read the store again, after it was closed."""
        self._closing = self.has_read = False
        self.problem = _NOT_YET
        await self.start()

    async def _run(self) -> None:
        delay = FIRST_RETRY
        if self._after is not None:
            await self._after.wait()
        while not self._closing:
            try:
                if self.problem is not None:
                    await self._open()
                if not self._work.is_set():
                    delay = FIRST_RETRY
                await self._work.wait()
                await self._write()
                delay = FIRST_RETRY
            except Exception as error:
                self._failed(error)
                await self._rest(delay)
                delay = min(2 * delay, LAST_RETRY)

    async def _watch(self) -> None:
        while not self._closing:
            await self._sleep(LOOK)
            if self.problem is None:
                try:
                    await self._store.look()
                except Exception as error:
                    self._lost(error)

    async def _rest(self, seconds: float) -> None:
        self._resting = asyncio.ensure_future(self._sleep(seconds))
        try:
            await asyncio.wait([self._resting])
        finally:
            self._resting.cancel()
            self._resting = None

    async def close(self) -> None:
        """Write what is owed, as far as it goes, and close the store. Raises nothing: children are stopped after it."""
        self._closing = True
        tasks = [task for task in (self._writer, self._watcher) if task is not None]
        self._writer = self._watcher = None
        for task in tasks:
            task.cancel()  # a client library may swallow that, and then the loop sees the flag
        if tasks:
            await asyncio.wait(tasks)
        try:
            if self.has_read:
                await self._write()
            elif self.owed:
                raise StoreUnavailable(self.problem or _NOT_YET)
        except Exception as error:
            why = _reason(error)
            log.warning("%d session(s) could not be written to the %s store: %s", self.owed, self.name, why)
        try:
            await self._store.close()
        except Exception as error:
            log.warning("%s session store: it could not be closed: %s", self.name, _reason(error))
        self.problem = "it is closed"

    async def _open(self) -> None:
        await self._store.open()
        await self._store.ping()
        if not self.has_read:
            found = 0
            async for record in self._store.scan():
                if record.id not in self._records:  # else it is known here, and newer
                    found += await self._take_in(record)
            self.has_read = True
            if self.is_lasting:
                log.info("%s session store: %d kept session(s)", self.name, found)
        elif self.problem is not None:
            await self._return()
        self.problem = None
        self._tried.set()

    async def _return(self) -> None:
        """It answers again, but it may still take nothing; it is back once it has what is owed."""
        if not self._owes_all:
            self._on_return()
            self._owes_all = True
        owed = self.owed
        await self._write()
        self._owes_all = False
        log.info("%s session store is back; %d session(s) are written to it", self.name, owed)

    async def _take_in(self, record: SessionRecord) -> bool:
        """Adopt a session that is in the store; one that makes no sense stays there, and is no reason not to start."""
        events = await self._store.events(record.id) if record.last_event else []
        if record.id in self._records:  # it has ended meanwhile
            return False
        self.found(record.id)
        try:
            self._adopt(record, events)
        except Exception as error:
            self._stored.discard(record.id)
            log.error(
                *("session %s cannot be restored and is left in the %s store: %s", shorten(record.id), self.name),
                type(error).__name__,
                exc_info=log.isEnabledFor(logging.DEBUG),
            )
            return False
        return True

    async def _write(self) -> None:
        self._work.clear()
        self._writing = writing = Writing(self._store, self._records, self._events, self._stored, self._note)
        self._events = {}
        try:
            await writing.run()
        except BaseException:
            for session_id, missing in writing.events.items():
                self._events[session_id] = _bounded([*missing, *self._events.get(session_id, ())])
            self._work.set()
            raise
        finally:
            self._writing = None
            self._wake()

    def _note(self, session_id: str, error: Exception | None) -> None:
        """Say that a session cannot be written: once, until it has been."""
        if error is None:
            self._unwritable.discard(session_id)
        elif session_id not in self._unwritable:
            self._unwritable.add(session_id)
            why = error if isinstance(error, Unwritable) else _reason(error)
            log.error("session %s cannot be written to the %s store: %s", shorten(session_id), self.name, why)

    def _failed(self, error: Exception) -> None:
        """The store has not done what it was asked; whatever it was, it is asked again."""
        why = _reason(error)
        if self.problem is None or not self.has_read:
            text = "%s session store is away: %s; sessions go on in memory and are written when it is back"
            is_known = isinstance(error, StoreUnavailable)
            level = logging.WARNING if self.problem != why else logging.DEBUG
            log.log(level, text, self.name, why, exc_info=None if is_known else error)
        self.problem = why
        self._tried.set()
        self._wake()

    def _lost(self, error: Exception) -> None:
        """The same, for whoever does not write; who writes finds out when it is back."""
        self._failed(error)
        self._work.set()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)


def _bounded(events: list[Event]) -> list[Event]:
    """Those that may wait; a store keeps no more of them anyway."""
    return [*newest(events, OWED_EVENTS, KEEP_BYTES)]


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, StoreUnavailable) else f"unexpected {type(error).__name__}"
