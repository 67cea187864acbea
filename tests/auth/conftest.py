"""An authorization server, and a bridge that takes its tokens."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from tests.auth.authorization_server import AuthorizationServer
from tests.conftest import Running, StartBridge, peer

LIST = {"method": "tools/list"}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def challenge(self) -> str:
        return self.headers.get("WWW-Authenticate", "")

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Client:
    """Asks a bridge with tokens."""

    def __init__(self, bridge: Running, authority: AuthorizationServer) -> None:
        self.bridge = bridge
        self.authority = authority

    def resource(self, server: str = "peer") -> str:
        return f"{self.bridge.url}/mcp/{server}"

    async def ask(self, token: str | None, path: str = "/bridge/peer", body: Any = LIST, **headers: str) -> Answer:
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        method = "GET" if body is None else "POST"
        url = self.bridge.url + path
        async with self.bridge.http.request(method, url, json=body, headers=headers) as response:
            return Answer(response.status, response.headers, await response.text())


def let_pass(client: Client, seconds: float) -> None:
    """Let time pass for the keys, and for what is known of tokens."""
    oauth = client.bridge.service._oauth
    assert oauth is not None
    for each in (oauth.keys.fetched, oauth.described):
        each._fetched -= seconds
        if each._tried is not None:
            each._tried -= seconds
    for grant in oauth._known.values():
        grant.known_until -= seconds
    if oauth._introspection is not None:
        oauth._introspection._away_until -= seconds
        bad = oauth._introspection._bad
        bad.update({key: (until - seconds, why) for key, (until, why) in bad.items()})


@pytest.fixture
async def authority() -> AsyncIterator[AuthorizationServer]:
    """A running authorization server."""
    server = await AuthorizationServer().start()
    yield server
    await server.stop()


@pytest.fixture
async def client(start_bridge: StartBridge, authority: AuthorizationServer) -> Client:
    bridge = await start_bridge({"peer": peer(), "second": peer()}, OAUTH_ISSUER=authority.issuer)
    return Client(bridge, authority)
