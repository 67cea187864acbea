"""Whoever is not let in, for the log: the first one at once, then one line a minute with how many there were."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

#: Seconds between two lines.
EVERY = 60.0


class Strangers:
    """Counts requests with a wrong token, ``Host`` or ``Origin``."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = 0.0
        self._untold = 0

    def refused(self, address: str, status: int, why: str) -> None:
        """One was refused."""
        now = self._clock()
        if now < self._next:
            self._untold += 1
            return
        before = f" ({self._untold} more since the line before this one)" if self._untold else ""
        log.info("refused with %d what came from %s: %s%s", status, address, why, before)
        self._next, self._untold = now + EVERY, 0
