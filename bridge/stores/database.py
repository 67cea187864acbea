"""The sessions of one directory in one SQLite file. Calls block; all are made by one thread.

* A process that is killed loses nothing that was committed, and neither does a power cut: WAL with ``synchronous=FULL``
  is one fsync per batch, in a thread that no call waits for.
* The file is locked for as long as it is open (``locking_mode=EXCLUSIVE``): two bridges that write the same sessions
  would undo each other's work. The lock ends with the process, however that ends.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bridge.stores.record import Damaged, Event, from_json

NAME = "sessions.db"
#: One that takes over what a damaged one still has: until it is whole, and until it is in the place of that.
RESCUING, _RESCUED = f"{NAME}.rescuing", f"{NAME}.rescued"
#: What SQLite has beside a file.
_TAILS = ("-wal", "-shm", "-journal")
#: Seconds to wait for the lock: a bridge that is restarted may still be on its way down.
LOCK_WAIT = 1.0
#: Damaged records that are kept for whoever wants to look at them.
KEEP_DAMAGED = 1000
#: The write-ahead log is cut to this size when it has been worked off, in bytes.
LOG_BYTES = 16 * 1024 * 1024
#: Version of the tables; a file with a higher one was written by a newer bridge.
VERSION = 1

_TABLES = (
    "CREATE TABLE IF NOT EXISTS sessions (id TEXT PRIMARY KEY, record BLOB NOT NULL, expires REAL)",
    "CREATE INDEX IF NOT EXISTS sessions_expire ON sessions (expires) WHERE expires IS NOT NULL",
    "CREATE TABLE IF NOT EXISTS events (place INTEGER PRIMARY KEY, stream INTEGER NOT NULL, number INTEGER NOT NULL, "
    "data BLOB NOT NULL, id TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE, UNIQUE (id, stream, number))",
    "CREATE TABLE IF NOT EXISTS damaged (place INTEGER PRIMARY KEY, id TEXT, record BLOB, why TEXT, found REAL)",
    f"PRAGMA user_version = {VERSION}",
)
_KEEP = (
    "INSERT INTO sessions VALUES (?, ?, ?) "
    "ON CONFLICT (id) DO UPDATE SET record = excluded.record, expires = excluded.expires"
)
_APPEND = (
    "INSERT INTO events (id, stream, number, data) SELECT :id, :stream, :number, :data "
    "WHERE EXISTS (SELECT 1 FROM sessions WHERE id = :id) "
    "AND NOT EXISTS (SELECT 1 FROM events WHERE id = :id AND stream = :stream AND number >= :number)"
)
#: The length of a blob is known without reading it.
_TRIM = (
    "DELETE FROM events WHERE id = :id AND place <= (SELECT max(place) FROM (SELECT place, "
    "sum(length(data)) OVER newest AS bytes, row_number() OVER newest AS count "
    "FROM events WHERE id = :id WINDOW newest AS (ORDER BY place DESC)) WHERE bytes > :bytes OR count > :count)"
)
_LOAD = "SELECT record FROM sessions WHERE id = ? AND (expires IS NULL OR expires > ?)"
_PAGE = (
    "SELECT rowid, id, record FROM sessions WHERE rowid > ? AND (expires IS NULL OR expires > ?) ORDER BY rowid LIMIT ?"
)
_EVENTS = (
    "SELECT number, stream, data FROM events JOIN sessions USING (id) "
    "WHERE id = ? AND (expires IS NULL OR expires > ?) ORDER BY place"
)
#: Another process has it, or the disk is full.
_NOT_DAMAGE = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN)
_FROM_BOTH_ENDS = (
    "SELECT id, record FROM sessions ORDER BY rowid ASC",
    "SELECT id, record FROM sessions ORDER BY rowid DESC",
)


class Kept(NamedTuple):
    """A session as it is written: encoded, for a record may change before the thread comes to it."""

    id: str
    record: bytes
    expires: float | None


class Appended(NamedTuple):
    """Events that are added to a session, or take the place of all others."""

    id: str
    instead: bool
    events: Sequence[Event]


class DamagedFile(Exception):
    """SQLite says that the file is no database, or no longer one."""


class Database:
    """An open file. ``keep`` and ``keep_bytes`` bound the events of a session.

    Opening raises OSError, sqlite3.Error, or :class:`DamagedFile`; so does everything else.
    """

    def __init__(self, directory: Path, keep: int, keep_bytes: int, name: str = NAME) -> None:
        self.path = directory / name
        self._keep = keep
        self._keep_bytes = keep_bytes
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite gives the files beside it the same mode. Never opened here when it exists: closing it would end the
        # lock that another store of this process has on it (POSIX).
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        if stat.S_IMODE(self.path.stat().st_mode) != 0o600:
            self.path.chmod(0o600)
        self._db = sqlite3.connect(self.path, timeout=LOCK_WAIT, isolation_level=None)
        try:
            self._prepare()
            self._inode = self.path.stat().st_ino
        except BaseException:
            self._db.close()
            raise

    def _prepare(self) -> None:
        with _damage():
            for name, value in (
                ("locking_mode", "EXCLUSIVE"),
                ("journal_mode", "WAL"),
                ("synchronous", "FULL"),
                ("foreign_keys", "ON"),
                ("trusted_schema", "OFF"),
                ("journal_size_limit", LOG_BYTES),
            ):
                self._db.execute(f"PRAGMA {name} = {value}")
            [version] = self._db.execute("PRAGMA user_version").fetchone()
            if version > VERSION:
                raise sqlite3.NotSupportedError(f"it was written by a newer version (tables {version}, not {VERSION})")
        with self._transaction():
            for statement in _TABLES:
                self._db.execute(statement)

    def close(self) -> None:
        """Close it; the write-ahead log is worked off."""
        self._db.close()

    def check(self) -> None:
        """Raise when it cannot be written: nothing is changed, but all of the way to the disk is gone."""
        self.check_place()
        with self._transaction():
            self._db.execute(f"PRAGMA user_version = {VERSION}")

    def work_off(self) -> None:
        """Bring everything into the file itself; the write-ahead log is empty then."""
        with _damage():
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def load(self, id: str, now: float) -> bytes | None:
        """Return the record of a session that has not expired."""
        with _damage():
            row = self._db.execute(_LOAD, (id, now)).fetchone()
        return None if row is None else _bytes(row[0])

    def page(self, after: int, now: float, size: int) -> list[tuple[int, str, bytes]]:
        """Return the next sessions that have not expired, behind a place: their own place, id, record."""
        with _damage():
            rows = self._db.execute(_PAGE, (after, now, size)).fetchall()
        return [(place, str(id), _bytes(record)) for place, id, record in rows]

    def events(self, id: str, now: float) -> list[Event]:
        """Return the events of a session that has not expired, oldest first."""
        with _damage():
            return [Event(number, stream, data) for number, stream, data in self._db.execute(_EVENTS, (id, now))]

    def purge(self, now: float) -> None:
        """Forget what has expired. Not while it is in use: where the clock was set, or stood still while the machine
        slept, sessions that have expired by it may have time left.
        """
        self.check_place()
        with self._transaction():
            self._db.execute("DELETE FROM sessions WHERE expires <= ?", (now,))

    def write(self, rows: Sequence[Kept | Appended | str]) -> None:
        """Keep sessions, add events, and forget the sessions of which there is only an id."""
        self.check_place()
        with self._transaction():
            for row in rows:
                if isinstance(row, Kept):
                    self._db.execute(_KEEP, row)
                elif isinstance(row, Appended):
                    self._append(row)
                else:
                    self._db.execute("DELETE FROM sessions WHERE id = ?", (row,))

    def set_aside(self, id: str, why: str, now: float) -> bool:
        """Move a record that cannot be read into the table ``damaged``; return whether it was there."""
        with self._transaction():
            moved = self._db.execute(
                "INSERT INTO damaged (id, record, why, found) SELECT id, record, ?, ? FROM sessions WHERE id = ?",
                (why, now, id),
            )
            self._db.execute("DELETE FROM sessions WHERE id = ?", (id,))
            self._db.execute("DELETE FROM damaged WHERE place <= (SELECT max(place) FROM damaged) - ?", (KEEP_DAMAGED,))
        return moved.rowcount > 0

    def _append(self, row: Appended) -> None:
        if row.instead:
            self._db.execute("DELETE FROM events WHERE id = ?", (row.id,))
        for event in row.events:
            values = {"id": row.id, "stream": event.stream, "number": event.number, "data": event.data}
            self._db.execute(_APPEND, values)
        self._db.execute(_TRIM, {"id": row.id, "bytes": self._keep_bytes, "count": self._keep})

    def check_place(self) -> None:
        """Whoever removed the file, or put another one into its place, wants this one gone; nobody would read it."""
        if self.path.stat().st_ino != self._inode:
            raise FileNotFoundError(2, "was replaced while it was in use", str(self.path))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with _damage():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise


def discard(path: Path) -> None:
    """Remove a database, if there is one."""
    for tail in (*_TAILS, ""):
        path.with_name(f"{path.name}{tail}").unlink(missing_ok=True)


def finish(directory: Path) -> None:
    """The new database is whole: whatever happens, it will take the place of the damaged one."""
    (directory / RESCUING).rename(directory / _RESCUED)


def is_rescued(directory: Path) -> bool:
    """Whether a database that is whole is not in its place yet."""
    return (directory / _RESCUED).exists()


def put_in_place(directory: Path) -> Path:
    """Let it take the place of the damaged one, which is renamed with its log; return the new name of that. It may be
    done again, when whoever did it was killed on the way.
    """
    aside = _move_aside(directory / NAME)
    (directory / _RESCUED).rename(directory / NAME)
    return aside


def _move_aside(path: Path) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    names = (path.with_name(f"{NAME}.damaged-{stamp}{f'-{n}' if n else ''}") for n in range(1000))
    aside = next(name for name in names if not name.exists())
    for tail in (*_TAILS, ""):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(f"{NAME}{tail}").rename(f"{aside}{tail}")
    return aside


def rescue(damaged: Path) -> list[Kept]:
    """Return the records that can still be read: from both ends up to the first page that cannot.

    Raises sqlite3.Error where that is not for what is in the file: then nobody knows what could be read.
    """
    found: dict[str, Kept] = {}
    with contextlib.closing(sqlite3.connect(damaged, timeout=LOCK_WAIT, isolation_level=None)) as db:
        for ask in _FROM_BOTH_ENDS:
            try:
                db.execute("PRAGMA locking_mode = EXCLUSIVE")  # it needs no file beside it then
                for id, data in db.execute(ask):
                    with contextlib.suppress(Damaged):
                        record = from_json(_bytes(data))
                        if record.id == id:
                            found[id] = Kept(id, data, record.expires())
            except sqlite3.Error as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF in _NOT_DAMAGE:
                    raise
    return list(found.values())


@contextlib.contextmanager
def _damage() -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise DamagedFile(str(error)) from None
        raise


def _bytes(value: object) -> bytes:
    """Damage can turn a blob into anything."""
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")
