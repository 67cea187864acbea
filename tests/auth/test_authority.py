"""What the authorization server does: keys change, it goes away, says too much, or is asked about opaque tokens."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from aiohttp import web

from bridge.auth import fetched, introspection
from bridge.auth.grant import SKEW
from bridge.web import authorization_server
from tests.auth.authorization_server import CLIENT, AuthorizationServer, Signer
from tests.auth.conftest import Client, let_pass
from tests.conftest import StartBridge

OPAQUE = {"OAUTH_CLIENT_ID": CLIENT[0], "OAUTH_CLIENT_SECRET": CLIENT[1]}


async def health(client: Client) -> str:
    """What an operator sees."""
    return str((await client.bridge.get("/health")).get("status"))


async def test_keys_are_fetched_once_for_all_who_come(client: Client) -> None:
    tokens = [client.authority.token(client.resource(), jti=str(n)) for n in range(20)]
    answers = await asyncio.gather(*(client.ask(token) for token in tokens))
    assert {answer.status for answer in answers} == {200}
    assert client.authority.count("/keys") == 1


async def test_a_new_key_is_found(client: Client) -> None:
    assert (await client.ask(client.authority.token(client.resource()))).status == 200
    client.authority.signers.append(Signer.elliptic("second"))
    let_pass(client, fetched.PAUSE)
    assert (await client.ask(client.authority.token(client.resource()))).status == 200
    assert client.authority.count("/keys") == 2


async def test_known_keys_are_fetched_again_when_they_are_old(client: Client) -> None:
    for seconds, count in ((0, 1), (fetched.PAUSE, 1), (fetched.AGE, 2)):
        let_pass(client, seconds)
        assert (await client.ask(client.authority.token(client.resource(), jti=str(seconds)))).status == 200
        assert client.authority.count("/keys") == count


async def test_a_flood_of_unknown_keys_makes_one_fetch(client: Client) -> None:
    made_up = [client.authority.token(client.resource(), Signer(f"made up {n}")) for n in range(50)]
    for count in (1, 2):
        answers = await asyncio.gather(*(client.ask(token) for token in made_up))
        answers += [await client.ask(token) for token in made_up[:5]]  # the fetch that those shared has ended
        assert {answer.status for answer in answers} == {401}
        assert client.authority.count("/keys") == count
        let_pass(client, fetched.PAUSE)


async def test_a_withdrawn_key_is_good_no_more(client: Client) -> None:
    token = client.authority.token(client.resource())
    assert (await client.ask(token)).status == 200
    client.authority.signers = [Signer.elliptic("second")]
    assert (await client.ask(token)).status == 200  # it is known
    let_pass(client, fetched.AGE + 1)
    assert (await client.ask(token)).status == 401


async def test_keys_stay_while_the_server_is_away(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    assert (await client.ask(client.authority.token(client.resource()))).status == 200
    await client.authority.stop()
    let_pass(client, fetched.AGE + 1)
    assert (await client.ask(client.authority.token(client.resource()))).status == 200
    assert "cannot be reached" in caplog.text
    assert "what was known before stays" in caplog.text
    assert await health(client) == "degraded"
    unknown = client.authority.token(client.resource(), Signer.elliptic("perhaps new"))
    answer = await client.ask(unknown)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "10")
    assert (await client.ask(client.authority.token(client.resource(), exp=1))).status == 401  # that much is known
    await client.authority.start()
    let_pass(client, fetched.PAUSE)
    assert (await client.ask(unknown)).status == 401
    assert await health(client) == "ok"


async def test_a_server_that_is_away_at_the_start(client: Client, authority: AuthorizationServer) -> None:
    """Nobody can say what a token is; the bridge runs all the same."""
    await authority.stop()
    oauth = client.bridge.service._oauth
    assert oauth is not None
    await oauth.keys.fetched.refresh()  # what the start has begun
    oauth.keys.fetched.value = None
    let_pass(client, fetched.PAUSE)
    answer = await client.ask(authority.token(client.resource()))
    assert (answer.status, answer.headers["Retry-After"]) == (503, "10")
    assert "WWW-Authenticate" not in answer.headers
    assert (await client.ask(None)).status == 401
    await authority.start()
    let_pass(client, fetched.PAUSE)
    assert (await client.ask(authority.token(client.resource()))).status == 200


async def test_a_caller_that_hangs_up_takes_the_fetch_from_nobody(
    start_bridge: StartBridge, authority: AuthorizationServer
) -> None:
    arrived, go = asyncio.Event(), asyncio.Event()

    async def slow(request: web.BaseRequest) -> web.Response:
        arrived.set()
        await go.wait()
        return web.json_response({"keys": [signer.jwk() for signer in authority.signers]})

    runner = web.ServerRunner(web.Server(slow))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/keys"
    client = Client(await start_bridge(OAUTH_ISSUER=authority.issuer, OAUTH_JWKS_URL=url), authority)
    first = asyncio.create_task(client.ask(authority.token(client.resource(), jti="1")))
    await arrived.wait()
    second = asyncio.create_task(client.ask(authority.token(client.resource(), jti="2")))
    first.cancel()
    go.set()
    assert (await second).status == 200
    await runner.cleanup()


@pytest.mark.parametrize(
    ("path", "answer", "words"),
    [
        ("/keys", b'{"keys": [' + b" " * authorization_server.MOST_BYTES + b"]}", "larger than"),
        ("/keys", b'{"keys": 7}', 'no list "keys"'),
        ("/keys", b"<html>", 'no list "keys"'),
        ("/keys", web.Response(status=500), "HTTP 500"),
        ("/.well-known/oauth-authorization-server", b'{"issuer": "https://evil.example"}', "calls itself"),
        ("/.well-known/oauth-authorization-server", b'{"issuer": "{issuer}"}', "has no jwks_uri"),
        (
            "/.well-known/oauth-authorization-server",
            b'{"issuer": "{issuer}", "jwks_uri": "http://keys.example/"}',
            "has no jwks_uri that is https",
        ),
        ("/.well-known/oauth-authorization-server", b"[]", "has no metadata"),
        ("/.well-known/oauth-authorization-server", web.Response(status=403), "has no metadata"),
    ],
)
async def test_what_makes_no_sense_is_in_the_log_and_no_verdict(
    start_bridge: StartBridge,
    authority: AuthorizationServer,
    caplog: pytest.LogCaptureFixture,
    path: str,
    answer: Any,
    words: str,
) -> None:
    if isinstance(answer, bytes):
        answer = answer.replace(b"{issuer}", authority.issuer.encode())
    authority.answers[path] = answer
    client = Client(await start_bridge(OAUTH_ISSUER=authority.issuer), authority)
    assert (await client.ask(authority.token(client.resource()))).status == 503
    assert words in caplog.text


@pytest.mark.parametrize(
    ("path", "places"),
    [
        ("", ("openid-configuration",)),
        ("/realms/a", ("oauth-authorization-server",)),
        ("/realms/a", ("openid-configuration",)),
        ("/realms/a", ("/realms/a/.well-known/openid-configuration",)),
        ("/", ("/.well-known/openid-configuration",)),
    ],
)
async def test_the_metadata_is_found_where_it_may_be(
    start_bridge: StartBridge, path: str, places: tuple[str, ...]
) -> None:
    authority = await AuthorizationServer(path, places).start()
    client = Client(await start_bridge(OAUTH_ISSUER=authority.issuer), authority)
    assert (await client.ask(authority.token(client.resource()))).status == 200
    await authority.stop()


@pytest.mark.parametrize("odd", [{"kty": "oct", "k": "AAAA"}, {"kty": "RSA", "n": "AQAB", "e": "AQAB"}, {"kty": 7}, 7])
async def test_keys_that_cannot_be_used_spoil_no_others(
    start_bridge: StartBridge, authority: AuthorizationServer, odd: Any
) -> None:
    authority.answers["/keys"] = json.dumps({"keys": [odd, authority.signers[0].jwk()]}).encode()
    client = Client(await start_bridge(OAUTH_ISSUER=authority.issuer), authority)
    assert (await client.ask(authority.token(client.resource()))).status == 200


async def test_a_key_for_encryption_signs_nothing(start_bridge: StartBridge, authority: AuthorizationServer) -> None:
    authority.answers["/keys"] = json.dumps({"keys": [{**authority.signers[0].jwk(), "use": "enc"}]}).encode()
    client = Client(await start_bridge(OAUTH_ISSUER=authority.issuer), authority)
    assert (await client.ask(authority.token(client.resource()))).status == 401


@pytest.fixture
async def asking(start_bridge: StartBridge, authority: AuthorizationServer) -> Client:
    """A bridge that asks about opaque tokens."""
    url = f"{authority.origin}/introspect"
    return Client(await start_bridge(OAUTH_ISSUER=authority.issuer, OAUTH_INTROSPECTION_URL=url, **OPAQUE), authority)


async def test_an_opaque_token_is_asked_about_once(asking: Client) -> None:
    asking.authority.opaque["good"] = {"active": True, "sub": "alice", "aud": asking.resource()}
    for token, status in (("good", 200), ("bad", 401)):
        answers = await asyncio.gather(*(asking.ask(token) for _ in range(10)))
        assert {answer.status for answer in answers} == {status}
        assert (await asking.ask(token)).status == status
    assert asking.authority.count("/introspect") == 2
    assert (await asking.ask(asking.authority.token(asking.resource()))).status == 200  # a JWT needs no question
    assert (await asking.ask("mcpb_unknown")).status == 401  # nor does what only we can have made
    assert asking.authority.count("/introspect") == 2


async def test_a_revoked_token_is_good_for_half_a_minute(asking: Client) -> None:
    asking.authority.opaque["good"] = {"active": True, "sub": "alice", "aud": asking.resource()}
    assert (await asking.ask("good")).status == 200
    asking.authority.opaque.clear()
    assert (await asking.ask("good")).status == 200
    let_pass(asking, introspection.FRESH)
    assert (await asking.ask("good")).status == 401
    asking.authority.opaque["good"] = {"active": True, "sub": "alice", "aud": asking.resource()}
    let_pass(asking, introspection.FRESH)
    assert (await asking.ask("good")).status == 200


@pytest.mark.parametrize(
    ("said", "status", "words"),
    [
        ({"active": True, "sub": "alice"}, 401, "what it is for"),
        ({"active": True, "sub": "alice", "aud": "https://api.example"}, 401, "something else"),
        ({"active": True, "aud": "{resource}"}, 401, "names nobody"),
        ({"active": True, "sub": "alice", "aud": "{resource}", "iss": "https://evil.example"}, 401, "another issuer"),
        ({"active": True, "sub": "alice", "aud": "{resource}", "exp": time.time() - SKEW - 60}, 401, "has expired"),
        ({"active": True, "client_id": "robot", "aud": ["{resource}"], "exp": time.time() + 600}, 200, "tools"),
        ({"active": "yes"}, 503, "cannot be asked"),
        ([], 503, "cannot be asked"),
    ],
)
async def test_what_is_said_of_an_opaque_token(asking: Client, said: Any, status: int, words: str) -> None:
    asking.authority.opaque["token"] = json.loads(json.dumps(said).replace("{resource}", asking.resource()))
    answer = await asking.ask("token")
    assert answer.status == status
    assert words in answer.text


async def test_a_server_that_cannot_be_asked_is_left_alone(asking: Client, caplog: pytest.LogCaptureFixture) -> None:
    asking.authority.answers["/introspect"] = web.Response(status=401)
    for token in ("one", "two", "three"):
        answer = await asking.ask(token)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    assert asking.authority.count("/introspect") == 1
    assert "refuses OAUTH_CLIENT_ID" in caplog.text
    assert CLIENT[1] not in caplog.text
    del asking.authority.answers["/introspect"]
    let_pass(asking, introspection.PAUSE)
    assert (await asking.ask("one")).status == 401


async def test_made_up_tokens_are_asked_about_a_few_at_a_time(asking: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past a short queue nobody waits; a token that is known already needs no place in it."""
    monkeypatch.setattr(introspection, "MOST_WAITING", 3 * introspection.AT_ONCE)
    asking.authority.opaque["good"] = {"active": True, "sub": "alice", "aud": asking.resource()}
    assert (await asking.ask("good")).status == 200
    asking.authority.gate.clear()
    made_up = [asyncio.create_task(asking.ask(f"t{n}")) for n in range(introspection.MOST_WAITING)]
    oauth = asking.bridge.service._oauth
    assert oauth is not None
    assert oauth._introspection is not None
    while (
        len(oauth._introspection._flights) < introspection.MOST_WAITING
        or asking.authority.count("/introspect") < 1 + introspection.AT_ONCE
    ):
        await asking.bridge.get("/livez")
    answer = await asking.ask("one more")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert (await asking.ask("good")).status == 200
    assert asking.authority.count("/introspect") == 1 + introspection.AT_ONCE
    asking.authority.gate.set()
    assert {answer.status for answer in await asyncio.gather(*made_up)} == {401}
