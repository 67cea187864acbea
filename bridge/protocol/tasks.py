"""Tasks (specification 2025-11-25): a request may be answered with a task that goes on behind that answer. Pure.

Nearly no result is one, and many are looked at: each is searched for a name that must be in it before it is read, and
not even that where it is too large to tell of nothing but a task.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from bridge.protocol.jsontext import ABSENT, Raw

STATUS = "notifications/tasks/status"
LIST, RESULT = "tasks/list", "tasks/result"
#: Requests about one task.
ABOUT = frozenset({"tasks/get", "tasks/cancel", RESULT})
#: States behind which nothing comes.
FINAL = frozenset({"completed", "failed", "cancelled"})
#: Tasks of one child that are known at once; the oldest goes for one more.
MOST = 1000
#: Bytes of a line that may be about a task. From behind a search takes half as long: 3 microseconds for so many.
LONGEST = 4 * 1024
#: Characters of such a token; it is whatever a client has written, and SDKs write numbers and UUIDs.
LONGEST_TOKEN = 1000

T = TypeVar("T")  # what a token stands for


class Task(msgspec.Struct, frozen=True, gc=False):
    """What is read of a task. ``ttl``: the milliseconds for which its server keeps it, None for ever."""

    id: str = msgspec.field(name="taskId")
    status: str = ""
    ttl: float | None = None

    @property
    def works(self) -> bool:
        """Whether something may still come of it."""
        return self.status not in FINAL


class _Created(msgspec.Struct, frozen=True, gc=False):
    task: Task


class _Line(msgspec.Struct, frozen=True, gc=False):
    result: Raw = ABSENT
    params: Raw = ABSENT


_NAME = b'"taskId"'
_line = msgspec.json.Decoder(_Line)
_created = msgspec.json.Decoder(_Created)
_task = msgspec.json.Decoder(Task)


def may_be_in(text: bytes) -> bool:
    """Whether a line, or a result, may be about a task."""
    return len(text) <= LONGEST and text.rfind(_NAME) >= 0


def created(result: bytes) -> Task | None:
    """Return the task that a request was answered with; None for any other result."""
    found = _read(_created, result) if may_be_in(result) else None
    return None if found is None else found.task


def shown(raw: bytes) -> Task | None:
    """Return the task that params or a result name, with what they say of its state."""
    return _read(_task, raw)


def inside(line: bytes) -> bytes:
    """Return the result or the params in a line; empty where they name no task, or are too large to be about one."""
    found = _read(_line, line) if may_be_in(line) else None
    return b"" if found is None else bytes(found.result) or bytes(found.params)


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

    def drop(self, unwanted: Callable[[T], bool]) -> None:
        """Forget what some tokens stand for."""
        self._kept = {number: kept for number, kept in self._kept.items() if not unwanted(kept[1])}
