"""A grant: what an authorization server says of one token - whose it is, for what, and until when.

Both kinds of tokens lead here: what a JWT says under the signature of its issuer (RFC 9068), and what the issuer
answers when it is asked about an opaque one (RFC 7662).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.auth.principal import SERVERS, BadScope, Principal, check_scope

#: Seconds that the clock of the issuer and ours may differ.
SKEW = 60.0
#: Characters of the name of a user or client (OpenID Connect Core, 2: ``sub`` has 255 at most).
NAME_LENGTH = 255

#: Refuses a token without a word about why: it may be anything.
UNKNOWN = "this token is not known, or has expired"


class BadToken(Exception):
    """A token that is good for nothing here. The text says why; it is fit for its holder and for an HTTP header."""


class NoVerdict(Exception):
    """Nobody can say now whether a token is good. ``retry_in``: seconds after which somebody may."""

    def __init__(self, text: str, retry_in: float) -> None:
        super().__init__(text)
        self.retry_in = retry_in


class LacksScope(Exception):
    """A good token without a scope that every token must have."""


@dataclass(slots=True)
class Grant:
    """``expires`` is in seconds of the epoch, the skew of clocks included. ``known_until``: when to verify it again;
    before ``known_since`` too, for then the clock was set back.

    ``principal`` is what it is good for at the address ``base``, kept by :class:`bridge.auth.resource.Resource`.
    """

    name: str
    scopes: frozenset[str]
    audiences: tuple[str, ...]
    expires: float
    known_since: float = 0.0
    known_until: float = 0.0
    base: str | None = None
    principal: Principal | None = None

    def rights(self) -> list[str]:
        """Scopes of ours. A token that is limited to no servers may use all of them."""
        ours = [scope for scope in self.scopes if _exists(scope)]
        if not any(scope.startswith(SERVERS) for scope in self.scopes):
            ours.append(f"{SERVERS}*")
        return ours


def grant_of(claims: Mapping[str, Any], issuer: str) -> Grant:
    """Read the claims of a token that has been verified. Raises :class:`BadToken` for one that names nobody, nothing
    that it is for, or no end.
    """
    expires = claims.get("exp")
    if isinstance(expires, bool) or not isinstance(expires, int | float) or not 0 < expires < 1e12:
        raise BadToken("this token has no end (exp)")
    audiences = _texts(claims.get("aud"))
    if not audiences:
        raise BadToken("this token does not say what it is for (aud)")
    scopes = _texts(claims.get("scope"), " ") or _texts(claims.get("scp"), " ")
    return Grant(_name(claims, issuer), frozenset(scopes), audiences, expires + SKEW)


def _name(claims: Mapping[str, Any], issuer: str) -> str:
    """Users and clients are kept apart: a client may call itself as a user is called (RFC 9068, 5)."""
    for claim, kind in (("sub", "oauth"), ("client_id", "oauth-client")):
        found = claims.get(claim)
        if found is None:
            continue
        if not isinstance(found, str) or not found.isprintable() or not 0 < len(found) <= NAME_LENGTH:
            raise BadToken(f"this token has a name that is none ({claim})")
        return f"{kind}:{issuer} {found}"
    raise BadToken("this token names nobody (sub)")


def _texts(value: Any, separator: str | None = None) -> tuple[str, ...]:
    """A claim that is a text, or a list of texts; scopes are separated by spaces."""
    if isinstance(value, str):
        value = value.split(separator) if separator else [value]
    if not isinstance(value, list):
        return ()
    return tuple(each for each in value if isinstance(each, str) and each)


def _exists(scope: str) -> bool:
    try:
        check_scope(scope)
    except BadScope:
        return False
    return True


def spaced(scopes: Iterable[str]) -> str:
    """Write scopes as OAuth does."""
    return " ".join(sorted(scopes))
