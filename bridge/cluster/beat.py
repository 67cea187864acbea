"""What a node tells Redis each third of its lease, and hears of the others: one script, one answer, no SCAN.

* ``node:NAME`` is a lease: ``EPOCH JSON``, which expires. ``nodes`` is the set of all names, so that none is searched.
* ``alive`` expires with the last lease. Where it is missing, Redis was away, or was started empty, and nodes that live
  have not come back to it yet: ``settling`` stands for the length of a lease, and until then nobody is lost.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from redis.asyncio import Redis

from bridge.cluster.ids import Birth
from bridge.cluster.members import Member

#: Keys: lease, nodes, alive, settling. Arguments: name, epoch, what is said, milliseconds, where leases lie, whether to
#: name all. Returns who has the lease; whether it had run out; whether nodes still come back; names; values.
_SCRIPT = """
local held = redis.call('GET', KEYS[1])
local epoch = held and held:match('^(%S*)')
if held and epoch ~= ARGV[2] then return {epoch} end
redis.call('SET', KEYS[1], ARGV[2] .. ' ' .. ARGV[3], 'PX', ARGV[4])
redis.call('SADD', KEYS[2], ARGV[1])
if not redis.call('SET', KEYS[3], '1', 'PX', ARGV[4], 'NX') then
  redis.call('PEXPIRE', KEYS[3], ARGV[4])
else
  redis.call('SET', KEYS[4], '1', 'PX', ARGV[4])
end
local names, values = {}, {}
if ARGV[6] == '1' then
  local all = redis.call('SMEMBERS', KEYS[2])
  for first = 1, #all, 1000 do  -- Lua cannot hand over more than some thousand at once
    local leases = {}
    for i = first, math.min(first + 999, #all) do leases[#leases + 1] = ARGV[5] .. all[i] end
    for i, value in ipairs(redis.call('MGET', unpack(leases))) do
      local name = all[first + i - 1]
      if value then
        names[#names + 1], values[#values + 1] = name, value
      else
        redis.call('SREM', KEYS[2], name)
      end
    end
  end
end
return {epoch or '', held and 0 or 1, redis.call('EXISTS', KEYS[4]), names, values}
"""
#: Gives a lease back, unless somebody else has it.
_LEAVE = """
local held = redis.call('GET', KEYS[1])
if held and held:match('^(%S*)') == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""


class About(msgspec.Struct):
    """What a node says of itself. ``takes``: it takes new sessions."""

    address: str
    children: int = 0
    takes: bool = True


class Known(NamedTuple):
    """A node that lives, and whether it takes new sessions."""

    member: Member
    takes: bool


class Heard(NamedTuple):
    """The answer. ``holder`` is the epoch of whoever has the lease, ours or not."""

    holder: int
    had_run_out: bool
    is_settling: bool
    members: dict[str, Known]  # by name


class Beats:
    """The keys under ``prefix``, as one node uses them. ``seconds`` is the length of a lease."""

    def __init__(self, prefix: str, birth: Birth, seconds: float) -> None:
        self._node = birth.node
        self._epoch = birth.epoch
        self._milliseconds = round(seconds * 1000)
        self._leases = f"{prefix}node:"
        self._keys = (f"{self._leases}{birth.node}", *(f"{prefix}{name}" for name in ("nodes", "alive", "settling")))

    async def beat(self, client: Redis, about: About, *, names_all: bool) -> Heard:
        """Renew the lease. ``names_all``: also hear who lives."""
        words = (self._node, self._epoch, msgspec.json.encode(about), self._milliseconds, self._leases, int(names_all))
        found = await client.eval(_SCRIPT, len(self._keys), *self._keys, *words)
        if len(found) == 1:
            return Heard(_number(found[0]), False, False, {})
        _, had_run_out, is_settling, names, values = found
        members = {name.decode(): _member(name.decode(), value) for name, value in zip(names, values, strict=True)}
        known = {name: member for name, member in members.items() if member is not None}
        return Heard(self._epoch, bool(had_run_out), bool(is_settling), known)

    async def leave(self, client: Redis) -> None:
        """Give the lease back at once."""
        await client.eval(_LEAVE, 1, self._keys[0], self._epoch)

    async def find(self, client: Redis, node: str) -> Known | None:
        """Look one node up."""
        value = await client.get(f"{self._leases}{node}")
        return _member(node, value) if isinstance(value, bytes) else None


def _member(node: str, value: bytes) -> Known | None:
    """None for what a node of ours has not written."""
    epoch, _, said = value.partition(b" ")
    try:
        about = msgspec.json.decode(said, type=About)
    except msgspec.MsgspecError:
        return None
    return Known(Member(node, _number(epoch), about.address, about.children), about.takes)


def _number(epoch: bytes) -> int:
    return int(epoch) if epoch.isdigit() else -1
