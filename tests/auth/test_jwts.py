"""Whatever a token says: a verdict, and never another exception."""

from __future__ import annotations

import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.auth import jwts, oauth
from bridge.auth.fetched import Fetched
from bridge.auth.grant import SKEW, UNKNOWN, BadToken, grant_of
from bridge.auth.keys import KeySet
from bridge.auth.oauth import OAuth
from bridge.auth.resource import Resource
from tests.auth.authorization_server import RSA, AuthorizationServer, Signer, b64

ISSUER = "https://as.example"
SIGNER = Signer.edwards("k")
KEYS = jwts.keys_of({"keys": [SIGNER.jwk()]})

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


def verdict(token: str) -> Any:
    header = jwts.header_of(token)
    if header is None:
        return None
    return grant_of(jwts.verify(token, jwts.fitting(KEYS, header), header, ISSUER), ISSUER)


def judge(token: str) -> str:
    """Why it is bad, empty when it is good."""
    try:
        found = verdict(token)
    except BadToken as error:
        return str(error)
    return "no token" if found is None else ""


@settings(max_examples=60)
@given(st.text() | st.from_regex(r"[\w-]{0,9}\.[\w-]{0,9}\.[\w-]{0,9}"))
def test_any_text_is_no_token(text: str) -> None:
    assert judge(text)


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "zip", "jwk"]), VALUES))
def test_any_head_gets_a_verdict(head: dict[str, Any]) -> None:
    text = f"{b64(json.dumps({'alg': 'EdDSA', **head}).encode())}.{b64(b'{}')}"
    assert judge(f"{text}.{b64(SIGNER.key.sign(text.encode()))}")


@settings(max_examples=60)
@given(
    st.dictionaries(
        st.sampled_from(["iss", "aud", "sub", "client_id", "exp", "nbf", "iat", "jti", "scope", "scp"]), VALUES
    )
    | VALUES
)
def test_any_payload_gets_a_verdict(payload: Any) -> None:
    if isinstance(payload, dict):
        payload = {"iss": ISSUER, "aud": "x", "sub": "a", "exp": 99999999999, **payload}
    signed = jwt.api_jws.PyJWS().encode(json.dumps(payload).encode(), SIGNER.key, "EdDSA", {"kid": "k"})
    why = judge(signed)
    assert why or payload["iss"] == ISSUER


@pytest.mark.parametrize("more", [{"crit": ["x"], "x": 1}, {"crit": []}, {"crit": "exp"}, {"b64": False}])
def test_a_token_that_wants_more_than_we_know_is_none(more: dict[str, Any]) -> None:
    """RFC 7515, 4.1.11: what is critical and not understood makes it invalid. PyJWT has known that since 2.12."""
    text = f"{b64(json.dumps({'alg': 'EdDSA', 'kid': 'k', **more}).encode())}.{b64(b'{}')}"
    assert verdict(f"{text}.{b64(SIGNER.key.sign(text.encode()))}") is None


def test_a_short_key_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    weak = Signer("weak", rsa.generate_private_key(public_exponent=65537, key_size=1024))
    assert [key.id for key in jwts.keys_of({"keys": [weak.jwk(), Signer("good", RSA).jwk()]})] == ["good"]
    assert "2048 to 8192 bits" in caplog.text


async def test_what_is_known_has_a_limit_and_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oauth, "MOST_KNOWN", 2)
    server = AuthorizationServer()
    now = time.time()

    async def keys() -> Any:
        return {"keys": [server.signers[0].jwk()]}

    known = OAuth(server.issuer, Resource((), ()), KeySet(keys), Fetched("metadata", keys), wall=lambda: now)
    tokens = [server.token("x", jti=str(n)).encode() for n in range(3)]
    for token in tokens:
        assert known.find(token) is None
        grant = await known.verify(token)
        assert known.find(token) is grant
    assert [known.find(token) is None for token in tokens] == [True, False, False]
    now -= 3600  # somebody has set the clock
    assert known.find(tokens[2]) is None
    now += 3600 + oauth.RECHECK
    assert known.find(tokens[2]) is None
    end = int(now) + 30
    short = server.token("x", exp=end).encode()
    assert (await known.verify(short)).expires == end + SKEW
    now = end + SKEW - 1
    assert known.find(short) is not None
    now = end + SKEW
    assert known.find(short) is None
    with pytest.raises(BadToken, match=UNKNOWN):
        await known.verify(b"opaque")
