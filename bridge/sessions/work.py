"""Tasks that the child of a session works at, which end with its process (specification 2025-11-25, tasks).

What is known of them is what passes: the answer that begins one, notifications, and answers to those who ask.
"""

from __future__ import annotations

import math
from time import monotonic

from bridge.children.exchange import Exchange
from bridge.protocol import jsontext, messages, tasks
from bridge.protocol.errors import INVALID_PARAMS
from bridge.protocol.mux import Undirected


class Work:
    """Tasks of one child that have not ended, each for as long as its server keeps it at most."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def goes_on(self) -> bool:
        """Whether any task may still come to something."""
        now = monotonic()
        self._until = {task: until for task, until in self._until.items() if until > now}
        return bool(self._until)

    def answered(self, exchange: Exchange) -> None:
        """A request has ended."""
        if exchange.request.method in tasks.ABOUT:
            if self._until and _shows_end(exchange):
                self._end(tasks.shown(exchange.request.params))
        elif tasks.may_be_in(exchange.answer):
            self._began(tasks.created(tasks.inside(exchange.answer)))

    def _began(self, task: tasks.Task | None) -> None:
        if task is not None and task.works:
            if len(self._until) >= tasks.MOST:
                del self._until[next(iter(self._until))]
            self._until[task.id] = math.inf if task.ttl is None else monotonic() + task.ttl / 1000

    def told(self, message: Undirected) -> None:
        """The child has told the state of a task."""
        task = tasks.shown(tasks.inside(message.message))
        if task is not None and not task.works:
            self._end(task)

    def _end(self, task: tasks.Task | None) -> None:
        if task is not None:
            self._until.pop(task.id, None)


def _shows_end(exchange: Exchange) -> bool:
    """Whether the answer to a request about a task says that nothing more will come of that."""
    error = messages.error_in(exchange.answer, exchange.request.id)
    if exchange.request.method == tasks.RESULT:
        return not error  # which may be of this request only
    if error:  # there is no such task any more, or none that could be cancelled
        return exchange.failure is None and jsontext.member(error, "code") == b"%d" % INVALID_PARAMS
    task = tasks.shown(tasks.inside(exchange.answer))
    return task is not None and not task.works
