"""Planted secrets, a real bridge at LOG_LEVEL=DEBUG, good days and bad ones: afterwards none of them is anywhere."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from bridge.auth import tokens
from tests.cli.conftest import Serve, below_of, initialize, run
from tests.conftest import message, peer, tool

#: What must be nowhere, by where it was planted.
SECRETS = {
    name: f"planted-{name}-secret"
    for name in ("access", "redis", "env", "header", "url", "argument", "argv", "bearer", "query", "body", "cookie")
}
BEARER = f"eyJhbGciOiJSUzI1NiJ9.{SECRETS['bearer']}.c2ln"


@pytest.fixture
async def far() -> Any:
    """A server elsewhere that answers nothing but errors, with what it was sent in them."""

    async def fail(request: web.Request) -> web.Response:
        return web.Response(status=500, text=f"{request.url} {dict(request.headers)} {await request.text()}")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", fail)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/mcp?key={SECRETS['url']}"
    await runner.cleanup()


def _servers(far: str) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {SECRETS['header']}"}
    return {
        "peer": peer(env={"API_KEY": SECRETS["env"]}, restartDelay=1),
        "all": peer(inheritEnv="all"),
        "zygote": peer(env={"API_KEY": SECRETS["env"]}, preload=True),
        "kept": peer(persistent=True, args=[*peer()["args"], "--header", f"X-Me: {SECRETS['argv']}"]),
        "absent": {"command": "no-such-program", "args": ["--token", SECRETS["argv"]], "env": {"KEY": SECRETS["env"]}},
        "far": {"url": far, "headers": headers},
        "gone": {"url": f"http://127.0.0.1:1/mcp?key={SECRETS['url']}", "headers": headers},
    }


class Stranger:
    """Asks, and keeps what it was told in answers that are not results of its own calls."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self.http = http
        self.url = url
        self.told: list[str] = []

    async def ask(self, method: str, path: str, body: Any = None, *, own: bool = False, **headers: str) -> int:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        given = {"Content-Type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
        url = URL(self.url + path, encoded=True)
        async with self.http.request(method, url, data=data, headers=given) as response:
            if not own:
                self.told.append(f"{dict(response.headers)} {await response.text()}")
            return response.status


async def _good_days(stranger: Stranger, session: dict[str, str]) -> None:
    argument = SECRETS["argument"]
    headers = {name.replace("-", "_"): value for name, value in session.items()}
    assert await stranger.ask("POST", "/mcp/peer", tool("echo", 1, text=argument), own=True, **headers) == 200
    assert await stranger.ask("POST", "/bridge/peer", tool("echo", 1, text=argument), own=True) == 200
    assert await stranger.ask("POST", f"/bridge/peer?access_token={SECRETS['query']}", tool("count", 1)) == 200
    assert await stranger.ask("POST", "/bridge/peer", tool("count", 1), Cookie=f"a={SECRETS['cookie']}") == 200
    for path in ("/servers", "/sessions", "/children", "/health", "/api/v1/sessions/stats"):
        assert await stranger.ask("GET", path) == 200
    session_id = session["Mcp-Session-Id"]
    assert await stranger.ask("GET", f"/api/v1/sessions/{session_id}", own=True) == 200


async def _bad_days(stranger: Stranger, session: dict[str, str], secret: str) -> None:
    argument = SECRETS["argument"]
    headers = {name.replace("-", "_"): value for name, value in session.items()}
    for wrong in (BEARER, f"mcpb_{SECRETS['bearer']}"):
        assert await stranger.ask("GET", "/servers", Authorization=f"Bearer {wrong}") == 401
    assert await stranger.ask("GET", "/servers", X_API_Key=SECRETS["bearer"]) == 401
    broken = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":"%b' % SECRETS["body"].encode()
    for path in ("/mcp/peer", "/bridge/peer", "/api/v1/sessions"):
        assert await stranger.ask("POST", path, broken, **headers) == 400
    wrong_members = {"server": "peer", SECRETS["body"]: 1}
    assert await stranger.ask("POST", "/api/v1/sessions", wrong_members, own=True) == 400  # which names the member
    assert await stranger.ask("POST", "/bridge/peer", tool("nothing", 1, text=argument)) == 200
    assert await stranger.ask("POST", "/mcp/peer", tool("die", 1, text=argument), **headers) == 200
    assert await stranger.ask("POST", "/mcp/peer", tool("echo", 1, text=argument), **headers) == 404
    for server in ("absent", "far", "gone"):
        for _ in range(2):
            assert await stranger.ask("POST", f"/bridge/{server}", tool("echo", 1, text=argument)) in (502, 503)
        hello = message("initialize", 1, protocolVersion="2025-06-18", capabilities={}, clientInfo={"name": argument})
        assert await stranger.ask("POST", f"/mcp/{server}", hello) in (200, 503)
    assert await stranger.ask("POST", "/api/v1/servers/peer/restart") == 200
    assert await stranger.ask("GET", "/health") == 200
    assert await stranger.ask("POST", "/bridge/peer", tool("echo", 1), Authorization=f"Bearer {secret}") == 200


@pytest.mark.parametrize("layout", ["text", "json"])
async def test_no_secret_is_in_a_log_an_error_a_list_or_another_process(
    tmp_path: Path, serve: Serve, http: aiohttp.ClientSession, far: str, layout: str
) -> None:
    secret, row = tokens.mint("ci", ["servers:*"], None, datetime.now(UTC))
    tokens.write(tmp_path / "tokens.json", [row])
    served = await serve(
        servers=_servers(far),
        LOG_LEVEL="DEBUG",
        LOG_FORMAT=layout,
        AUDIT_LOG="true",
        ACCESS_TOKEN=SECRETS["access"],
        TOKENS_FILE="tokens.json",
        REDIS_URL=f"redis://:{SECRETS['redis']}@127.0.0.1:1/0",
        REDIS_ENABLED="true",
        STREAM_SESSION_TTL_MS="never",
    )
    http.headers["Authorization"] = f"Bearer {SECRETS['access']}"
    stranger = Stranger(http, served.url)
    sessions = [await initialize(http, f"{served.url}/mcp/{server}") for server in ("peer", "all", "zygote", "kept")]
    environments = {process.pid: str(process.environ()) for process in below_of(served)}
    assert len(environments) >= 4
    await _good_days(stranger, sessions[0])
    await _bad_days(stranger, sessions[0], secret)
    await _raw(served.url)
    assert await served.stop() == 0

    logs = {path.name: path.read_text() for path in sorted(tmp_path.glob("logs/**/*.log"))}  # noqa: ASYNC240
    assert {"audit.log", "bridge.log", "error.log"} <= logs.keys()
    logs["console"] = "".join(served.lines)
    answers = {f"answer {at}": text for at, text in enumerate(stranger.told)}
    planted = {**SECRETS, "token": secret, "hash": row.hash.partition(":")[2]}
    ids = {f"session {at}": session["Mcp-Session-Id"] for at, session in enumerate(sessions)}  # for their owner only
    found = [*_found(planted, logs | answers), *_found(ids, logs)]
    assert found == [], "\n".join(found)
    for verb in (["check"], ["doctor"], ["doctor", "--json"], ["ps"], ["client-config", "cursor"]):
        _, out, err = await run(tmp_path, *verb, ACCESS_TOKEN=SECRETS["access"])
        assert _found(planted, {" ".join(verb): out + err}) == []
    for name in ("access", "redis", "header", "url", "bearer", "argument"):
        assert not [pid for pid, text in environments.items() if SECRETS[name] in text], name
    assert len([pid for pid, text in environments.items() if SECRETS["env"] in text]) >= 2  # those that it is for
    assert "DEBUG" in logs["console"]


def _found(planted: dict[str, str], places: dict[str, str]) -> list[str]:
    return [
        f"{name} in {where}: {line}"
        for where, text in places.items()
        for line in text.splitlines()
        for name, secret in planted.items()
        if secret in line
    ]


async def _raw(url: str) -> None:
    """What is no HTTP may hold a token too."""
    address = URL(url)
    for data in (f"GET / HTTP/9 {SECRETS['bearer']}\r\n\r\n", f"Authorization: Bearer {SECRETS['bearer']}\r\n\r\n"):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(data.encode())
        assert SECRETS["bearer"].encode() not in await reader.read()
        writer.close()
