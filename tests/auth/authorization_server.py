"""An authorization server of our own, on loopback: metadata, keys that change, JWTs, introspection, the code flow.

It does what a real one does, and on demand what none should: it goes away, or says things that are wrong.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from dataclasses import dataclass, field
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

#: Making an RSA key takes as long as ten tests; every server has this one first.
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CLIENT = ("bridge", "s3cret/:")


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass
class Signer:
    """A private key with the name and the algorithm that its tokens have."""

    kid: str | None
    key: Any = RSA
    algorithm: str = "RS256"

    @classmethod
    def elliptic(cls, kid: str) -> Signer:
        return cls(kid, ec.generate_private_key(ec.SECP256R1()), "ES256")

    @classmethod
    def edwards(cls, kid: str) -> Signer:
        return cls(kid, ed25519.Ed25519PrivateKey.generate(), "EdDSA")

    def jwk(self) -> dict[str, Any]:
        public: Any = jwt.get_algorithm_by_name(self.algorithm)
        named = {} if self.kid is None else {"kid": self.kid}
        return {**json.loads(public.to_jwk(self.key.public_key())), "use": "sig", "alg": self.algorithm, **named}


@dataclass
class AuthorizationServer:
    """``path`` is that of its issuer; ``places`` are the well-known documents that it has."""

    path: str = ""
    places: tuple[str, ...] = ("oauth-authorization-server",)
    signers: list[Signer] = field(default_factory=lambda: [Signer("first")])
    #: What it answers instead, by path.
    answers: dict[str, web.Response | bytes] = field(default_factory=dict)
    #: Members of its metadata that differ.
    metadata: dict[str, Any] = field(default_factory=dict)
    #: Opaque tokens and what it knows of them.
    opaque: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: Introspection waits for it.
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[str] = field(default_factory=list)
    port: int = 0
    _runner: web.ServerRunner | None = None
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def issuer(self) -> str:
        return self.origin + self.path

    async def start(self) -> AuthorizationServer:
        self.gate.set()
        self._runner = web.ServerRunner(web.Server(self._serve))
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def count(self, path: str) -> int:
        """How often this path was asked for."""
        return self.asked.count(path)

    def claims(self, audience: Any, subject: str | None = "alice", **more: Any) -> dict[str, Any]:
        now = int(time.time())
        found = {"iss": self.issuer, "aud": audience, "sub": subject, "iat": now, "exp": now + 600, **more}
        return {name: value for name, value in found.items() if value is not None}

    def token(self, audience: Any, signer: Signer | None = None, typ: str = "at+jwt", **claims: Any) -> str:
        """A token of the newest key; a claim that is None is left out."""
        signer = signer or self.signers[-1]
        head = {"typ": typ, **({} if signer.kid is None else {"kid": signer.kid})}
        return jwt.encode(self.claims(audience, **claims), signer.key, algorithm=signer.algorithm, headers=head)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(request.path)
        if request.path in self.answers:
            answer = self.answers[request.path]
            return web.Response(body=answer, content_type="application/json") if isinstance(answer, bytes) else answer
        match request.method, request.path:
            case "GET", "/keys":
                return web.json_response({"keys": [signer.jwk() for signer in self.signers]})
            case "GET", path if path in {self._place(place) for place in self.places}:
                return web.json_response({**self._metadata(), **self.metadata})
            case "POST", "/introspect":
                return await self._introspect(request)
            case "POST", "/register":
                asked = await request.json()
                return web.json_response({**asked, "client_id": "registered"}, status=201)
            case "GET", "/authorize":
                return self._authorize(dict(request.query))
            case "POST", "/token":
                return await self._exchange(request)
        return web.Response(status=404)

    def _place(self, place: str) -> str:
        if place.startswith("/"):
            return place
        return f"/.well-known/{place}{self.path}"

    def _metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "jwks_uri": f"{self.origin}/keys",
            "authorization_endpoint": f"{self.origin}/authorize",
            "token_endpoint": f"{self.origin}/token",
            "registration_endpoint": f"{self.origin}/register",
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
        }

    async def _introspect(self, request: web.BaseRequest) -> web.Response:
        expected = base64.b64encode(b"bridge:s3cret%2F%3A").decode()
        if request.headers.get("Authorization") != f"Basic {expected}":
            return web.Response(status=401)
        body = await request.post()
        await self.gate.wait()
        return web.json_response(self.opaque.get(str(body["token"]), {"active": False}))

    def _authorize(self, query: dict[str, str]) -> web.Response:
        """The user has said yes."""
        code = f"code-{len(self._codes)}"
        self._codes[code] = query
        location = f"{query['redirect_uri']}?code={code}&state={query['state']}"
        return web.Response(status=302, headers={"Location": location})

    async def _exchange(self, request: web.BaseRequest) -> web.Response:
        body = await request.post()
        asked = self._codes.pop(str(body["code"]))
        assert b64(hashlib.sha256(str(body["code_verifier"]).encode()).digest()) == asked["code_challenge"]
        assert body["resource"] == asked["resource"]
        token = self.token(asked["resource"], scope=asked.get("scope", ""))
        return web.json_response({"access_token": token, "token_type": "Bearer", "expires_in": 600})
