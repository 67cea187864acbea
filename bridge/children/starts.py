"""How many programs may be starting at the same time, over all servers.

A program that starts costs a processor for as long as its imports take. A hundred at once share it, and each is ready
as late as the last one; a few at a time are ready one after the other. A start is over with the first line that the
program writes, or with its end; what is silent for longer does not work but wait, and stands in nobody's way.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import Counter
from collections.abc import Callable

#: Programs that may be starting, per processor: one works while another waits for the disk.
PER_PROCESSOR = 2
#: Seconds after which a program that has written nothing no longer counts as starting.
SILENCE = 10.0
#: Seconds after which a start that somebody waits for begins, whatever else is starting.
PATIENCE = 30.0


class Slot:
    """The right to be starting, until :meth:`leave`."""

    def __init__(self, starts: Starts, server: str, urgent: bool, seconds: float) -> None:
        self.server = server
        self.urgent = urgent
        self._starts = starts
        self._held = True
        self._silence = asyncio.get_running_loop().call_later(seconds, self.leave)

    def leave(self) -> None:
        """It has started, or never will."""
        if self._held:
            self._held = False
            self._silence.cancel()
            self._starts.left(self)


class Starts:
    """Slots for starting programs, ``most`` at a time.

    What somebody waits for (``is_urgent``) goes before what is kept warm, and is not held up by it: its own kind alone
    counts against it. Among equals the server with the fewest starts is next, then whoever came first. A server of
    which nothing is starting need not wait at all: it cannot help it that another one is slow.
    """

    def __init__(self, most: int | None = None, silence: float = SILENCE, patience: float = PATIENCE) -> None:
        self._most = most or PER_PROCESSOR * _processors()
        self._silence = silence
        self._patience = patience
        self._slots: set[Slot] = set()
        self._waiting: list[_Waiter] = []
        self._numbers = itertools.count()

    def __repr__(self) -> str:
        return f"<Starts [{len(self._slots)} of {self._most}, {len(self._waiting)} waiting]>"

    async def enter(self, server: str, is_urgent: Callable[[], bool] = lambda: True) -> Slot:
        """Return a slot, when there is one. ``is_urgent`` may change its mind: :meth:`fill` asks it again."""
        waiter = _Waiter(server, is_urgent, next(self._numbers))
        self._waiting.append(waiter)
        self.fill()
        self._be_patient(waiter)
        try:
            return await waiter.slot
        except asyncio.CancelledError:
            if not waiter.slot.cancelled():
                waiter.slot.result().leave()
            raise
        finally:
            waiter.patience.cancel()

    def fill(self) -> None:
        """Give the free slots to those who wait."""
        while self._waiting:
            starting = Counter(slot.server for slot in self._slots if slot.urgent)
            waiter = min(self._waiting, key=lambda each: (not each.is_urgent(), starting[each.server], each.number))
            in_use = starting.total() if waiter.is_urgent() else len(self._slots)
            if in_use >= self._most and (starting[waiter.server] or not waiter.is_urgent()):
                return
            self._give(waiter)

    def left(self, slot: Slot) -> None:
        """A slot is free again."""
        self._slots.remove(slot)
        self.fill()

    def _give(self, waiter: _Waiter) -> None:
        self._waiting.remove(waiter)
        if not waiter.slot.cancelled():
            slot = Slot(self, waiter.server, waiter.is_urgent(), self._silence)
            self._slots.add(slot)
            waiter.slot.set_result(slot)

    def _be_patient(self, waiter: _Waiter) -> None:
        waiter.patience = asyncio.get_running_loop().call_later(self._patience, self._lose_patience, waiter)

    def _lose_patience(self, waiter: _Waiter) -> None:
        if waiter not in self._waiting:  # it has a slot, and has not run since
            return
        if waiter.is_urgent():
            self._give(waiter)
        else:
            self._be_patient(waiter)


class _Waiter:
    """A start that waits for its slot."""

    patience: asyncio.TimerHandle

    def __init__(self, server: str, is_urgent: Callable[[], bool], number: int) -> None:
        self.server = server
        self.is_urgent = is_urgent
        self.number = number
        self.slot: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()


def _processors() -> int:
    """How many processors we may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
