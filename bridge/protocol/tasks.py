"""Tasks (specification 2025-11-25): a request may be answered with a task that goes on behind that answer. Pure.

Nearly no result is one, and every one is looked at: it is searched for a name that must be in it before it is read.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

STATUS = "notifications/tasks/status"
#: States behind which nothing comes.
FINAL = frozenset({"completed", "failed", "cancelled"})
#: Tasks of one child whose progress tokens are kept at once; the oldest goes for one more.
MOST = 1000
#: Characters of such a token; it is whatever a client has written, and SDKs write numbers and UUIDs.
LONGEST_TOKEN = 1000

T = TypeVar("T")  # what a token stands for


class Task(msgspec.Struct, frozen=True, gc=False):
    """What is read of a task."""

    id: str = msgspec.field(name="taskId")
    status: str

    @property
    def works(self) -> bool:
        """Whether something may still come of it."""
        return self.status not in FINAL


class _Created(msgspec.Struct, frozen=True, gc=False):
    task: Task


_created = msgspec.json.Decoder(_Created)
_task = msgspec.json.Decoder(Task)


def created(result: bytes) -> Task | None:
    """Return the task that a request was answered with; None for any other result."""
    found = _read(_created, result) if result.find(b'"taskId"') >= 0 else None
    return None if found is None else found.task


def shown(raw: bytes) -> Task | None:
    """Return the task that the params of :data:`STATUS` show."""
    return _read(_task, raw)


def _read(decoder: msgspec.json.Decoder[T], raw: bytes) -> T | None:
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError):  # what is nested too deeply to be read is no task
        return None


class Tokens(Generic[T]):
    """What progress tokens stand for whose requests have become tasks: they hold until the task has ended.

    Requests have numbers. Of a task nobody may ever hear that it has ended, so only the newest are kept.
    """

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[int, tuple[str, T]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def answered(self, number: int, result: bytes, means: T) -> None:
        """A request that carried a token has its result."""
        task = created(result)
        if task is not None and task.works:
            if len(self._kept) >= MOST:
                del self._kept[next(iter(self._kept))]
            self._kept[number] = task.id, means

    def told(self, params: bytes) -> None:
        """The state of a task has changed."""
        task = shown(params)
        if task is not None and not task.works:
            self._kept = {number: kept for number, kept in self._kept.items() if kept[0] != task.id}

    def get(self, number: int) -> T | None:
        """Return what the token of a request stands for; None unless a task goes on with it."""
        kept = self._kept.get(number)
        return None if kept is None else kept[1]
