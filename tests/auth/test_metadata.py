"""How clients find the authorization server: RFC 9728 documents, challenges that point to them, an SDK that follows."""

from __future__ import annotations

import sys
from typing import Any

import httpx2
import mcp
import pytest
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from yarl import URL

from bridge.auth import fetched
from bridge.config.errors import ConfigError
from tests.auth.authorization_server import AuthorizationServer
from tests.auth.conftest import Client, let_pass
from tests.conftest import StartBridge

WELL_KNOWN = "/.well-known/oauth-protected-resource"


@pytest.mark.parametrize("path", ["", "/mcp/peer", "/mcp/unknown", "/sse/peer", "/bridge/peer"])
async def test_a_resource_is_described_to_everyone(client: Client, path: str) -> None:
    expected = {
        "resource": client.bridge.url + path,
        "authorization_servers": [client.authority.issuer],
        "bearer_methods_supported": ["header"],
    }
    for token in (None, "wrong", client.authority.token("x"), client.authority.token(client.bridge.url)):
        answer = await client.ask(token, WELL_KNOWN + path, None)
        assert (answer.status, answer.json) == (200, expected)
        assert answer.headers["Content-Type"].startswith("application/json")


@pytest.mark.parametrize("path", ["/", "/mcp", "/mcp/", "/mcp/a/b", "/mcp/a%20b", "/other/peer", "/servers"])
async def test_what_is_no_resource_is_not_described(client: Client, path: str) -> None:
    assert (await client.ask(None, WELL_KNOWN + path, None)).status == 404


async def test_clients_of_2025_03_26_find_the_authorization_server_as_well(client: Client) -> None:
    """They take the resource for the authorization server itself; every one of them costs no fetch."""
    path = "/.well-known/oauth-authorization-server"
    await client.authority.stop()
    answer = await client.ask(None, path, None)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "10")
    await client.authority.start()
    before = client.authority.count(path)
    for _ in range(3):
        let_pass(client, fetched.PAUSE)
        answer = await client.ask(None, path, None)
        assert (answer.status, answer.json["token_endpoint"]) == (200, f"{client.authority.origin}/token")
    assert client.authority.count(path) == before + 1


async def test_scopes_are_told_and_pages_may_read_it(start_bridge: StartBridge, authority: AuthorizationServer) -> None:
    bridge = await start_bridge(
        OAUTH_ISSUER=authority.issuer, OAUTH_SCOPES="b a", ALLOWED_ORIGINS="https://app.example"
    )
    client = Client(bridge, authority)
    path = f"{WELL_KNOWN}/mcp/peer"
    answer = await client.ask(None, path, None, Origin="https://app.example")
    assert answer.json["scopes_supported"] == ["a", "b"]
    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
    answer = await client.ask(None, path, None, Origin="https://evil.example")
    assert (answer.status, answer.headers.get("Access-Control-Allow-Origin")) == (403, None)
    answer = await client.ask(None, "/mcp/peer", {}, Origin="https://app.example")
    assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (401, "https://app.example")
    assert "WWW-Authenticate" in answer.headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize(
    ("path", "resource"),
    [
        ("/mcp/peer", "/mcp/peer"),
        ("/mcp/unknown", "/mcp/unknown"),
        ("/sse/peer", "/sse/peer"),
        ("/messages/peer?session_id=x", "/sse/peer"),
        ("/bridge/peer", "/bridge/peer"),
        ("/bridge", ""),
        ("/servers", ""),
        ("/mcp/p%22eer", ""),
    ],
)
async def test_a_challenge_points_to_what_was_asked_for(client: Client, path: str, resource: str) -> None:
    answer = await client.ask(None, path, {})
    address = client.bridge.url + WELL_KNOWN + resource
    assert (answer.status, answer.challenge) == (401, f'Bearer resource_metadata="{address}"')
    assert (await client.ask(None, address.removeprefix(client.bridge.url), None)).status == 200


async def test_a_challenge_without_an_authorization_server_points_nowhere(start_bridge: StartBridge) -> None:
    bridge = await start_bridge(ACCESS_TOKEN="secret")
    async with bridge.post("/mcp/peer", {}) as response:
        assert (response.status, response.headers["WWW-Authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("module", ["jwt", "cryptography"])
async def test_what_is_not_installed_is_named(
    start_bridge: StartBridge, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # as Python marks a module that is not there
    with pytest.raises(ConfigError, match=r"pip install '\.\[oauth\]'"):
        await start_bridge(OAUTH_ISSUER="https://as.example")


class Storage:
    """What an application would keep for its user."""

    tokens: OAuthToken | None = None
    info: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.info

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.info = client_info


async def test_a_client_of_the_sdk_gets_in_by_itself(
    start_bridge: StartBridge, authority: AuthorizationServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a 401 to the metadata, the authorization server, a registration, a code, a token, and a call."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    bridge = await start_bridge(OAUTH_ISSUER=authority.issuer, OAUTH_SCOPES="mcp:use")
    url = f"{bridge.url}/mcp/peer"
    came_back: dict[str, Any] = {}

    async def browser(address: str) -> None:
        async with bridge.http.get(URL(address, encoded=True), allow_redirects=False) as response:
            came_back.update(URL(response.headers["Location"]).query)

    async def callback() -> AuthorizationCodeResult:
        return AuthorizationCodeResult(code=came_back["code"], state=came_back["state"])

    metadata = OAuthClientMetadata(
        redirect_uris=["http://127.0.0.1:1/callback"],  # type: ignore[list-item]
        client_name="test",
        token_endpoint_auth_method="none",
    )
    storage = Storage()
    auth = OAuthClientProvider(url, metadata, storage, browser, callback)
    async with httpx2.AsyncClient(auth=auth) as http, mcp.Client(streamable_http_client(url, http_client=http)) as sdk:
        assert sdk.server_info.name == "peer"
    assert storage.tokens is not None
    assert authority.count("/register") == authority.count("/authorize") == authority.count("/token") == 1
