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
        """Wait for the answer to the question of this key, which is asked now unless it is already."""
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.create_task(self._ask(key, ask), name=self._name)
            task.add_done_callback(_seen)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Ask nothing more."""
        tasks = [*self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, key: K, ask: Callable[[], Awaitable[V]]) -> V:
        try:
            return await ask()
        finally:
            del self._tasks[key]


def _seen(task: asyncio.Task[V]) -> None:
    """Nobody may be left to whom its failure could be told; whoever asks logs it."""
    if not task.cancelled():
        task.exception()
