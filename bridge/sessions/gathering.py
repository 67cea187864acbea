"""The same question to many servers, none of which keeps the others waiting for long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from math import inf
from typing import Any, TypeVar

T = TypeVar("T")


class Gathering:
    """``patience``: seconds after which it goes on without those who have not answered."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._tasks: set[asyncio.Task[Any]] = set()

    async def all(
        self, work: Iterable[Coroutine[Any, Any, T | None]], on_late: Callable[[], object], at_most: float = inf
    ) -> list[T | None]:
        """Do this at once; None for what fails, or takes too long: ``at_most`` so many seconds. ``on_late`` is called
        when that has an outcome.
        """
        tasks = [asyncio.create_task(each) for each in work]
        for task in tasks:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if tasks:
            await asyncio.wait(tasks, timeout=min(self._patience, at_most))
        for task in tasks:
            if not task.done():
                task.add_done_callback(lambda late: on_late() if _outcome(late) is not None else None)
        return [_outcome(task) if task.done() else None for task in tasks]

    def cancel(self) -> None:
        """Wait for nobody."""
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        """Wait for nobody, and for the end of that."""
        tasks = list(self._tasks)
        self.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _outcome(task: asyncio.Task[T]) -> T | None:
    return None if task.cancelled() or task.exception() is not None else task.result()
