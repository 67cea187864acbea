"""Looks after sessions that nobody ends: stops children that idle, writes when kept sessions were last used.

A client may ask for a shorter time to live than any server has. Such sessions are written sooner, and they alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable

from bridge.aio.first import any_of
from bridge.protocol.states import SessionState
from bridge.sessions.kept import Kept
from bridge.sessions.pool import SessionPool
from bridge.sessions.reaper import SHORTEST, Sleep
from bridge.sessions.room import SessionEntry
from bridge.sessions.seating import Seating
from bridge.sessions.streamable import StreamableSession
from bridge.sessions.timing import Timing

log = logging.getLogger(__name__)


class Upkeep:
    """One look every :meth:`Timing.upkeep_interval`."""

    def __init__(
        self,
        pool: SessionPool[StreamableSession],
        seating: Seating,
        kept: Kept,
        timing: Timing,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._pool = pool
        self._seating = seating
        self._kept = kept
        self._timing = timing
        self._sleep = sleep
        self._interval = timing.upkeep_interval()
        self._shortest = self._enough = 3 * self._interval  # TTL that one look every interval is enough for
        self._shortened = asyncio.Event()
        kept.on_ttl = self._consider

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await self._sleep(self._interval)
            try:
                self.look()
            except Exception:
                log.exception("upkeep of sessions failed; it goes on")

    async def hurry(self) -> None:
        """Write what was used of sessions that cannot wait for the next look, for ever."""
        while True:
            self._shortened.clear()
            waits: list[Awaitable[object]] = [self._shortened.wait()]
            if self._shortest < self._enough:
                waits.append(self._sleep(max(self._shortest / 3, SHORTEST)))
            await any_of(*waits)
            if not self._shortened.is_set():
                try:
                    self._shortest = self._kept.sweep_brief(self._enough)
                except Exception:
                    log.exception("upkeep of sessions failed; it goes on")

    def _consider(self, ttl: float | None) -> None:
        if ttl is not None and ttl < self._shortest:
            self._shortest = ttl
            self._shortened.set()

    def look(self) -> int:
        """Park what idles, and write what was used; return how many children are stopped."""
        idle = [entry for entry in self._pool.entries() if self._is_idle(entry)]
        for entry in idle:
            self._seating.park(entry, f"idle for {self._pool.clock() - entry.last_used:.0f}s (idleStopMs)")
        self._kept.sweep()
        return len(idle)

    def _is_idle(self, entry: SessionEntry) -> bool:
        limit = self._timing.idle_stop(entry.session.server)
        return (
            limit is not None
            and entry.state in (SessionState.IDLE, SessionState.ACTIVE)
            and self._pool.clock() - entry.last_used >= limit
            and not entry.session.needs_child
            and self._seating.may_park(entry)
        )
