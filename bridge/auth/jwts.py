"""JSON Web Tokens (RFC 7519, 9068) and the keys that they are signed with (RFC 7517). The only module that needs PyJWT.

Only algorithms with a public key are known, and each key is used with the algorithms of its own kind: a token cannot
choose ``none``, nor have a public key taken for a shared secret (RFC 8725, 3.1 and 3.2).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from bridge.auth.grant import SKEW, BadToken

log = logging.getLogger(__name__)

#: A key, together with one algorithm.
Usable = jwt.PyJWK

#: Algorithms by what their keys are.
_ALGORITHMS = {
    ("RSA", None): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
KNOWN = frozenset(name for names in _ALGORITHMS.values() for name in names)
#: An access token says so, or only that it is a JWT; what says that it is something else (a logout token) is none.
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
#: Bits of an RSA key: NIST's least, and as much as can be computed with at once.
RSA_BITS = range(2048, 8193)
#: Keys that are looked at, of a set and for one token.
MOST_KEYS, MOST_TRIED = 100, 5


@dataclass(frozen=True, slots=True)
class Header:
    """What a token says of its signature, which is not verified yet. ``key``: the id of the key, if it has one."""

    algorithm: str
    key: str | None


@dataclass(frozen=True, slots=True)
class Key:
    """A public key of the issuer, ready for each algorithm that it may be used with."""

    id: str | None
    ready: dict[str, Usable] = field(repr=False)


def header_of(token: str) -> Header | None:
    """Return the head of a token, None for one that is no JWT. Raises :class:`BadToken` for one never good here."""
    if token.count(".") != 2:
        return None
    try:
        head = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError):
        return None
    algorithm, key = head.get("alg"), head.get("kid")
    if not isinstance(algorithm, str) or algorithm not in KNOWN:
        raise BadToken("the algorithm of this token is not accepted")
    if str(head.get("typ", "JWT")).lower() not in _TYPES:
        raise BadToken("this token is no access token (typ)")
    return Header(algorithm, key if isinstance(key, str) else None)


def fitting(keys: Iterable[Key], header: Header) -> list[Usable]:
    """Return the keys that a token may be signed with; one that names no key may be signed with any."""
    found = [key.ready[header.algorithm] for key in keys if _may_be(key, header)]
    return found[:MOST_TRIED]


def verify(token: str, keys: Iterable[Usable], header: Header, issuer: str) -> dict[str, Any]:
    """Return the claims of a token whose signature, issuer and times are right. Raises :class:`BadToken`.

    What it is for is not looked at: that depends on where it is used.
    """
    why = "the signature of this token is wrong"
    for key in keys:
        try:
            return jwt.decode(
                token,
                key,
                algorithms=[header.algorithm],
                issuer=issuer,
                leeway=SKEW,
                options={"require": ["exp", "iss", "aud"], "verify_aud": False},
            )
        except jwt.InvalidSignatureError:
            continue
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            why = _words(error)
            break
    raise BadToken(why)


def keys_of(document: Any) -> list[Key]:
    """Read a key set. Raises ValueError for what is none; single keys that cannot be used here are left out."""
    found = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(found, list):
        raise ValueError('what is at their address has no list "keys"')
    keys = [_key(each) for each in found[:MOST_KEYS] if isinstance(each, dict)]
    return [key for key in keys if key.ready]


def _key(data: dict[str, Any]) -> Key:
    name = data.get("kid")
    kind = str(data.get("kty")), data.get("crv")
    names = _ALGORITHMS.get((kind[0], None if kind[0] == "RSA" else str(kind[1])), ())
    if data.get("alg") is not None:
        names = tuple(each for each in names if each == data["alg"])
    if data.get("use", "sig") != "sig":
        names = ()
    try:
        ready = {each: jwt.PyJWK(data, algorithm=each) for each in names}
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        log.warning("a key of the authorization server cannot be used: %s", type(error).__name__)
        ready = {}
    if any(isinstance(each.key, RSAPublicKey) and each.key.key_size not in RSA_BITS for each in ready.values()):
        log.warning("a key of the authorization server is not used: RSA of %d to %d bits is", RSA_BITS[0], RSA_BITS[-1])
        ready = {}
    return Key(name if isinstance(name, str) else None, ready)


def _may_be(key: Key, header: Header) -> bool:
    return header.algorithm in key.ready and (header.key is None or header.key == key.id)


def _words(error: Exception) -> str:
    match error:
        case jwt.ExpiredSignatureError():
            return "this token has expired"
        case jwt.ImmatureSignatureError():
            return "this token is not valid yet"
        case jwt.InvalidIssuerError():
            return "this token is of another issuer (iss)"
        case jwt.MissingRequiredClaimError():
            return f"this token has no {error.claim}"
    return "this token makes no sense"
