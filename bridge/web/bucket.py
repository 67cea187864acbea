"""Token buckets: so many at once, and as many again in so many seconds. A number per caller, and only so many callers.

A bucket is the time at which it will be full again (the generic cell rate algorithm), so a full one need not be kept.
"""

from __future__ import annotations

import functools
import ipaddress
import itertools
from collections.abc import Callable

from bridge.config.values import Rate
from bridge.web.proxy import address_of

#: Callers that are remembered. With more, those that have been known for longest are forgotten: as if their
#: buckets were full again.
MOST_CALLERS = 10_000


class Buckets:
    """A bucket per caller. ``clock`` is monotonic."""

    def __init__(self, rate: Rate, clock: Callable[[], float], most: int = MOST_CALLERS) -> None:
        self.rate = rate
        self._clock = clock
        self._most = most
        self._each = rate.seconds / rate.count
        self._room = rate.seconds - self._each
        self._full_at: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, caller: str) -> float:
        """Take one from a caller's bucket; return 0, or the seconds until there is one and take nothing."""
        now = self._clock()
        full_at = self._full_at.get(caller, 0.0)
        if full_at <= now:
            full_at = now
            if caller not in self._full_at and len(self._full_at) >= self._most:
                self._forget(now)
        elif full_at - now > self._room:
            return full_at - now - self._room
        self._full_at[caller] = full_at + self._each
        return 0.0

    def wait(self, caller: str) -> float:
        """Return the seconds until there is one in a caller's bucket, 0 when there is."""
        return max(0.0, self._full_at.get(caller, 0.0) - self._clock() - self._room)

    def _forget(self, now: float) -> None:
        """Make room for some callers at once: to look through all of them for each new one would take for ever."""
        full = [caller for caller, full_at in self._full_at.items() if full_at <= now]
        for caller in full or list(itertools.islice(self._full_at, max(1, self._most // 10))):
            del self._full_at[caller]


@functools.lru_cache(MOST_CALLERS)
def neighbourhood(address: str) -> str:
    """What an address is counted as: who has one IPv6 address has the 2**64 of its network."""
    found = address_of(address)
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((found, 64), strict=False))
    return address
