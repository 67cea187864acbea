"""What survives a restart, and what every store can do with it.

A store is told of changes, in order and in batches; each batch is written whole or not at all, and may be written
again after a failure that leaves open which of the two it was: every change is idempotent. An id that has ended, by
:class:`Delete` or by its TTL, is not used again.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import msgspec

#: Events and their bytes that are kept of one session: less than a live backlog has, for 10 000 sessions share a store.
KEEP_EVENTS = 256
KEEP_BYTES = 1024 * 1024


class StoreUnavailable(Exception):
    """A store cannot be read or written now. The text says why, without credentials; trying again later may help."""


class Damaged(Exception):
    """What a store holds is no record of ours. The text says why, and nothing of what it holds."""


class Unwritable(ValueError):
    """A session that cannot be written, though its store works. The text says why."""


class SessionRecord(msgspec.Struct, kw_only=True):
    """What survives a restart. Never tool arguments, tokens or secrets. Times are wall clock, in seconds."""

    id: str
    server: str
    config: str  # digest of the server's entry in servers.json
    version: str | None  # of the protocol, as negotiated; None until initialized
    initialize: msgspec.Raw | None  # params of the client's initialize request as they came; None until it is sent
    initialized: bool  # whether notifications/initialized was sent
    level: str | None  # of the last logging/setLevel
    subscriptions: list[str]  # uris of resources/subscribe
    owner: str  # digest of the principal
    created: float
    touched: float
    ttl: float | None  # idle seconds; None means never
    metadata: dict[str, Any]
    last_event: int = 0  # number of the last event that was sent

    def __repr__(self) -> str:
        return f"<SessionRecord of {self.server}, touched {self.touched:.0f}, ttl {self.ttl}>"

    def expires(self) -> float | None:
        """Return when it ends, None for never."""
        return None if self.ttl is None else self.touched + self.ttl

    def expired(self, now: float) -> bool:
        """Whether it has ended at ``now``."""
        expires = self.expires()
        return expires is not None and expires <= now

    def to_json(self) -> bytes:
        """Return it as a JSON object. Raises :class:`Unwritable` when its metadata hold what JSON cannot."""
        try:
            return _encode(self)
        except (TypeError, ValueError, RecursionError) as error:
            raise Unwritable(f"the metadata of the session cannot be JSON: {error}") from None


class _Stored(SessionRecord, kw_only=True):
    initialize: msgspec.Raw  # msgspec reads Raw only where nothing else is possible


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Stored).decode


def from_json(data: bytes) -> SessionRecord:
    """Read what :meth:`SessionRecord.to_json` wrote; fields of a newer version are ignored. Raises :class:`Damaged`."""
    try:
        stored = _decode(data)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise Damaged(str(error)) from None
    except RecursionError:
        raise Damaged("JSON is nested too deeply") from None
    found = {name: getattr(stored, name) for name in SessionRecord.__struct_fields__}
    # A copy, because a Raw holds on to all the bytes that it was read from.
    found["initialize"] = None if bytes(stored.initialize) == b"null" else stored.initialize.copy()
    return SessionRecord(**found)


class Event(msgspec.Struct, frozen=True):
    """One event of an event stream: its number there, the number of the stream in its session, and its message.

    The numbers of one stream only grow.
    """

    number: int
    stream: int
    data: bytes


def newest(events: Sequence[Event], most: int, most_bytes: int) -> Sequence[Event]:
    """Return the last events that stay within both bounds; none, when the last one alone is larger."""
    sizes = itertools.accumulate(len(event.data) for event in reversed(events))
    fit = sum(1 for _ in itertools.takewhile(lambda size: size <= most_bytes, itertools.islice(sizes, most)))
    return events[len(events) - fit :]


@dataclass(frozen=True, slots=True)
class Save:
    """Keep a session as it is now: new, changed, or used (which moves its end)."""

    record: SessionRecord


@dataclass(frozen=True, slots=True)
class Delete:
    """Forget a session and its events. One that is not kept is no error."""

    id: str


@dataclass(frozen=True, slots=True)
class Append:
    """Keep events of a session that is kept; the oldest are forgotten over the bounds. Without it nothing happens.

    What is kept has no gaps: it is always the last events. An event is a repetition, and ignored, when its stream has
    one with its number or a higher one.
    """

    id: str
    events: tuple[Event, ...]

    def newest(self, most: int, most_bytes: int) -> tuple[bool, Sequence[Event]]:
        """Return the last of the events that stay within both bounds, and whether these take the place of all others.

        They do when some are left out: there would be a gap between what was kept before and them.
        """
        kept = newest(self.events, most, most_bytes)
        return len(kept) < len(self.events), kept


Change: TypeAlias = Save | Delete | Append


class SessionStore(Protocol):
    """A place where sessions are kept. Every call but ``close`` raises :class:`StoreUnavailable` when it cannot."""

    name: str

    async def open(self) -> None:
        """Get ready for use. May be called again, after a failure or to find out whether it is over."""

    async def close(self) -> None:
        """Let go of what it holds. It may be opened again."""

    async def ping(self) -> None:
        """Return when it works."""

    async def look(self) -> None:
        """Return when it is there and nobody has taken from it what it had since it was opened; writes nothing."""

    async def load(self, id: str) -> SessionRecord | None:
        """Return a session; None for one that is not kept, has expired, or is damaged (which is logged once)."""

    def scan(self) -> AsyncIterator[SessionRecord]:
        """Yield every session that has not expired, in any order; changes during the scan may show or not."""

    async def events(self, id: str) -> list[Event]:
        """Return the kept events of a session that has not expired, oldest first."""

    async def write(self, changes: Sequence[Change]) -> None:
        """Make all the changes, or none. Records are read before this first waits, so they may change afterwards.

        Raises :class:`Unwritable` for a record that cannot be JSON, before anything is written, and where something
        else is in the place of a session. Those beside it can be written without it.
        """
