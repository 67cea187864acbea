"""Sessions in Redis that several nodes share: each has one owner, and only that one writes it.

The owner of a session lies beside it as ``FENCE NODE.EPOCH``, with the same expiry, and is written by the same script,
so that it costs nothing more. The fence grows with each node that takes the session, and tells a node that slept
through that from the one that has it now, and from the one that has ended it. A node is alive for as long as its lease
is there (``cluster/lease``).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass

from bridge.config.redis_address import RedisAddress
from bridge.stores.record import Change, Delete, Event, Save, SessionRecord, StoreUnavailable, Unwritable
from bridge.stores.redis import RedisStore, cluster_prefix
from bridge.stores.redis_batch import NOBODY, Batch, Hold, read_event
from bridge.stores.redis_link import WrongType

#: Seconds that any call may take: a request waits for a session that is taken over.
PATIENCE = 0.5

#: Keys: owner, session, events. Arguments: who takes it, where leases lie. Returns who has it, and where that is the
#: one who asks: the new fence, who has lost it, record and events. Nothing where there is no such session. While nodes
#: come back to a Redis that was away, nobody has lost anything yet.
_TAKE = """
local held, data = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])
local fence, who = 0, 'a node that was lost.'
if held then fence, who = held:match('^(%d+) (.*)$') end
if who:match('^x ') then return {} end
if who ~= '-' and who ~= ARGV[1] then
  local node, epoch = who:match('^(.*)%.([^.]*)$')
  local lease = redis.call('GET', ARGV[2] .. 'node:' .. (node or ''))
  if data and lease and lease:match('^(%S*)') == epoch then return {who} end
  if redis.call('EXISTS', ARGV[2] .. 'settling') == 1 then return {'-'} end
end
if not data then return {} end
fence = tonumber(fence) + 1
local left = redis.call('PTTL', KEYS[2])
if left > 0 then
  redis.call('SET', KEYS[1], fence .. ' ' .. ARGV[1], 'PX', left)
else
  redis.call('SET', KEYS[1], fence .. ' ' .. ARGV[1])
end
return {ARGV[1], fence, who, data, unpack(redis.call('LRANGE', KEYS[3], 0, -1))}
"""


@dataclass(frozen=True, slots=True)
class Taken:
    """A session that is ours from now on. ``lost_by``: the node that ended without giving it up."""

    record: SessionRecord
    events: list[Event]
    lost_by: str | None


class OwnedRedisStore(RedisStore):
    """The sessions of ``node`` (``NODE.EPOCH``) among those of all nodes."""

    def __init__(
        self,
        address: RedisAddress,
        prefix: str,
        node: str,
        *,
        clock: Callable[[], float] = time.time,
        patience: float = PATIENCE,
    ) -> None:
        super().__init__(address, prefix, clock=clock, patience=patience)
        self._node = node
        self._cluster = cluster_prefix(prefix)
        self._fences: dict[str, int] = {}
        self._released: set[str] = set()
        #: Called with the id of a session that another node has taken.
        self.on_lost: Callable[[str], object] = _nothing

    async def look(self) -> None:
        """Nothing to do: the lease is renewed more often than anybody would look, and sees all of it."""

    async def scan(self) -> AsyncIterator[SessionRecord]:
        """Yield nothing: a session is taken when somebody asks for it, and not before."""
        return
        yield

    async def write(self, changes: Sequence[Change]) -> None:
        """Make the changes to sessions that are still ours, all at once.

        Raises :class:`Unwritable` where one cannot be made whatever is tried; others can be made without it.
        """
        if not changes:
            return
        batch = Batch(self._clock(), self._keep, self._keep_bytes, self._node)
        ids = [change.record.id if isinstance(change, Save) else change.id for change in changes]
        for id, change in zip(ids, changes, strict=True):
            owner = NOBODY if id in self._released else self._node
            hold = Hold(self._owner_key(id), self._fences.get(id, 1), owner)
            batch.add(change, self._prefix + id, self._events_prefix + id, hold)
        try:
            refused = await self._link.ask(batch.run)
        except WrongType as error:  # of an owner: all else is written whatever is there
            raise Unwritable(str(error)) from None
        for id in dict.fromkeys(ids[place] for place in refused):
            if id not in self._released:
                self._fences.pop(id, None)
                self.on_lost(id)
        for change in changes:
            if isinstance(change, Delete):
                self._fences.pop(change.id, None)

    def release(self, id: str) -> None:
        """Give a session up with its next record: any node may take it then."""
        self._released.add(id)

    async def take(self, id: str) -> Taken | str | None:
        """Make a session ours whose owner is gone, by one compare-and-set. Return it; or who has it, where that node
        is alive; or None, where there is no such session. Raises :class:`StoreUnavailable`, also while it cannot be
        known because leases are missing after Redis was away.
        """
        keys = (self._owner_key(id), self._prefix + id, self._events_prefix + id)
        self._link.open()  # a request may come before the store has been opened
        found = await self._link.ask(lambda client: client.eval(_TAKE, len(keys), *keys, self._node, self._cluster))
        if found == [NOBODY.encode()]:
            raise StoreUnavailable("it was away, and nodes are still coming back to it")
        if len(found) < 2:
            return found[0].decode() if found else None
        _, fence, who, data, *items = found
        record = self._read(id, data)
        if record is None:
            return None
        self._fences[id] = int(fence)
        self._released.discard(id)
        lost_by = None if who.decode() in (NOBODY, self._node) else who.decode()
        return Taken(record, [event for event in map(read_event, items) if event is not None], lost_by)

    async def moved(self, ids: Iterable[str]) -> list[str]:
        """Return which of these sessions another node has, or has ended. Raises :class:`StoreUnavailable`."""
        asked = list(ids)
        found = await self._mget([self._owner_key(id).encode() for id in asked])
        ours = self._node.encode()
        return [id for id, held in zip(asked, found, strict=True) if held and held.partition(b" ")[2] != ours]

    def _owner_key(self, id: str) -> str:
        return f"{self._cluster}owner:{id}"


def _nothing(_: object) -> None:
    """Nobody wants to know."""
