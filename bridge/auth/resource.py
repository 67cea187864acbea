"""What tokens must be for: this bridge as a whole, or one server of it (RFC 8707; MCP, audience validation).

A client asks its authorization server for a token for ``https://bridge.example.com/mcp/git``. That token is good for
the server ``git`` and for nothing else, whatever its scopes say. A token for ``https://bridge.example.com``, or for a
name that ``OAUTH_AUDIENCE`` has, is good for the bridge.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from bridge.auth.grant import BadToken, Grant, LacksScope, spaced
from bridge.auth.principal import Principal

#: Faces at which a server is a resource of its own.
FACES = ("mcp", "sse", "bridge")
_OF_A_SERVER = re.compile(rf"(?P<base>.*)/(?:{'|'.join(FACES)})/(?P<server>[A-Za-z0-9._-]{{1,64}})/?", re.DOTALL)


class Resource:
    """``audiences``: what tokens may be for, besides servers below those that are URLs; with none, it is the address
    by which the bridge is called. ``scopes``: what every token must have.
    """

    def __init__(self, audiences: Iterable[str], scopes: Iterable[str]) -> None:
        self._audiences = frozenset(each.rstrip("/") for each in audiences)
        self.scopes = frozenset(scopes)

    @property
    def is_named(self) -> bool:
        """Whether the address by which it is called does not matter."""
        return bool(self._audiences)

    def principal(self, grant: Grant, base: str) -> Principal:
        """Return who brings a token, and what it is good for where the bridge is called ``base``.

        Raises :class:`BadToken` for a token for something else, :class:`LacksScope` for one without enough scopes.
        """
        if grant.principal is not None and grant.base == base:
            return grant.principal
        if lacking := self.scopes - grant.scopes:
            raise LacksScope(f"this token lacks the scope {spaced(lacking)}")
        servers = self._servers(grant.audiences, self._audiences or {base.rstrip("/")})
        principal = Principal(grant.name, grant.rights(), grant.expires, servers)
        grant.base, grant.principal = base, principal
        return principal

    def _servers(self, audiences: Iterable[str], ours: Iterable[str]) -> frozenset[str] | None:
        """The servers that a token is for, None for the whole bridge."""
        servers = set()
        for audience in audiences:
            of_a_server = _OF_A_SERVER.fullmatch(audience)
            if of_a_server is None and audience.rstrip("/") in ours:
                return None
            if of_a_server is not None and (of_a_server["base"] in ours or audience.rstrip("/") in ours):
                servers.add(of_a_server["server"])
        if not servers:
            raise BadToken("this token is for something else (aud)")
        return frozenset(servers)
