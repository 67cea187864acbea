"""Tokens of an OAuth 2.1 authorization server: verified once, then known by their hash until they end.

:meth:`OAuth.find` is for every request, and a lookup; :meth:`OAuth.verify` is for the first one with a token, and may
have to ask the authorization server.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from bridge.auth import jwts
from bridge.auth.fetched import Fetched
from bridge.auth.grant import UNKNOWN, BadToken, Grant, grant_of
from bridge.auth.introspection import Introspection
from bridge.auth.keys import KeySet
from bridge.auth.resource import Resource
from bridge.auth.tokens import PREFIX, hashed

#: Seconds after which a token is verified anew: its key may have been withdrawn.
RECHECK = 600.0
#: Tokens that are known at the same time; the one known longest makes room.
MOST_KNOWN = 10_000


class OAuth:
    """What tokens of ``issuer`` are. ``introspection`` is for those that are no JWT. ``described`` is what the issuer
    says of itself. ``wall``: seconds of the epoch.
    """

    def __init__(
        self,
        issuer: str,
        resource: Resource,
        keys: KeySet,
        described: Fetched[dict[str, Any]],
        introspection: Introspection | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.issuer = issuer
        self.resource = resource
        self.keys = keys
        self.described = described
        self._introspection = introspection
        self._wall = wall
        self._known: dict[bytes, Grant] = {}

    @property
    def problem(self) -> str | None:
        """What keeps tokens from being verified, None when all is well."""
        return self.keys.fetched.problem or (None if self._introspection is None else self._introspection.problem)

    def find(self, token: bytes) -> Grant | None:
        """Return what is known of a token, None when it has to be verified."""
        grant = self._known.get(hashed(token))
        if grant is None or not grant.known_since <= self._wall() < grant.known_until:
            return None
        return grant

    async def verify(self, token: bytes) -> Grant:
        """Return what a token is. Raises :class:`BadToken`, or :class:`bridge.auth.grant.NoVerdict` when that cannot
        be known now.
        """
        try:
            text = token.decode("ascii")
        except UnicodeDecodeError:
            raise BadToken(UNKNOWN) from None
        header = jwts.header_of(text)
        if header is not None:
            keys = await self.keys.find(header)
            grant = grant_of(jwts.verify(text, keys, header, self.issuer), self.issuer)
            grant.known_until = min(grant.expires, self._wall() + RECHECK)
        elif self._introspection is not None and not text.startswith(PREFIX):  # which nobody but us can know
            grant = await self._introspection.ask(text)
        else:
            raise BadToken(UNKNOWN)
        grant.known_since = self._wall()
        key = hashed(token)
        self._known.pop(key, None)
        if len(self._known) >= MOST_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[key] = grant
        return grant

    async def close(self) -> None:
        """Ask nobody any more."""
        await self.keys.fetched.close()
        await self.described.close()
        if self._introspection is not None:
            await self._introspection.close()
