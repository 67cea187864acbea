"""A principal: who a request comes from, and what it may do.

Sessions, kept records, parked calls, and the children that serve one caller at a time belong to a principal. They know
it by the digest of its name, never by a token: a new token of the same name is the same principal.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

#: May operate the bridge, see what others have, and use every server.
ADMIN = "admin"
#: May make sessions persistent.
PERSIST = "sessions:persist"
#: Followed by a glob of server ids.
SERVERS = "servers:"

_GLOB = re.compile(r"[A-Za-z0-9._*?\[\]!-]{1,64}")


class BadScope(ValueError):
    """A scope that does not exist."""


def check_scope(scope: str) -> str:
    """Return the scope. Raises :class:`BadScope` for one that would mean nothing."""
    if scope in (ADMIN, PERSIST) or (scope.startswith(SERVERS) and _GLOB.fullmatch(scope[len(SERVERS) :])):
        return scope
    raise BadScope(f"no scope {scope[:60]!r}; there are servers:<glob of server ids>, {PERSIST} and {ADMIN}")


class Principal:
    """Whoever ``name`` is, with these scopes, until ``expires`` (seconds of the epoch, None for never).

    ``servers`` are the only ones that its token is for, whatever the scopes say; None where it is for the whole bridge,
    which alone can be operated.
    """

    __slots__ = (
        "_any",
        "_globs",
        "_servers",
        "expires",
        "is_admin",
        "may_persist",
        "name",
        "owner",
        "scopes",
        "uses_all",
    )

    def __init__(
        self,
        name: str,
        scopes: Iterable[str],
        expires: float | None = None,
        servers: frozenset[str] | None = None,
    ) -> None:
        self.scopes = scopes = frozenset(scopes)
        operates = ADMIN in scopes
        self.name = name
        self.owner = digest(name)
        self.expires = expires
        self.is_admin = operates and servers is None
        self.may_persist = operates or PERSIST in scopes
        globs = {scope[len(SERVERS) :] for scope in scopes if scope.startswith(SERVERS)}
        self._globs = tuple(sorted(globs))
        self._any = operates or "*" in globs
        self._servers = servers
        self.uses_all = self._any and servers is None

    def __repr__(self) -> str:
        return f"<Principal {self.name}>"

    @property
    def words(self) -> list[object]:
        """What another node makes the same principal of (:func:`principal_from`), fit for JSON."""
        servers = None if self._servers is None else sorted(self._servers)
        return [self.name, sorted(self.scopes), self.expires, servers, self is ANYONE or self is NOBODY]

    def may_use(self, server: str) -> bool:
        """Whether it may call this server, and know that it exists."""
        return self.uses_all or (self.is_for(server) and self._matches(server))

    @property
    def is_for_all(self) -> bool:
        """Whether its token is for the whole bridge, as far as the scopes allow."""
        return self._servers is None

    def is_for(self, server: str) -> bool:
        """Whether its token is for this server, as far as the scopes allow."""
        return self._servers is None or server in self._servers

    def has_expired(self, now: float) -> bool:
        """Whether it was valid before ``now`` (seconds of the epoch), and is no more."""
        return self.expires is not None and now >= self.expires

    def _matches(self, server: str) -> bool:
        return self._any or any(fnmatchcase(server, glob) for glob in self._globs)


def digest(name: str) -> str:
    """What sessions and records know of a principal."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


#: Where no token is needed, everyone is the same, and may do everything.
ANYONE = Principal("anonymous", [ADMIN])
#: Whoever brings no token where one is needed: probes are answered, and nothing else.
NOBODY = Principal("nobody", [])


def principal_from(words: list[Any]) -> Principal:
    """Return the principal that has these :attr:`Principal.words`."""
    name, scopes, expires, servers, is_no_token = words
    if is_no_token:
        return ANYONE if name == ANYONE.name else NOBODY
    return Principal(name, scopes, expires, None if servers is None else frozenset(servers))
