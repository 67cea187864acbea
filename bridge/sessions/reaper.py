"""Ends expired entries of a pool every TTL/3, or never.

The shortest TTL counts: a session that comes in with a shorter one of its own has the next look sooner, for as long as
it is there.

Deciding what has expired and taking it out of the pool is one synchronous step, so a request cannot arrive in between;
closing what was taken comes after and may wait for processes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic

from bridge.aio.first import any_of
from bridge.sessions.pool import Entry, SessionPool, T

log = logging.getLogger(__name__)

#: Seconds between two looks, at least, whatever the TTL of a single session.
SHORTEST = 0.25

#: Sessions that are ended at once, before calls get their turn.
AT_ONCE = 100

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class PoolWords:
    """How one pool is spoken of in the log. Operators grep for these lines: they are part of the contract."""

    title: str  # at the start of a line
    plural: str
    singular: str


BRIDGE_WORDS = PoolWords("Bridge", "bridge client(s)", "bridge client")
STREAM_WORDS = PoolWords("Streamable", "streamable session(s)", "streamable session")


class Reaper(Generic[T]):
    """The only one who ends a session for its age. ``interval`` and ``ttl`` are seconds.

    With ``fixed``, the interval stays what it is.
    """

    def __init__(
        self,
        pool: SessionPool[T],
        words: PoolWords,
        *,
        ttl: float | None,
        interval: float | None,
        enabled: bool,
        fixed: bool = False,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._pool = pool
        self._words = words
        self._ttl = ttl
        self._interval = self._usual = interval
        self._enabled = pool.is_reaped = enabled
        self._sleep = sleep
        self._fixed = fixed
        self._shortened = asyncio.Event()
        pool.on_ttl = self._consider

    def announce(self) -> None:
        """Say at the start what will happen."""
        if not self._enabled:
            log.warning(
                "%s session cleanup is DISABLED - sessions will not be automatically cleaned up", self._words.title
            )
            return
        ttl = "never" if self._ttl is None else f"{self._ttl * 1000:.0f}ms"
        interval = "none" if self._interval is None else f"{self._interval * 1000:.0f}ms"
        log.info("%s session cleanup enabled (interval: %s, TTL: %s)", self._words.title, interval, ttl)

    def _consider(self, ttl: float | None) -> None:
        if ttl is None or self._fixed:
            return
        interval = _interval_for(ttl)
        if self._interval is not None and interval >= self._interval:
            return
        self._interval = interval
        self._shortened.set()

    def _lengthen(self) -> None:
        """Look as seldom again as what is there allows: a client may have asked for less, and have gone."""
        if self._interval == self._usual:
            return
        found = [_interval_for(entry.ttl) for entry in self._pool.entries() if entry.ttl is not None]
        if self._usual is not None:
            found.append(self._usual)
        self._interval = min(found, default=None)

    async def run(self) -> None:
        """Sweep for ever; returns at once when it is switched off."""
        while self._enabled:
            await self._pause()
            try:
                await self.sweep()
            except Exception:
                log.exception("%s session cleanup failed; it goes on", self._words.title)
            self._lengthen()

    async def _pause(self) -> None:
        """Sleep for one interval; begin anew when that gets shorter."""
        while True:
            self._shortened.clear()
            waits: list[Awaitable[object]] = [self._shortened.wait()]
            if self._interval is not None:
                waits.append(self._sleep(self._interval))
            await any_of(*waits)
            if not self._shortened.is_set():
                return

    async def sweep(self) -> int:
        """End what has expired, some at a time so that calls get their turn; return how many that were."""
        count = self._pool.count_expired()
        if not count:
            log.debug("No expired sessions to clean up total_sessions=%d", len(self._pool))
            return 0
        log.info("Cleaning up %d expired %s", count, self._words.plural)
        ended = 0
        closing: list[list[Awaitable[None]]] = []
        while expired := self._pool.take_expired(AT_ONCE):
            ended += len(expired)
            closing.append([self._close(entry) for entry in expired])
            await asyncio.sleep(0)
        outcomes = [outcome for each in closing for outcome in await asyncio.gather(*each, return_exceptions=True)]
        for outcome in outcomes:
            if outcome is not None:
                raise outcome
        return ended

    def _close(self, entry: Entry[T]) -> Awaitable[None]:
        idle = self._pool.idle_for(entry)
        log.debug("Closing %s %s (idle for %.0fs)", self._words.singular, entry.session.label, idle)
        return asyncio.ensure_future(entry.session.close(f"idle for {idle:.0f}s"))


def _interval_for(ttl: float) -> float:
    """Seconds between two looks that a session needs."""
    return max(ttl / 3, SHORTEST)
