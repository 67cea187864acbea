"""Tokens of an authorization server, through a running bridge: which are taken, and what is said of the others."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import sys
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from bridge.auth.grant import SKEW
from tests.auth.authorization_server import RSA, AuthorizationServer, Signer, b64
from tests.auth.conftest import LIST, Client
from tests.conftest import INITIALIZE, PEERS, StartBridge, last, message, peer, tool
from tests.faults.conftest import until

OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def signed_with_public_key(client: Client) -> str:
    """The attack on libraries that take a public key for a shared secret."""
    secret = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    head = b64(json.dumps({"alg": "HS256", "typ": "JWT", "kid": "first"}).encode())
    text = f"{head}.{b64(json.dumps(client.authority.claims(client.resource())).encode())}"
    return f"{text}.{b64(hmac.digest(secret, text.encode(), hashlib.sha256))}"


def unsigned(client: Client) -> str:
    return jwt.encode(client.authority.claims(client.resource()), "", algorithm="none", headers={"kid": "first"})


def with_payload(payload: bytes) -> str:
    return jwt.api_jws.PyJWS().encode(payload, RSA, "RS256", {"kid": "first"})


def changed(client: Client) -> str:
    """The signature of one token below another."""
    token = client.authority.token(client.resource())
    return client.authority.token(client.resource(), sub="mallory").rpartition(".")[0] + "." + token.rpartition(".")[2]


def from_now(seconds: float) -> float:
    return time.time() + seconds


BAD = {
    "expired": (lambda c: c.authority.token(c.resource(), exp=from_now(-SKEW - 5)), "has expired"),
    "not yet valid": (lambda c: c.authority.token(c.resource(), nbf=from_now(SKEW + 60)), "not valid yet"),
    "from the future": (lambda c: c.authority.token(c.resource(), iat=from_now(SKEW + 60)), "not valid yet"),
    "without an end": (lambda c: c.authority.token(c.resource(), exp=None), "no exp"),
    "other issuer": (lambda c: c.authority.token(c.resource(), iss="https://evil.example"), "another issuer"),
    "no issuer": (lambda c: c.authority.token(c.resource(), iss=None), "no iss"),
    "other service": (lambda c: c.authority.token("https://api.example"), "something else"),
    "other server": (lambda c: c.authority.token(c.resource("second")), "something else"),
    "other host": (lambda c: c.authority.token("http://localhost:1/mcp/peer"), "something else"),
    "begins alike": (lambda c: c.authority.token(c.resource() + "x"), "something else"),
    "for nothing": (lambda c: c.authority.token(None), "no aud"),
    "for a number": (lambda c: c.authority.token([7]), "what it is for"),
    "of nobody": (lambda c: c.authority.token(c.resource(), subject=None), "names nobody"),
    "odd name": (lambda c: c.authority.token(c.resource(), subject="a\nb"), "a name that is none"),
    "none": (unsigned, "algorithm"),
    "HS256 with the public key": (signed_with_public_key, "algorithm"),
    "other key": (lambda c: c.authority.token(c.resource(), Signer("first", OTHER)), "signature"),
    "key of another kind": (lambda c: c.authority.token(c.resource(), Signer.elliptic("first")), "key of this token"),
    "unknown key": (lambda c: c.authority.token(c.resource(), Signer("made up", OTHER)), "key of this token"),
    "other algorithm of that key": (lambda c: c.authority.token(c.resource(), Signer("first", RSA, "PS256")), "key of"),
    "logout token": (lambda c: c.authority.token(c.resource(), typ="logout+jwt"), "no access token"),
    "changed": (changed, "signature"),
    "no JSON": (lambda _: with_payload(b"["), "makes no sense"),
    "no object": (lambda _: with_payload(b"[1]"), "makes no sense"),
    "end of time": (lambda _: with_payload(b'{"iss":"x","aud":"x","exp":1e999}'), "makes no sense"),
    "deep": (lambda _: with_payload(b"[" * 1500), "makes no sense"),
    "opaque": (lambda _: "mF_9.B5f-4.1JqM", "not known"),
    "five parts": (lambda _: "a.b.c.d.e", "not known"),
    "no ASCII": (lambda _: "tokén", "not known"),
    "empty": (lambda _: "", "not known"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_token_is_401_and_why(client: Client, name: str) -> None:
    make, words = BAD[name]
    token = make(client)
    for _ in range(2):  # the second time it is no more known than the first
        answer = await client.ask(token)
        assert answer.status == 401, answer.text
        assert words in answer.text
        assert answer.challenge.startswith('Bearer error="invalid_token", error_description="')
        assert words in answer.challenge
        assert f'resource_metadata="{client.bridge.url}/.well-known/oauth-protected-resource/bridge/peer"' in (
            answer.challenge
        )
    assert (await client.ask(client.authority.token(client.resource()))).status == 200


GOOD: dict[str, Any] = {
    "plain": {},
    "as list": {"aud": ["https://api.example", "{resource}"]},
    "with a slash": {"aud": "{resource}/"},
    "for the bridge": {"aud": "{base}"},
    "clock ahead": {"exp": -SKEW / 2},
    "clock behind": {"nbf": SKEW / 2},
    "of a client": {"sub": None, "client_id": "robot"},
    "type JWT": {"typ": "JWT"},
    "scopes of others": {"scope": "openid email"},
}


@pytest.mark.parametrize("name", GOOD)
async def test_a_good_token_is_taken(client: Client, name: str) -> None:
    places = {"resource": client.resource(), "base": client.bridge.url}
    claims = json.loads(
        json.dumps(GOOD[name]).replace("{resource}", places["resource"]).replace("{base}", places["base"])
    )
    claims |= {name: from_now(claims[name]) for name in ("exp", "nbf") if name in claims}
    audience = claims.pop("aud", client.resource())
    typ = claims.pop("typ", "at+jwt")
    token = client.authority.token(audience, typ=typ, **claims)
    for _ in range(2):
        answer = await client.ask(token)
        assert answer.status == 200, answer.text


@pytest.mark.parametrize("signer", [Signer.elliptic("e"), Signer.edwards("d"), Signer("p", RSA, "PS512"), Signer(None)])
async def test_every_algorithm_with_a_public_key(client: Client, signer: Signer) -> None:
    client.authority.signers = [Signer("decoy", OTHER), signer]
    client.bridge.service._oauth.keys.fetched._tried = None  # type: ignore[union-attr]  # as if it had not fetched yet
    assert (await client.ask(client.authority.token(client.resource()))).status == 200


async def test_a_token_that_names_no_key_may_be_of_any(client: Client) -> None:
    client.authority.signers = [Signer("other", OTHER), Signer("named")]
    client.bridge.service._oauth.keys.fetched._tried = None  # type: ignore[union-attr]
    assert (await client.ask(client.authority.token(client.resource(), Signer(None)))).status == 200
    unknown = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert (await client.ask(client.authority.token(client.resource(), Signer(None, unknown)))).status == 401


async def test_a_token_is_for_its_server_alone(client: Client) -> None:
    token = client.authority.token(client.resource("second"), scope="servers:* admin")
    assert (await client.ask(token, "/bridge/second")).status == 200
    assert (await client.ask(token, "/mcp/second", tool("echo", 1, text="x"))).status == 200
    for path, body in (
        ("/bridge/peer", LIST),
        ("/bridge", {**LIST, "server": "peer"}),
        ("/bridge/unknown", LIST),
        ("/api/v1/sessions", {"server": "peer"}),
        ("/api/v1/servers/second/stop", {}),
        ("/api/v1/drain", {}),
    ):
        answer = await client.ask(token, path, body)
        assert (answer.status, "invalid_token" in answer.challenge) == (401, True), path
    assert [row["id"] for row in json.loads((await client.ask(token, "/servers", None)).text)] == ["second"]


async def test_sessions_of_other_servers_do_not_exist_for_it(client: Client) -> None:
    whole, part = (client.authority.token(aud) for aud in (client.bridge.url, client.resource("second")))
    made = json.loads((await client.ask(whole, "/api/v1/sessions", {"server": "peer"})).text)
    path = f"/api/v1/sessions/{made['session_id']}"
    assert (await client.ask(whole, path, None)).status == 200
    assert (await client.ask(part, path, None)).status == 404
    assert json.loads((await client.ask(part, "/sessions", None)).text) == []


@pytest.mark.parametrize(
    ("scope", "servers", "persists", "stops"),
    [
        ("", ["peer", "second"], 403, 403),
        ("openid servers:sec*", ["second"], 403, 403),
        ("servers:", [], 403, 403),
        ("sessions:persist", ["peer", "second"], 201, 403),
        ("admin", ["peer", "second"], 201, 200),
    ],
)
async def test_scopes_mean_what_they_mean_in_tokens(
    client: Client, scope: str, servers: list[str], persists: int, stops: int
) -> None:
    token = client.authority.token(client.bridge.url, scope=scope)
    assert [row["id"] for row in json.loads((await client.ask(token, "/servers", None)).text)] == servers
    for path, body, status in (
        ("/api/v1/sessions", {"server": "second", "persistent": True}, persists),
        ("/api/v1/servers/second/restart", {}, stops),
    ):
        answer = await client.ask(token, path, body)
        assert answer.status == status
        assert ('error="insufficient_scope"' in answer.challenge) == (status == 403)


async def test_scopes_as_other_servers_write_them(client: Client) -> None:
    for claims in ({"scp": ["servers:second"]}, {"scp": "x servers:second"}, {"scope": ["servers:second"]}):
        token = client.authority.token(client.bridge.url, **claims)
        assert [row["id"] for row in json.loads((await client.ask(token, "/servers", None)).text)] == ["second"]


async def test_a_scope_that_every_token_must_have(start_bridge: StartBridge, authority: AuthorizationServer) -> None:
    bridge = await start_bridge(OAUTH_ISSUER=authority.issuer, OAUTH_SCOPES="mcp:use, offline")
    client = Client(bridge, authority)
    answer = await client.ask(authority.token(client.resource(), scope="offline servers:*"))
    assert answer.status == 403
    assert "lacks the scope mcp:use" in answer.text
    assert 'error="insufficient_scope"' in answer.challenge
    assert 'scope="mcp:use offline"' in answer.challenge
    assert 'scope="mcp:use offline"' in (await client.ask(None)).challenge
    good = authority.token(client.resource(), scope="mcp:use offline")
    assert (await client.ask(good)).status == 200
    answer = await client.ask(authority.token(bridge.url, scope="mcp:use offline"), "/api/v1/drain", {})
    assert 'scope="admin mcp:use offline"' in answer.challenge  # a token for that must have all three


@pytest.mark.parametrize(
    ("setting", "audience", "status"),
    [
        ("https://b.example", "https://b.example", 200),
        ("https://b.example/", "https://b.example", 200),
        ("https://b.example", "https://b.example/mcp/peer", 200),
        ("https://b.example", "https://b.example/mcp/second", 401),
        ("https://b.example/mcp/peer", "https://b.example/mcp/peer", 200),
        ("https://b.example/mcp/second", "https://b.example/mcp/second", 401),
        ("api://x, https://b.example", "api://x", 200),
        ("api://x", "{seen}", 401),
    ],
)
async def test_a_configured_audience_is_the_only_one(
    start_bridge: StartBridge, authority: AuthorizationServer, setting: str, audience: str, status: int
) -> None:
    bridge = await start_bridge(OAUTH_ISSUER=authority.issuer, OAUTH_AUDIENCE=setting)
    client = Client(bridge, authority)
    token = authority.token(audience.replace("{seen}", client.resource()))
    for _ in range(2):
        assert (await client.ask(token)).status == status


async def test_the_address_that_a_client_calls_is_what_counts(client: Client) -> None:
    token = client.authority.token(client.resource())
    port = client.bridge.url.rpartition(":")[2]
    for host, status in ((f"127.0.0.1:{port}", 200), (f"localhost:{port}", 401), (f"127.0.0.1:{port}", 200)):
        assert (await client.ask(token, Host=host)).status == status


FOREIGN = "localhost:5000"
#: Settings, what a request says of its address, and the audience that is then that of the bridge.
CALLED: dict[str, tuple[dict[str, str], dict[str, str], str]] = {
    "port": ({}, {"Host": "localhost:{port}"}, "http://localhost:{port}"),
    "IPv6": ({}, {"Host": "[::1]:{port}"}, "http://[::1]:{port}"),
    "listed": ({"ALLOWED_HOSTS": "Bridge.example"}, {"Host": "bridge.example:8080"}, "http://bridge.example:8080"),
    "listed with a port": ({"ALLOWED_HOSTS": FOREIGN}, {"Host": FOREIGN}, f"http://{FOREIGN}"),
    "proxy": (
        {"TRUST_PROXY": "true"},
        {"X-Forwarded-Host": "localhost", "X-Forwarded-Proto": "https"},
        "https://localhost",
    ),
    "proxy that keeps Host": (
        {"TRUST_PROXY": "true"},
        {"Host": "localhost:443", "X-Forwarded-Proto": "https"},
        "https://localhost:443",
    ),
}


@pytest.mark.parametrize("name", CALLED)
async def test_an_address_of_the_bridge_is_an_audience(
    start_bridge: StartBridge, authority: AuthorizationServer, name: str
) -> None:
    settings, headers, audience = CALLED[name]
    client = Client(await start_bridge(OAUTH_ISSUER=authority.issuer, **settings), authority)
    port = client.bridge.url.rpartition(":")[2]
    headers = {key: value.replace("{port}", port) for key, value in headers.items()}
    token = authority.token(audience.replace("{port}", port))
    for _ in range(2):
        answer = await client.ask(token, **headers)
        assert answer.status == 200, answer.text


@pytest.mark.parametrize(
    ("settings", "headers", "audience"),
    [
        ({}, {"Host": FOREIGN}, f"http://{FOREIGN}"),
        ({}, {"Host": "localhost"}, "http://localhost"),
        ({}, {"Host": "localhost", "X-Forwarded-Proto": "https"}, "http://localhost"),
        ({"TRUST_PROXY": "true"}, {"Host": "localhost"}, "http://localhost"),
        ({"TRUST_PROXY": "true"}, {"X-Forwarded-Host": FOREIGN, "X-Forwarded-Proto": "https"}, f"https://{FOREIGN}"),
        ({"ALLOWED_HOSTS": "localhost:3"}, {"Host": FOREIGN}, f"http://{FOREIGN}"),
    ],
)
async def test_the_address_of_another_program_is_no_audience(
    start_bridge: StartBridge,
    authority: AuthorizationServer,
    settings: dict[str, str],
    headers: dict[str, str],
    audience: str,
) -> None:
    """Whoever has got a token for that may say in Host that this is what they call."""
    client = Client(await start_bridge(OAUTH_ISSUER=authority.issuer, **settings), authority)
    token = authority.token(audience, scope="admin")
    for path in ("/bridge/peer", "/api/v1/drain"):
        answer = await client.ask(token, path, **headers)
        assert answer.status == 401
        assert "OAUTH_AUDIENCE" in answer.text
        assert 'error="invalid_token"' in answer.challenge


async def test_other_tokens_go_on_beside_it(start_bridge: StartBridge, authority: AuthorizationServer) -> None:
    bridge = await start_bridge(OAUTH_ISSUER=authority.issuer, ACCESS_TOKEN="static")
    client = Client(bridge, authority)
    assert (await client.ask("static")).status == 200
    assert (await client.ask("other")).status == 401
    assert (await client.ask(None)).status == 401
    assert (await client.ask(authority.token(client.resource()))).status == 200


async def test_users_do_not_see_each_other(client: Client) -> None:
    """A client that calls itself as a user is called is somebody else; a new token of a user is the same user."""
    base = client.bridge.url
    alice, again = (client.authority.token(base, jti=each) for each in ("1", "2"))
    bob, client_alice = (
        client.authority.token(base, sub="bob"),
        client.authority.token(base, None, sub=None, client_id="alice"),
    )
    made = json.loads((await client.ask(alice, "/api/v1/sessions", {"server": "peer"})).text)
    call = tool("echo", 1, text="x")
    for token, status in ((alice, 200), (again, 200), (bob, 404), (client_alice, 404)):
        answer = await client.ask(token, "/mcp/peer", call, **{"Mcp-Session-Id": made["session_id"]})
        assert answer.status == status
        rows = json.loads((await client.ask(token, "/sessions", None)).text)
        assert [row["session_id"] for row in rows] == ([made["session_id"]] if status == 200 else [])


async def test_probes_tell_more_to_who_has_a_token(client: Client) -> None:
    good, bad = client.authority.token(client.bridge.url), client.authority.token("x")
    for token, more in ((good, True), (bad, False), ("opaque", False), (None, False)):
        for _ in range(2):
            answer = await client.ask(token, "/health", None)
            assert answer.status == 200
            assert ("version" in answer.text) == more


async def test_a_token_goes_to_no_child(
    start_bridge: StartBridge, authority: AuthorizationServer, tmp_path: Path
) -> None:
    """Neither in its environment nor in what it reads."""
    heard = tmp_path / "heard"
    program = [sys.executable, "-I", "-S", str(PEERS / "peer.py")]
    entry = {"command": "sh", "args": ["-c", 'env >"$0"; tee -a "$0" | "$@"', str(heard), *program]}
    bridge = await start_bridge({"near": {**entry, "inheritEnv": "all"}}, OAUTH_ISSUER=authority.issuer)
    client = Client(bridge, authority)
    token = authority.token(client.resource("near"))
    for path in ("/bridge/near", "/mcp/near"):
        assert (await client.ask(token, path, tool("echo", 1, text="hello"))).status == 200
    await until(lambda: "hello" in heard.read_text(), "tee has not written it")  # it writes to its pipe first
    text = heard.read_text()
    assert "MCP_BRIDGE_RUN=" in text
    assert token not in text


async def test_a_token_goes_to_no_other_server(client: Client, start_bridge: StartBridge) -> None:
    """Specification, authorization, token passthrough: a remote server gets the headers of its entry."""
    seen: list[Any] = []

    async def remote(request: web.BaseRequest) -> web.Response:
        seen.append(dict(request.headers))
        body = await request.json()
        if body.get("method") == "initialize":
            result = {
                "protocolVersion": "2025-06-18",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "remote", "version": "1"},
            }
        else:
            result = {"tools": []}
        if "id" not in body:
            return web.Response(status=202)
        return web.json_response({"jsonrpc": "2.0", "id": body["id"], "result": result})

    runner = web.ServerRunner(web.Server(remote))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    entry = {
        "url": f"http://127.0.0.1:{runner.addresses[0][1]}/mcp",
        "headers": {"Authorization": "Bearer its-own"},
        "childEra": "handshake",
    }
    bridge = await start_bridge({"far": entry}, OAUTH_ISSUER=client.authority.issuer)
    own = Client(bridge, client.authority)
    token = client.authority.token(own.resource("far"))
    assert (await own.ask(token, "/bridge/far")).status == 200
    assert (await own.ask(token, "/mcp/far", {**LIST, "jsonrpc": "2.0", "id": 1})).status == 200
    assert len(seen) >= 4
    assert {headers["Authorization"] for headers in seen} == {"Bearer its-own"}
    assert token not in json.dumps(seen)
    await runner.cleanup()


async def test_a_token_for_one_server_sees_that_one_in_a_session_at_all_of_them(
    start_bridge: StartBridge, authority: AuthorizationServer
) -> None:
    bridge = await start_bridge(
        {"a": peer(args=[*peer()["args"], "--tools"]), "b": peer(args=[*peer()["args"], "--tools"])},
        OAUTH_ISSUER=authority.issuer,
        OAUTH_AUDIENCE="https://bridge.example",
    )
    wide, narrow = (authority.token(f"https://bridge.example{path}") for path in ("", "/mcp/a"))

    async def ask(token: str, method: str, id_: str, **params: Any) -> dict[str, Any]:
        headers = {"Mcp_Session_Id": session, "Authorization": f"Bearer {token}"}
        async with bridge.post("/mcp", message(method, id_, **params), **headers) as response:
            return await last(response)

    hello = message("initialize", 0, **INITIALIZE)
    async with bridge.post("/mcp", hello, Authorization=f"Bearer {wide}") as response:
        session = response.headers["Mcp-Session-Id"]
        await last(response)
    for number in range(20):
        mine, listed, called = await asyncio.gather(
            ask(narrow, "tools/list", f"l{number}"),
            ask(wide, "tools/list", f"w{number}"),
            ask(narrow, "tools/call", f"c{number}", name="b__count", arguments={}),
        )
        assert {tool["name"].partition("__")[0] for tool in mine["result"]["tools"]} == {"a"}
        assert {tool["name"].partition("__")[0] for tool in listed["result"]["tools"]} == {"a", "b"}
        assert called["error"]["code"] == -32602
    assert "result" in await ask(narrow, "tools/call", "own", name="a__count", arguments={})
    assert "result" in await ask(wide, "tools/call", "all", name="b__count", arguments={})
