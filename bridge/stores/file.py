"""Sessions in a file under ``.sessions/``: one SQLite database, used by one thread of its own.

What is damaged is never fatal: a record that cannot be read is moved to a table beside the others, a file that SQLite
cannot read is renamed, and a new one takes over every record that can still be found in it. The damaged one stays where
it is until that is done, so that whoever is killed meanwhile, or finds the disk full, does it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from bridge.observe.ids import shorten
from bridge.stores.database import (
    NAME,
    RESCUING,
    Appended,
    DamagedFile,
    Database,
    Kept,
    discard,
    finish,
    is_rescued,
    put_in_place,
    rescue,
)
from bridge.stores.record import (
    KEEP_BYTES,
    KEEP_EVENTS,
    Append,
    Change,
    Damaged,
    Event,
    Save,
    SessionRecord,
    StoreUnavailable,
    from_json,
)

log = logging.getLogger(__name__)

#: Sessions that are read at a time by a scan.
PAGE = 500

_P = ParamSpec("_P")
_T = TypeVar("_T")


class FileStore:
    """The sessions of a directory, which one bridge uses at a time."""

    name = "file"

    def __init__(
        self,
        directory: Path,
        *,
        clock: Callable[[], float] = time.time,
        keep: int = KEEP_EVENTS,
        keep_bytes: int = KEEP_BYTES,
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._keep = keep
        self._keep_bytes = keep_bytes
        self._database: Database | None = None
        self._damage: str | None = None  # what SQLite has said of the file that is there
        self._worker: ThreadPoolExecutor | None = None

    def __repr__(self) -> str:
        return f"<FileStore {self._directory}, {'closed' if self._database is None else 'open'}>"

    async def open(self) -> None:
        """Open the database, or make one, and forget what has expired: it must not come back if the clock is set back.

        Raises :class:`StoreUnavailable`, also when another bridge has it.
        """
        if self._database is not None:
            return await self.ping()
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, "file store")
        self._database = await self._call(self._open)
        return None

    async def close(self) -> None:
        """Close it and end the thread."""
        database, self._database = self._database, None
        worker, self._worker = self._worker, None
        if worker is not None:
            if database is not None:
                await _close(worker, database)
            worker.shutdown(wait=False)

    async def ping(self) -> None:
        """Raise :class:`StoreUnavailable` when the file cannot be written."""
        await self._call(self._opened().check)

    async def look(self) -> None:
        """Raise :class:`StoreUnavailable` when the file was removed or replaced."""
        await self._call(self._opened().check_place)

    async def load(self, id: str) -> SessionRecord | None:
        """Return a session that has not expired."""
        data = await self._call(self._opened().load, id, self._clock())
        return None if data is None else await self._read(id, data)

    async def scan(self) -> AsyncIterator[SessionRecord]:
        """Yield what has not expired."""
        after = -1
        while page := await self._call(self._opened().page, after, self._clock(), PAGE):
            after = page[-1][0]
            for _, id, data in page:
                record = await self._read(id, data)
                if record is not None:
                    yield record

    async def events(self, id: str) -> list[Event]:
        """Return the kept events of a session, oldest first."""
        return await self._call(self._opened().events, id, self._clock())

    async def write(self, changes: Sequence[Change]) -> None:
        """Make the changes in one transaction, on the disk when this returns."""
        rows: list[Kept | Appended | str] = []
        for change in changes:
            if isinstance(change, Save):
                rows.append(Kept(change.record.id, change.record.to_json(), change.record.expires()))
            elif isinstance(change, Append):
                rows.append(Appended(change.id, *change.newest(self._keep, self._keep_bytes)))
            else:
                rows.append(change.id)
        await self._call(self._opened().write, rows)

    async def _read(self, id: str, data: bytes) -> SessionRecord | None:
        try:
            record = from_json(data)
            if record.id != id:
                raise Damaged("it is a record of another session")
        except Damaged as damaged:
            database = self._opened()
            if await self._call(database.set_aside, id, str(damaged), self._clock()):
                log.warning(
                    "%s: session %s is damaged (%s), set aside in table damaged", database.path, shorten(id), damaged
                )
            return None
        return record

    def _opened(self) -> Database:
        if self._database is None:
            raise StoreUnavailable(f"{self._directory} is not open")
        return self._database

    def _open(self) -> Database:
        if is_rescued(self._directory):
            put_in_place(self._directory)
            log.warning("%s was damaged: a new one has taken over what could be read", self._directory / NAME)
            self._damage = None
        if not (self._directory / NAME).exists():
            self._damage = None
        if self._damage is None:
            try:
                database = Database(self._directory, self._keep, self._keep_bytes)
                try:
                    database.purge(self._clock())
                except BaseException:
                    database.close()
                    raise
                return database
            except DamagedFile as error:
                self._damage = str(error)
        return self._rescue(self._damage)

    def _rescue(self, damage: str) -> Database:
        rescued = rescue(self._directory / NAME)
        discard(self._directory / RESCUING)
        with contextlib.closing(Database(self._directory, self._keep, self._keep_bytes, RESCUING)) as new:
            new.write(rescued)
            new.purge(self._clock())
            new.work_off()
        finish(self._directory)
        aside = put_in_place(self._directory)
        self._damage = None
        log.warning(
            "%s was damaged (%s): it is now %s, and the new one took over %d session(s)",
            *(self._directory / NAME, damage, aside.name, len(rescued)),
        )
        return Database(self._directory, self._keep, self._keep_bytes)

    async def _call(self, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        if self._worker is None:
            raise StoreUnavailable(f"{self._directory} is not open")
        work = functools.partial(call, *args, **kwargs)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._worker, work)
        except DamagedFile as error:
            self._damage = str(error)
            await self._abandon()
            raise StoreUnavailable(f"{self._directory / NAME} is damaged: {error}") from None
        except sqlite3.Error as error:
            raise StoreUnavailable(f"{self._directory / NAME}: {_reason(error)}") from None
        except OSError as error:
            await self._abandon()
            raise StoreUnavailable(f"{error.filename or self._directory}: {error.strerror}") from None

    async def _abandon(self) -> None:
        """Close what cannot be used any more; :meth:`open` starts anew."""
        database, self._database = self._database, None
        if database is not None and self._worker is not None:
            await _close(self._worker, database)


async def _close(worker: ThreadPoolExecutor, database: Database) -> None:
    """Close it behind all that was asked of it, also when nobody waits any longer: it holds the lock of the file."""
    closing = asyncio.get_running_loop().run_in_executor(worker, database.close)
    with contextlib.suppress(sqlite3.Error):
        await asyncio.shield(closing)


def _reason(error: sqlite3.Error) -> str:
    if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
        return "another process uses it; every bridge needs a SESSION_DIR of its own"
    return str(error)
