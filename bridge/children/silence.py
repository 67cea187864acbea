"""One timer for any number of waits that may last equally long.

Nearly every wait ends long before its time is up, and a timer of the event loop for each would cost a call more than
its future does. So the timer stays where the oldest wait has set it; when it fires, whoever is due is told.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")


class _Timer(Protocol):
    def cancel(self) -> None: ...


class Loop(Protocol):
    """What is needed of an event loop."""

    def time(self) -> float:
        """Monotonic seconds."""
        ...

    def call_at(self, when: float, callback: Callable[[], None], /) -> _Timer:
        """Call back at that time."""
        ...

    def create_future(self) -> asyncio.Future[None]:
        """Something to wait for."""
        ...


class SilenceWatch(Generic[T]):
    """Calls ``on_silence`` with whatever has been waiting for ``seconds``, once. ``loop`` is the event loop."""

    __slots__ = ("_deadlines", "_on_silence", "_seconds", "_timer", "loop")

    def __init__(self, seconds: float, on_silence: Callable[[T], None], loop: Loop) -> None:
        self._seconds = seconds
        self._on_silence = on_silence
        self.loop = loop
        self._deadlines: dict[T, float] = {}  # in the order in which they are due, because all last equally long
        self._timer: _Timer | None = None

    def start(self, waiting: T) -> None:
        """Begin a wait, or begin it anew because a sign has come."""
        self._deadlines.pop(waiting, None)
        self._deadlines[waiting] = deadline = self.loop.time() + self._seconds
        if self._timer is None:
            self._timer = self.loop.call_at(deadline, self._due)

    def end(self, waiting: T) -> None:
        """It waits no longer."""
        self._deadlines.pop(waiting, None)

    def close(self) -> None:
        """Forget everyone; nobody is told."""
        self._deadlines.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _due(self) -> None:
        self._timer = None
        now = self.loop.time()
        for waiting, deadline in list(itertools.takewhile(lambda item: item[1] <= now, self._deadlines.items())):
            if self._deadlines.get(waiting) == deadline:  # nobody who was told has ended it, or begun it anew
                del self._deadlines[waiting]
                self._on_silence(waiting)
        if self._deadlines and self._timer is None:
            self._timer = self.loop.call_at(next(iter(self._deadlines.values())), self._due)
