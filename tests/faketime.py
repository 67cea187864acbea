"""A clock that only moves when a test says so."""

from __future__ import annotations

import asyncio


class FakeTime:
    """``clock()`` for whoever asks the time, ``sleep()`` for whoever waits."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now + seconds, future))
        await future

    async def advance(self, seconds: float) -> None:
        """Let time pass; whoever wakes meanwhile runs at the moment it has waited for."""
        end = self.now + seconds
        await _settle()
        while due := [sleeper for sleeper in self._sleepers if sleeper[0] <= end]:
            sleeper = min(due, key=lambda each: each[0])
            self._sleepers.remove(sleeper)
            self.now = sleeper[0]
            if not sleeper[1].done():
                sleeper[1].set_result(None)
            await _settle()
        self.now = end


async def _settle() -> None:
    """Let everything run that can run without time passing."""
    for _ in range(10):
        await asyncio.sleep(0)
