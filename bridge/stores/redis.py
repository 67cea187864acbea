"""Sessions in Redis: plain JSON under ``REDIS_PREFIX`` + id, which expires when the session does.

* ``SET`` without an expiry is a session that never ends (``TTL`` says -1); with one, each save sets it anew.
* Nothing else of ours lies under that prefix: events are lists under a prefix of their own.
* What lies under the prefix and is no record may belong to somebody else: it is reported and left alone.
"""

from __future__ import annotations

import functools
import logging
import math
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from bridge.config.redis_address import RedisAddress
from bridge.observe.ids import shorten
from bridge.stores.record import (
    KEEP_BYTES,
    KEEP_EVENTS,
    Change,
    Damaged,
    Event,
    Save,
    SessionRecord,
    StoreUnavailable,
    from_json,
)
from bridge.stores.redis_batch import Batch, read_event
from bridge.stores.redis_link import RedisLink, WrongType

log = logging.getLogger(__name__)

#: Keys that are asked for, and records that are read, at a time by a scan.
PAGE = 500
#: Keys that are no records and are reported by name.
REPORTED = 20


def events_prefix(prefix: str) -> str:
    """Return where the events of the sessions under ``prefix`` lie: never under ``prefix`` itself."""
    return _beside(prefix, "mcp_bridge_events:", "events_of_mcp_bridge:")


def cluster_prefix(prefix: str) -> str:
    """Return where nodes that share the sessions under ``prefix`` write down what they must agree on."""
    return _beside(prefix, "mcp_bridge_cluster:", "cluster_of_mcp_bridge:")


def _beside(prefix: str, name: str, other: str) -> str:
    return f"{other if name.startswith(prefix) else name}{prefix}"


class RedisStore:
    """The sessions under one prefix of a Redis database, which several bridges may share."""

    name = "redis"

    def __init__(
        self,
        address: RedisAddress,
        prefix: str,
        *,
        clock: Callable[[], float] = time.time,
        keep: int = KEEP_EVENTS,
        keep_bytes: int = KEEP_BYTES,
        patience: float = math.inf,
    ) -> None:
        self._link = RedisLink(address, patience)
        self._prefix = prefix
        self._events_prefix = events_prefix(prefix)
        self._clock = clock
        self._keep = keep
        self._keep_bytes = keep_bytes
        self._reported: set[str] = set()
        self._run = ""  # which run of Redis has answered

    def __repr__(self) -> str:
        return f"<RedisStore {self._link}>"

    async def open(self) -> None:
        """Connect and ask whether it answers. Connections that fail later are made again by themselves."""
        self._link.open()
        await self.ping()
        self._run = await self._link.ask(_run_of)

    async def close(self) -> None:
        """Close every connection."""
        await self._link.close()

    async def ping(self) -> None:
        """Raise :class:`StoreUnavailable` when it does not answer."""
        await self._link.ask(lambda client: client.ping())

    async def look(self) -> None:
        """Raise :class:`StoreUnavailable` when it does not answer, or was started anew: a client that is idle does not
        see that, and connects again by itself.
        """
        if await self._link.ask(_run_of) != self._run:
            raise StoreUnavailable(f"{self._link.address}: it was started anew, and may have lost what it had")

    async def load(self, id: str) -> SessionRecord | None:
        """Return a session that has not expired."""
        [data] = await self._link.ask(lambda client: client.mget([self._prefix + id]))
        return self._read(id, data)

    async def scan(self) -> AsyncIterator[SessionRecord]:
        """Yield what has not expired. Redis may find a key twice; here it is yielded once."""
        pattern = re.sub(r"[*?\[\]\\]", r"\\\g<0>", self._prefix) + "*"
        seen: set[bytes] = set()
        cursor, began = 0, False
        while cursor or not began:
            began = True
            ask = functools.partial(_scan, cursor=cursor, pattern=pattern)
            cursor, found = await self._link.ask(ask)
            keys = [key for key in dict.fromkeys(found) if key not in seen]
            seen.update(keys)
            for key, data in zip(keys, await self._mget(keys), strict=True):
                record = self._read(key[len(self._prefix.encode()) :].decode(errors="replace"), data)
                if record is not None:
                    yield record

    async def events(self, id: str) -> list[Event]:
        """Return the kept events of a session, oldest first."""
        if await self.load(id) is None:
            return []
        try:
            items = await self._link.ask(lambda client: client.lrange(self._events_prefix + id, 0, -1))
        except WrongType:  # it is replaced with the next event
            return []
        return [event for event in map(read_event, items) if event is not None]

    async def write(self, changes: Sequence[Change]) -> None:
        """Make the changes, all at once."""
        if not changes:
            return
        batch = Batch(self._clock(), self._keep, self._keep_bytes)
        for change in changes:
            id = change.record.id if isinstance(change, Save) else change.id
            batch.add(change, self._prefix + id, self._events_prefix + id)
        await self._link.ask(batch.run)

    def _read(self, id: str, data: bytes | None) -> SessionRecord | None:
        if data is None:
            return None
        try:
            record = from_json(data)
            if record.id != id:
                raise Damaged("it is the record of another session")
        except Damaged as damaged:
            self._report(id, damaged)
            return None
        return None if record.expired(self._clock()) else record

    def _report(self, id: str, damaged: Damaged) -> None:
        if id in self._reported or len(self._reported) > REPORTED:
            return
        self._reported.add(id)
        if len(self._reported) > REPORTED:
            log.warning("more keys under %s are no records; they are left alone and not reported", self._prefix)
            return
        log.warning(
            "%s: %s%s is damaged or not ours, and is left alone: %s",
            self._link.address,
            self._prefix,
            shorten(id),
            damaged,
        )

    async def _mget(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """A key that holds something else than a string has no value here."""
        return await self._link.ask(lambda client: client.mget(keys)) if keys else []


async def _run_of(client: Redis) -> str:
    """Return which run of Redis answers; the same for all of those that may not say so, or cannot."""
    try:
        return str((await client.info("server")).get("run_id"))
    except ResponseError:
        return ""


async def _scan(client: Redis, cursor: int, pattern: str) -> Any:
    return await client.scan(cursor, pattern, PAGE)
