"""The same question to many servers, none of which keeps the others waiting for long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from math import inf
from typing import Any, TypeVar

from bridge.sessions.roster import Roster

T = TypeVar("T")

#: Seconds for a server that was late the last time, for who is only slow to start.
LATE_PATIENCE = 0.5


class Gathering:
    """Goes on without those who have not answered after the patience of the roster, and does not wait for those whom
    that knows as late.
    """

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._tasks: set[asyncio.Task[Any]] = set()

    async def lists(
        self, work: Mapping[str, Coroutine[Any, Any, T | None]], on_late: Callable[[], object]
    ) -> dict[str, T]:
        """Do what :meth:`all` does; who keeps it waiting is late from now on, until there is an outcome."""
        tasks = await self._waited(work, inf)
        self._roster.late.update(server for server, task in tasks.items() if not task.done())
        return _in_time(tasks, on_late)

    async def all(
        self, work: Mapping[str, Coroutine[Any, Any, T | None]], on_late: Callable[[], object], at_most: float = inf
    ) -> dict[str, T]:
        """Do this at all these servers at once; return what comes of it in time, which is ``at_most`` so many seconds,
        in the same order. Where it fails, that is nothing. ``on_late`` is called for each outcome after that.
        """
        return _in_time(await self._waited(work, at_most), on_late)

    async def _waited(
        self, work: Mapping[str, Coroutine[Any, Any, T | None]], at_most: float
    ) -> dict[str, asyncio.Task[T | None]]:
        """Begin all of it, and return it when it has ended or has had its time."""
        tasks = {server: self._begun(server, each) for server, each in work.items()}
        late, patience = self._roster.late, min(self._roster.patience, at_most)
        groups = (
            ([task for server, task in tasks.items() if server in late], min(patience, LATE_PATIENCE)),
            ([task for server, task in tasks.items() if server not in late], patience),
        )
        await asyncio.gather(*(asyncio.wait(group, timeout=seconds) for group, seconds in groups if group))
        return tasks

    def _begun(self, server: str, work: Coroutine[Any, Any, T | None]) -> asyncio.Task[T | None]:
        def done(task: asyncio.Task[T | None]) -> None:
            self._tasks.discard(task)
            if _outcome(task) is not None:
                self._roster.late.discard(server)

        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(done)
        return task

    def cancel(self) -> None:
        """Wait for nobody."""
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        """Wait for nobody, and for the end of that."""
        tasks = list(self._tasks)
        self.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _in_time(tasks: Mapping[str, asyncio.Task[T | None]], on_late: Callable[[], object]) -> dict[str, T]:
    for task in tasks.values():
        if not task.done():
            task.add_done_callback(lambda late: on_late() if _outcome(late) is not None else None)
    found = {server: _outcome(task) for server, task in tasks.items() if task.done()}
    return {server: outcome for server, outcome in found.items() if outcome is not None}


def _outcome(task: asyncio.Task[T]) -> T | None:
    return None if task.cancelled() or task.exception() is not None else task.result()
