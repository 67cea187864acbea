"""One timer for any number of waits that may last equally long.

Nearly every wait ends long before its time is up, and a timer of the event loop for each would cost a call more than
its future does. So the timer stays where the oldest wait has set it; when it fires, whoever is due is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class SilenceWatch(Generic[T]):
    """Calls ``on_silence`` with whatever has been waiting for ``seconds``, once. Must be made on its event loop."""

    __slots__ = ("_deadlines", "_loop", "_on_silence", "_seconds", "_timer")

    def __init__(self, seconds: float, on_silence: Callable[[T], None]) -> None:
        self._seconds = seconds
        self._on_silence = on_silence
        self._loop = asyncio.get_running_loop()
        self._deadlines: dict[T, float] = {}  # in the order in which they are due, because all last equally long
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._deadlines)

    def start(self, waiting: T) -> None:
        """Begin a wait, or begin it anew because a sign has come."""
        self._deadlines.pop(waiting, None)
        self._deadlines[waiting] = deadline = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(deadline, self._due)

    def end(self, waiting: T) -> None:
        """It waits no longer."""
        self._deadlines.pop(waiting, None)

    def _due(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._deadlines:
            waiting, deadline = next(iter(self._deadlines.items()))
            if deadline > now:
                if self._timer is None:  # whoever was told may have begun a wait
                    self._timer = self._loop.call_at(deadline, self._due)
                return
            del self._deadlines[waiting]
            self._on_silence(waiting)
