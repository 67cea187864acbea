"""Tokens that say nothing themselves: the authorization server is asked about each (RFC 7662).

Anybody can make up tokens, so there are limits: a few questions at a time, a short queue, one question for all who
bring the same token, and a pause when the server is away.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from bridge.aio.flights import Flights
from bridge.auth.fetched import Away
from bridge.auth.grant import UNKNOWN, BadToken, Grant, NoVerdict, grant_of
from bridge.auth.tokens import hashed

log = logging.getLogger(__name__)

#: Seconds for which an answer holds: so long a token that was revoked may still be good.
FRESH = 30.0
#: Questions at the same time, and with those that wait for their turn.
AT_ONCE, MOST_WAITING = 10, 200
#: Tokens that are known to be bad, at most.
MOST_BAD = 10_000
#: Seconds for which a server that could not be asked is left alone.
PAUSE = 5.0

#: Asks about a token; the answer is a JSON value. Raises :class:`Away`.
Ask = Callable[[str], Awaitable[Any]]


class Introspection:
    """``clock`` is monotonic, ``wall`` the seconds of the epoch."""

    def __init__(
        self,
        ask: Ask,
        issuer: str,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._ask_server = ask
        self._issuer = issuer
        self._clock = clock
        self._wall = wall
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._flights: Flights[bytes, Grant] = Flights("introspection")
        self._bad: dict[bytes, tuple[float, str]] = {}
        self._away_until = 0.0
        #: Why it cannot be asked, None when all is well.
        self.problem: str | None = None

    async def ask(self, token: str) -> Grant:
        """Return what the server says. Raises :class:`BadToken`, or :class:`NoVerdict` when it says nothing."""
        key = hashed(token.encode())
        until, why = self._bad.get(key, (0.0, ""))
        if until > self._clock():
            raise BadToken(why)
        if key not in self._flights and len(self._flights) >= MOST_WAITING:
            raise NoVerdict("too many tokens are being verified", 1.0)
        if self._away_until > self._clock():
            raise NoVerdict("the authorization server cannot be asked now", self._away_until - self._clock())
        try:
            return await self._flights.join(key, lambda: self._ask(token))
        except BadToken as bad:
            if len(self._bad) >= MOST_BAD:
                del self._bad[next(iter(self._bad))]
            self._bad[key] = self._clock() + FRESH, str(bad)
            raise

    async def close(self) -> None:
        """Ask nothing more."""
        await self._flights.close()

    async def _ask(self, token: str) -> Grant:
        async with self._slots:
            if self._away_until > self._clock():  # it went while this one waited
                raise NoVerdict("the authorization server cannot be asked now", PAUSE)
            try:
                said = await self._ask_server(token)
                if not isinstance(said, dict) or not isinstance(said.get("active"), bool):
                    raise Away('what is at OAUTH_INTROSPECTION_URL does not answer with "active"')
            except Away as error:
                self._away_until = self._clock() + PAUSE
                if self.problem != str(error):
                    log.warning("introspection: %s; no opaque token can be verified", error)
                self.problem = str(error)
                raise NoVerdict("the authorization server cannot be asked now", PAUSE) from None
        self.problem = None
        return self._grant(said)

    def _grant(self, said: dict[str, Any]) -> Grant:
        if not said["active"]:
            raise BadToken(UNKNOWN)
        if said.get("iss", self._issuer) != self._issuer:
            raise BadToken("this token is of another issuer (iss)")
        # It need not say when a token ends (RFC 7662, 2.2): then its answer is good for as long as any is.
        grant = grant_of({"exp": self._wall() + FRESH, **said}, self._issuer)
        if grant.expires <= self._wall():
            raise BadToken("this token has expired")
        grant.known_until = self._wall() + FRESH
        return grant
