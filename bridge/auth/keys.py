"""The keys of the issuer: fetched when they are needed, kept while it is away, and never fetched in a row.

A key that is not known may be new, so it is looked for; but anybody can make up names of keys, so that happens once in
:data:`PAUSE`, whatever comes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from bridge.auth import jwts
from bridge.auth.flights import Flights
from bridge.auth.grant import BadToken, NoVerdict

log = logging.getLogger(__name__)

#: Seconds from one fetch to the next, at least.
PAUSE = 10.0
#: Seconds after which keys are fetched again even though none is missing: one may have been withdrawn.
AGE = 600.0

#: Fetches the key set. Raises :class:`Away`.
Fetch = Callable[[], Awaitable[Any]]


class Away(Exception):
    """The authorization server cannot be asked, or what it says is of no use; the text says why, without secrets."""


class KeySet:
    """``fetch`` gets the key set as a JSON value; ``clock`` is monotonic."""

    def __init__(self, fetch: Fetch, clock: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._clock = clock
        self._keys: list[jwts.Key] | None = None
        self._tried: float | None = None
        self._fetched = 0.0
        self._flights: Flights[None, None] = Flights("keys of the authorization server")
        #: Why there are no newer keys, None when all is well.
        self.problem: str | None = None

    async def find(self, header: jwts.Header) -> list[jwts.Usable]:
        """Return the keys that a token may be signed with.

        Raises :class:`BadToken` when there is none, :class:`NoVerdict` when there may be.
        """
        found = jwts.fitting(self._keys or (), header)
        if not found or self._clock() - self._fetched > AGE:
            await self.refresh()
            found = jwts.fitting(self._keys or (), header)
        if found:
            return found
        if self.problem is not None or self._keys is None:
            raise NoVerdict("the keys of the authorization server cannot be had now", PAUSE)
        raise BadToken("the key of this token is not known")

    async def refresh(self) -> None:
        """Fetch the keys, unless that was tried a moment ago; everyone waits for the same fetch."""
        if None in self._flights or self._tried is None or self._clock() - self._tried >= PAUSE:
            await self._flights.join(None, self._refresh)

    async def close(self) -> None:
        """Fetch nothing more."""
        await self._flights.close()

    async def _refresh(self) -> None:
        self._tried = self._clock()
        try:
            self._keys = jwts.keys_of(await self._fetch())
        except (Away, ValueError) as error:
            if self.problem != str(error):
                kept = "those of before stay" if self._keys is not None else "no new token can be verified"
                log.warning("keys of the authorization server: %s; %s", error, kept)
            self.problem = str(error)
            return
        self._fetched = self._clock()
        if self.problem is not None or not self._keys:
            log.info("keys of the authorization server: there are %d", len(self._keys))
        self.problem = None
