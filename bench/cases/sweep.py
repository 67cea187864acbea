"""How long the reaper keeps the event loop busy with 10 000 sessions."""

from __future__ import annotations

import asyncio
import logging
import statistics
import time

from bench.report import Table
from bench.series import number
from bench.suite import Suite
from bridge.sessions.pool import SessionPool
from bridge.sessions.reaper import STREAM_WORDS, Reaper

SESSIONS = 10_000
TTL = 300.0


class _Session:
    """What the reaper needs of a session; its end costs nothing, because children are another question."""

    server = "bench"
    label = "session"

    async def close(self, why: str) -> None:
        """Nothing to give back."""


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def run(suite: Suite) -> None:
    """Sweep, with nothing and with everything expired."""
    logging.getLogger("bridge").setLevel(logging.WARNING)
    results = {}
    for expired, name in ((0, "none has expired"), (100, "100 have expired"), (SESSIONS, "all have expired")):
        times = [asyncio.run(_sweep(expired)) for _ in range(3 if suite.quick else 15)]
        results[name] = times
    note = "The longest time for which nothing else could run; the sessions have no children, whose end is waited for."
    table = Table(f"A sweep of {SESSIONS} sessions", note, ("", "median ms", "worst ms"))
    for name, times in results.items():
        table.rows.append((name, number(statistics.median(times)), number(max(times))))
    suite.table(table)
    suite.see("sweep.time", max(statistics.median(times) for times in results.values()))


async def _sweep(expired: int) -> float:
    """The longest turn of the event loop during a sweep, in milliseconds."""
    clock = _Clock()
    pool: SessionPool[_Session] = SessionPool("bench", clock, SESSIONS)
    reaper = Reaper(pool, STREAM_WORDS, ttl=TTL, interval=TTL / 3, enabled=True)
    for i in range(SESSIONS):
        clock.now = 0.0 if i < expired else TTL
        pool.opened(pool.add(str(i), _Session(), TTL))
    clock.now = TTL + 1
    sweep = asyncio.create_task(reaper.sweep())
    longest, last = 0.0, time.perf_counter()
    while not sweep.done():
        await asyncio.sleep(0)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    assert await sweep == expired
    assert len(pool) == SESSIONS - expired
    return longest * 1000
