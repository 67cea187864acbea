"""Something that the authorization server says and that changes rarely: fetched when it is needed, kept while the
server is away, and never fetched in a row, whoever wants it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from bridge.aio.flights import Flights

log = logging.getLogger(__name__)

#: Seconds from one fetch to the next, at least.
PAUSE = 10.0
#: Seconds after which it is fetched again, because it may have changed.
AGE = 600.0

T = TypeVar("T")


class Away(Exception):
    """The authorization server cannot be asked, or what it says is of no use; the text says why, without secrets."""


class Fetched(Generic[T]):
    """``fetch`` gets it, and raises :class:`Away`. ``name`` is for the log. ``clock`` is monotonic."""

    def __init__(
        self, name: str, fetch: Callable[[], Awaitable[T]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name = name
        self._fetch = fetch
        self._clock = clock
        self._tried: float | None = None
        self._fetched = 0.0
        self._flights: Flights[None, None] = Flights(name)
        #: What was fetched last, None when nothing ever was.
        self.value: T | None = None
        #: Why there is nothing newer, None when all is well.
        self.problem: str | None = None

    @property
    def is_fresh(self) -> bool:
        """Whether it was fetched a short time ago."""
        return self.value is not None and self._clock() - self._fetched <= AGE

    async def refresh(self) -> None:
        """Fetch it, unless that was tried a moment ago; everyone waits for the same fetch."""
        if None in self._flights or self._tried is None or self._clock() - self._tried >= PAUSE:
            await self._flights.join(None, self._refresh)

    async def close(self) -> None:
        """Fetch nothing more."""
        await self._flights.close()

    async def _refresh(self) -> None:
        self._tried = self._clock()
        try:
            self.value = await self._fetch()
        except Away as error:
            if self.problem != str(error):
                kept = "what was known before stays" if self.value is not None else "nothing is known yet"
                log.warning("%s of the authorization server: %s; %s", self._name, error, kept)
            self.problem = str(error)
            return
        self._fetched = self._clock()
        if self.problem is not None:
            log.info("%s of the authorization server: all is well again", self._name)
        self.problem = None
