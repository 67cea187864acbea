"""The keys of the issuer. One that is not known may be new, so it is looked for; but anybody can make up names of keys,
so that happens once in :data:`bridge.auth.fetched.PAUSE`, whatever comes.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from bridge.auth import jwts
from bridge.auth.fetched import PAUSE, Away, Fetched
from bridge.auth.grant import BadToken, NoVerdict


class KeySet:
    """``fetch`` gets the key set as a JSON value, and raises :class:`Away`; ``clock`` is monotonic."""

    def __init__(self, fetch: Callable[[], Awaitable[Any]], clock: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self.fetched = Fetched("keys", self._read, clock)

    async def find(self, header: jwts.Header) -> list[jwts.Usable]:
        """Return the keys that a token may be signed with.

        Raises :class:`BadToken` when there is none, :class:`NoVerdict` when there may be.
        """
        found = jwts.fitting(self.fetched.value or (), header)
        if not found or not self.fetched.is_fresh:
            await self.fetched.refresh()
            found = jwts.fitting(self.fetched.value or (), header)
        if found:
            return found
        if self.fetched.problem is not None or self.fetched.value is None:
            raise NoVerdict("the keys of the authorization server cannot be had now", PAUSE)
        raise BadToken("the key of this token is not known")

    async def _read(self) -> list[jwts.Key]:
        try:
            return jwts.keys_of(await self._fetch())
        except ValueError as error:
            raise Away(str(error)) from None
