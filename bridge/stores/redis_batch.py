"""A batch of changes as one script: Redis runs it as a whole, and answers once.

One command, because a transaction has two for each session and an answer to each: 10 000 sessions that are saved when a
server comes back would hold up the event loop for half a second. A script, because only there it is known what a list
of events holds when a call has failed and is made again. Redis refuses a script (no memory, no disk, a replica) at its
first command that writes, so that nothing of it is done.

Where several nodes share the sessions, a third key of each says who has it: ``FENCE NODE``. A node that has lost a
session, and does not know it yet, changes nothing of it any longer; it is told. What several have had, one after the
other, leaves a grave when it ends, ``FENCE x NODE``: whoever has slept through all of it must not bring it back.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from redis.asyncio import Redis

from bridge.stores.record import Append, Change, Event, Save

#: Longest expiry in milliseconds (100 years): beyond 2**63 Redis refuses.
LONGEST = 100 * 365 * 24 * 3600 * 1000

#: In place of a node: the session is free to be taken by any.
NOBODY = "-"

#: Two keys per change, of the session and of its events, and its owner where there are nodes; the arguments are words
#: that are read one after the other. Returns which changes were those of somebody else's session.
_SCRIPT = """
local place, most, most_bytes, me = 3, tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local step, lost = me == '' and 2 or 3, {}
local function word()
  place = place + 1
  return ARGV[place]
end

local function save(session, events, left, data)
  if left == 'never' then
    redis.call('SET', session, data)
    redis.call('PERSIST', events)
  else
    redis.call('SET', session, data, 'PX', left)
    redis.call('PEXPIRE', events, left)
  end
end

local function append(session, events, count)
  local left = redis.call('PTTL', session)
  if left == -2 then
    place = place + count
    return
  end
  if redis.call('TYPE', events).ok ~= 'list' then redis.call('DEL', events) end
  local reached, sizes, total = {}, {}, 0
  for i, item in ipairs(redis.call('LRANGE', events, 0, -1)) do
    local stream, number, at = item:match('^(%d+) (%d+) ()')
    if stream then reached[stream] = tonumber(number) end
    sizes[i] = #item + 1 - (at or 1)
    total = total + sizes[i]
  end
  for _ = 1, count do
    local item = word()
    local stream, number, at = item:match('^(%d+) (%d+) ()')
    if tonumber(number) > (reached[stream] or -1) then
      redis.call('RPUSH', events, item)
      sizes[#sizes + 1] = #item + 1 - at
      total = total + sizes[#sizes]
    end
  end
  local drop = 0
  while #sizes - drop > most or total > most_bytes do
    drop = drop + 1
    total = total - sizes[drop]
  end
  if drop > 0 then redis.call('LTRIM', events, drop, -1) end
  if left == -1 then redis.call('PERSIST', events) else redis.call('PEXPIRE', events, left) end
end

local function is_ours(owner, fence)
  local held = redis.call('GET', owner)
  if not held then return true end
  local at, who = held:match('^(%d+) (.*)$')
  return who == me or who == 'x ' .. me or (tonumber(at) or 0) < fence
end

local grave = 24 * 3600 * 1000  -- milliseconds: longer than any node sleeps and is let go on
local function bury(owner, fence)
  local at = math.max(tonumber((redis.call('GET', owner) or ''):match('^%d+')) or 0, fence)
  if at > 1 then
    redis.call('SET', owner, at .. ' x ' .. me, 'PX', grave)
  else
    redis.call('DEL', owner)  -- nobody else has ever had it
  end
end

for i = 1, #KEYS, step do
  local session, events, owner, what = KEYS[i], KEYS[i + 1], KEYS[i + 2], word()
  local ours, fence, who = true, '', ''
  if step == 3 then
    fence, who = word(), word()
    ours = is_ours(owner, tonumber(fence))
    if not ours then lost[#lost + 1] = (i - 1) / 3 end
  end
  if what == 'save' then
    local left, data = word(), word()
    if ours then
      save(session, events, left, data)
      if step == 3 and left == 'never' then redis.call('SET', owner, fence .. ' ' .. who) end
      if step == 3 and left ~= 'never' then redis.call('SET', owner, fence .. ' ' .. who, 'PX', left) end
    end
  elseif what == 'delete' then
    if ours then redis.call('DEL', session, events) end
    if ours and step == 3 then bury(owner, tonumber(fence)) end
  else
    local count = tonumber(word())
    if ours then
      if what == 'instead' then redis.call('DEL', events) end
      append(session, events, count)
    else
      place = place + count
    end
  end
end
return lost
"""


class Hold(NamedTuple):
    """By what right a node changes a session: the key of its owner, the fence it was got with, who has it then."""

    key: str
    fence: int
    owner: str


class Batch:
    """Changes at ``now`` on the wall clock, with the bounds of the events of a session. ``node``: who makes them, where
    there are several.
    """

    def __init__(self, now: float, keep: int, keep_bytes: int, node: str = "") -> None:
        self._now = now
        self._keep = keep
        self._keep_bytes = keep_bytes
        self._keys: list[str] = []
        self._words: list[Any] = [keep, keep_bytes, node]

    def add(self, change: Change, session: str, events: str, hold: Hold | None = None) -> None:
        """Add a change of the session under two keys; of a node, by its ``hold``.

        Raises :class:`Unwritable` for a record that cannot be JSON.
        """
        self._keys += (session, events)
        right: tuple[Any, ...] = ()
        if hold is not None:
            self._keys.append(hold.key)
            right = hold.fence, hold.owner
        if isinstance(change, Save):
            data, expires = change.record.to_json(), change.record.expires()
            left = LONGEST if expires is None else math.ceil(min((expires - self._now) * 1000, LONGEST))
            if left > 0:
                self._words += ("save", *right, "never" if expires is None else left, data)
            else:
                self._words += ("delete", *right)
        elif isinstance(change, Append):
            cut, kept = change.newest(self._keep, self._keep_bytes)
            self._words += ("instead" if cut else "append", *right, len(kept))
            self._words += (b"%d %d %b" % (event.stream, event.number, event.data) for event in kept)
        else:
            self._words += ("delete", *right)

    async def run(self, client: Redis) -> list[int]:
        """Make the changes; return which of them were not made, because another node has the session."""
        return await client.eval(  # type: ignore[no-any-return]
            _SCRIPT, len(self._keys), *self._keys, *self._words
        )


def read_event(item: bytes) -> Event | None:
    """Return an event as it lies in a list; None for what is none."""
    stream, _, rest = item.partition(b" ")
    number, blank, data = rest.partition(b" ")
    return Event(int(number), int(stream), data) if blank and stream.isdigit() and number.isdigit() else None
