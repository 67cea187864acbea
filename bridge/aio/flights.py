"""One question for all who wait for its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Flights(Generic[K, V]):
    """Tasks by what they ask for. One goes on when those who wait have gone, because others may still come."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: dict[K, asyncio.Task[V]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, key: K) -> bool:
        return key in self._tasks

    async def join(self, key: K, ask: Callable[[], Awaitable[V]]) -> V:
        """Wait for the answer to the question of this key, which is asked now unless it is already.

        Raises what ``ask`` raises, to all who wait.
        """
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.create_task(_answer(ask), name=self._name)
            task.add_done_callback(lambda done: self._answered(key, done))
        return await asyncio.shield(task)

    async def settle(self) -> None:
        """Wait until all that is asked has an answer."""
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def cancel(self) -> None:
        """Ask nothing more."""
        for task in self._tasks.values():
            task.cancel()

    async def close(self) -> None:
        """Ask nothing more, and wait for the end of that."""
        self.cancel()
        await self.settle()

    def _answered(self, key: K, task: asyncio.Task[V]) -> None:
        del self._tasks[key]
        if not task.cancelled():
            task.exception()  # it has been raised to all who waited, and nobody may be left


async def _answer(ask: Callable[[], Awaitable[V]]) -> V:
    return await ask()
