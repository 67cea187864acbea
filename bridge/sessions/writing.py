"""One attempt to write what is owed to a store: in batches, and without the sessions that cannot be written.

A store takes a batch whole or not at all, so that one bad session would hold up all others: what cannot be written
together is written one by one. What is no fault of a session is one of the store, and ends the attempt.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from bridge.stores.record import (
    Append,
    Change,
    Delete,
    Event,
    Save,
    SessionRecord,
    SessionStore,
    StoreUnavailable,
    Unwritable,
)

#: Sessions that are written at once, and bytes of events: a store has little time for each batch.
BATCH, BATCH_BYTES = 500, 2 * 1024 * 1024

Make = Callable[[], SessionRecord]


class Writing:
    """All that is owed when it is made.

    ``owed`` has what makes the record of each session that waits, None where the session is to be deleted; what is
    written or given up leaves it, unless it has changed meanwhile. ``events`` belong to this from now on. ``stored``
    gets the sessions that are in the store. ``note`` is called with each session that was written or given up, and
    why it cannot be written, None if it was.
    """

    def __init__(
        self,
        store: SessionStore,
        owed: dict[str, Make | None],
        events: dict[str, list[Event]],
        stored: set[str],
        note: Callable[[str, Exception | None], object],
    ) -> None:
        self._store = store
        self._owed = owed
        self._records = dict(owed)  # as they are now: what changes meanwhile is owed again
        self._stored = stored
        self._note = note
        #: What is left of them has not been written.
        self.events = events

    async def run(self) -> None:
        """Write it. Raises :class:`StoreUnavailable`, or what else the store raises where no session is to blame; what
        was written before that is owed no more.
        """
        batch: list[str] = []
        size = 0
        for each in self._records.keys() | self.events.keys():
            batch.append(each)
            size += sum(len(event.data) for event in self.events.get(each, ()))
            if len(batch) >= BATCH or size >= BATCH_BYTES:
                await self._write(batch)
                batch, size = [], 0
        if batch:
            await self._write(batch)

    def drop(self, session_id: str) -> None:
        """A session is written elsewhere from now on, whatever becomes of this."""
        self._records.pop(session_id, None)
        self.events.pop(session_id, None)

    async def _write(self, ids: list[str]) -> bool:
        """Write these sessions, without those that cannot be written whatever the store does; return whether the store
        has taken any.
        """
        changes: dict[str, list[Change]] = {}
        for each in ids:
            try:
                changes[each] = self._changes(each)
            except Exception as error:
                self._give_up(each, error)
        if not changes:
            return False
        try:
            await self._store.write(list(itertools.chain.from_iterable(changes.values())))
        except StoreUnavailable:
            raise
        except Exception as error:
            if len(changes) > 1:
                return await self._write_each(list(changes))
            if not isinstance(error, Unwritable):
                raise
            self._give_up(next(iter(changes)), error)
            return False
        for each in changes:
            self._settle(each)
        return True

    async def _write_each(self, ids: list[str]) -> bool:
        """Write sessions that could not be written together: where the store takes one, the others are the reason."""
        errors: dict[str, Exception] = {}
        taken = False
        for each in ids:
            try:
                taken |= await self._write([each])
            except StoreUnavailable:
                raise
            except Exception as error:
                errors[each] = error
        if errors and not taken:
            raise next(iter(errors.values()))
        for each, reason in errors.items():
            self._give_up(each, reason)
        return taken

    def _changes(self, session_id: str) -> list[Change]:
        changes: list[Change] = []
        if session_id in self._records:
            make = self._records[session_id]
            if make is None:
                return [Delete(session_id)]
            changes.append(Save(make()))
        if session_id in self.events:
            changes.append(Append(session_id, tuple(self.events[session_id])))
        return changes

    def _give_up(self, session_id: str, error: Exception) -> None:
        """Owe no more of a session what cannot be written; its next change is tried again."""
        self._end(session_id, error)

    def _settle(self, session_id: str) -> None:
        """A session has been written; it is owed again if it has changed meanwhile."""
        self._end(session_id, None)
        make = self._records.get(session_id)
        if make is not None and self._owed.get(session_id, make) is not None:
            self._stored.add(session_id)

    def _end(self, session_id: str, error: Exception | None) -> None:
        """Nothing more is to be tried, except for what has changed since."""
        self.events.pop(session_id, None)
        is_owed = session_id in self._owed and session_id in self._records
        if is_owed and self._owed[session_id] is self._records[session_id]:
            del self._owed[session_id]
        self._note(session_id, error)
