"""Ends idle sessions sooner while a resource runs out, before the bridge has to refuse everyone.

A resource above its high mark puts the bridge under pressure until it is below its low mark. Under pressure every look
halves the idle times that count, down to an eighth; where memory or descriptors run out, the least recently used idle
sessions give up what they hold as well: temporary ones end, kept ones are parked. No session in use is touched.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bridge.process.pressure import Reading
from bridge.protocol.states import SessionState
from bridge.sessions.pool import SessionPool
from bridge.sessions.reaper import Sleep
from bridge.sessions.room import SessionEntry, is_temporary
from bridge.sessions.seating import Seating
from bridge.sessions.streamable import StreamableSession

log = logging.getLogger(__name__)

#: Seconds between two looks.
INTERVAL = 5.0
#: The least part of its idle time that a session gets.
LEAST = 1 / 8
#: The part of the idle sessions that goes at one look.
PORTION = 10


@dataclass(frozen=True, slots=True)
class Resource:
    """What may run out. Marks are shares from 0 to 1. ``sheds``: sessions go one by one, whatever their idle time."""

    read: Callable[[], Reading]
    high: float
    low: float
    sheds: bool


class Relief:
    """Looks at resources, and ends sessions of one pool with ``end``."""

    def __init__(
        self,
        pool: SessionPool[StreamableSession],
        seating: Seating,
        resources: Sequence[Resource],
        end: Callable[[SessionEntry, str], object],
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._pool = pool
        self._seating = seating
        self._resources = resources
        self._end = end
        self._sleep = sleep
        self._pressed: dict[Resource, str] = {}

    @property
    def reasons(self) -> list[str]:
        """What is running out, in words."""
        return list(self._pressed.values())

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await self._sleep(INTERVAL)
            try:
                self.look()
            except Exception:
                log.exception("looking at resources failed; it goes on")

    def look(self) -> None:
        """Find out what runs out, and do something about it."""
        was_pressed = bool(self._pressed)
        for resource in self._resources:
            reading = resource.read()
            if reading.share >= (resource.low if resource in self._pressed else resource.high):
                self._pressed[resource] = reading.text
            else:
                self._pressed.pop(resource, None)
        if not self._pressed:
            if was_pressed:
                log.info("There is room again: idle times count in full")
            self._pool.ttl_scale = 1.0
            return
        if self._pool.ttl_scale > LEAST:
            self._pool.ttl_scale /= 2
            log.warning(
                "Running out: %s in use; sessions end after 1/%.0f of their idle time",
                ", ".join(self.reasons),
                1 / self._pool.ttl_scale,
            )
        if any(resource.sheds for resource in self._pressed):
            self._shed()

    def _shed(self) -> None:
        idle = [entry for entry in self._pool.entries() if entry.in_use == 0 and self._can_give(entry)]
        idle.sort(key=lambda entry: (entry.session.works, entry.last_used))
        why = f"the bridge ran out: {', '.join(self.reasons)} in use"
        for entry in idle[: max(1, len(idle) // PORTION)]:
            if is_temporary(entry):
                self._pool.reaped["pressure"] += 1
                log.info("Session ended session_id=%s: %s", entry.session.label, why)
                self._end(entry, why)
            else:
                self._seating.park(entry, why)

    def _can_give(self, entry: SessionEntry) -> bool:
        """Whether a session has something to give up, and may."""
        if is_temporary(entry):
            return entry.state is SessionState.IDLE or entry.state is SessionState.DORMANT
        return entry.state is SessionState.IDLE and self._seating.may_park(entry)
