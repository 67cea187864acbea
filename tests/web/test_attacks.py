"""What an attacker would try that no other test tries.

Requests that are no HTTP, and smuggling: tests/faults/test_http. Sessions of others: test_doors, and
tests/faults/test_clients. Secrets: tests/cli/test_secrets. Pages and names: test_doors, test_proxy.
"""

from __future__ import annotations

import asyncio
import io
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from bridge.auth import tokens
from tests.cli.conftest import Serve, http, serve
from tests.conftest import ACCEPT, INITIALIZE, PEERS, Running, StartBridge, message, peer, tool
from tests.faults.raw import Raw

__all__ = ["http", "serve"]  # fixtures

# Sessions


@pytest.mark.parametrize("wanted", ["my-own-session", "00000000-0000-4000-8000-000000000000"])
async def test_nobody_chooses_the_id_of_a_session(bridge: Running, wanted: str) -> None:
    """Fixation: a session that a victim would then use."""
    hello = message("initialize", 1, **INITIALIZE)
    async with bridge.post("/mcp/peer", hello, Mcp_Session_Id=wanted) as response:
        assert response.status == 404
    async with bridge.post("/api/v1/sessions", {"server": "peer", "session_id": wanted}) as response:
        assert response.status == 400
    async with bridge.post(f"/messages/peer?session_id={wanted}", hello) as response:
        assert response.status == 404
    assert await bridge.get("/sessions") == []


async def test_ids_tell_nothing_of_each_other(bridge: Running) -> None:
    made = []
    for _ in range(50):
        async with bridge.post("/api/v1/sessions", {"server": "peer"}) as response:
            made.append((await response.json())["session_id"])
    digits = [set(column) for column in zip(*(each.replace("-", "") for each in made), strict=True)]
    assert sum(1 for column in digits if len(column) > 8) >= 30  # 122 random bits; 50 of 16 digits show 15 each


async def test_the_shortened_id_of_a_list_opens_nothing(bridge: Running) -> None:
    session = await bridge.session()
    shown = session.id[:8] + "..."
    for given in (shown, session.id[:8], session.id.upper(), session.id + " x", session.id[:-1]):
        async with bridge.post("/mcp/peer", tool("echo"), Mcp_Session_Id=given) as response:
            assert response.status == 404


# Paths

TRAVERSALS = (
    *(
        "..",
        "%2e%2e",
        "..%2f..%2fetc%2fpasswd",
        "..%5c..%5cx",
        "%2e%2e%2fpeer",
        "peer%2f..%2fpeer",
        "peer%00",
        "peer%0a",
    ),
    *("%ff", "peer.", "peer%20", "PEER", "~", "%2525", "peer;x=1", "*", "logs%2fbridge.log"),
)


@pytest.mark.parametrize("name", TRAVERSALS)
async def test_no_name_leads_to_another_place(start_bridge: StartBridge, tmp_path: Path, name: str) -> None:
    bridge = await start_bridge(LOG_DIR=tmp_path, IMPLICIT_INITIALIZE="true")
    for method, path in (
        *(("POST", f"/{face}/{name}") for face in ("mcp", "bridge", "messages")),
        *(("GET", f"/{face}/{name}") for face in ("mcp", "sse", "api/v1/sessions")),
        *(("POST", f"/api/v1/servers/{name}/{action}") for action in ("stop", "start", "restart")),
        ("DELETE", f"/api/v1/sessions/{name}"),
        ("POST", f"/api/v1/sessions/{name}/touch"),
    ):
        url = URL(bridge.url + path, encoded=True)
        headers = {"Accept": ACCEPT}
        async with bridge.http.request(method, url, json=tool("echo"), headers=headers) as response:
            assert response.status in (400, 404, 405), path
            assert "root:" not in await response.text()
    assert await bridge.get("/children") == []
    assert not any(tmp_path.iterdir())  # noqa: ASYNC240


# Headers


@pytest.fixture
async def limited(start_bridge: StartBridge, tmp_path: Path) -> tuple[Running, str]:
    """A bridge, and a token for one of its servers."""
    secret, row = tokens.mint("a", ["servers:peer"], None, datetime.now(UTC))
    tokens.write(tmp_path / "t.json", [row])
    bridge = await start_bridge({"peer": peer(), "other": peer()}, TOKENS_FILE=tmp_path / "t.json", TRUST_PROXY="true")
    return bridge, secret


EVIL = "x%0d%0aX-Evil:%20y%0d%0a%0d%0a<script>%22"


@pytest.mark.parametrize(
    ("line", "headers"),
    [
        (f"POST /mcp/{EVIL} HTTP/1.1", ""),  # whose refusal names the scope in a header
        (f"GET /sse/{EVIL} HTTP/1.1", ""),
        ("OPTIONS /mcp/peer HTTP/1.1", "Origin: http://localhost\r\nAccess-Control-Request-Method: POST\r\n"
         "Access-Control-Request-Headers: x\tX-Evil: y\r\n"),
        ("GET /mcp/peer HTTP/1.1", f"Mcp-Session-Id: {EVIL}\r\nLast-Event-ID: {EVIL}\r\n"),
        ("GET /health HTTP/1.1", f"Origin: http://localhost:{EVIL}\r\n"),
        ("GET /health HTTP/1.1", "Origin: http://localhost:<script>\r\n"),
        ("GET /health HTTP/1.1", "Origin: http://localhost\tX-Evil: y\r\n"),
        ("GET /health HTTP/1.1", f"X-Forwarded-Host: localhost{EVIL}\r\nX-Forwarded-For: {EVIL}\r\n"),
        ("GET /servers HTTP/1.1", f"X-Forwarded-Proto: https{EVIL}\r\n"),
    ],
)  # fmt: skip
async def test_nothing_that_is_sent_becomes_a_header(limited: tuple[Running, str], line: str, headers: str) -> None:
    bridge, secret = limited
    connection = await Raw.open(bridge)
    head = f"{line}\r\nHost: localhost\r\nX-API-Key: {secret}\r\nAccept: */*\r\nContent-Length: 0\r\n"
    connection.writer.write(f"{head}{headers}\r\n".encode())
    _, given, _ = await connection.response()
    assert "x-evil" not in given
    assert not [value for value in given.values() if "%0d" in value.lower() or not value.isprintable()]
    assert given.get("content-type", "application/json").startswith("application/json")  # no page that a browser runs
    await connection.close()


# JSON


@pytest.mark.parametrize(
    "arguments",
    [
        b'{"a":%b}' % (b"9" * 1_000_000),
        b'{"a":-1e%b}' % (b"9" * 100_000),
        b'{"a":[%b1]}' % (b"1," * 500_000),
        b"{%b}" % b",".join(b'"%x":0' % number for number in range(150_000)),
        b"{%b}" % b",".join([b'"a":0'] * 150_000),
        b'{"a":"%b"}' % (rb"\u0000" * 150_000),
        b'{"a":%b1%b}' % (b"[" * 1000, b"]" * 1000),
    ],
    ids=["long number", "large exponent", "long list", "many keys", "one key often", "escapes", "deep"],
)
@pytest.mark.parametrize("path", ["/mcp/peer", "/bridge/peer", "/bridge", "/api/v1/sessions"])
async def test_a_bomb_of_json_is_passed_on_or_refused_and_holds_up_nobody(
    start_bridge: StartBridge, path: str, arguments: bytes
) -> None:
    bridge = await start_bridge({"peer": {"command": sys.executable, "args": ["-I", "-S", str(PEERS / "mirror.py")]}})
    params = b'{"name":"count","arguments":%b}' % arguments
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":%b}' % params
    if path == "/bridge":
        body = b'{"server":"peer",%b' % body[1:]
    if path == "/api/v1/sessions":
        body = b'{"server":"peer","metadata":%b}' % arguments
    headers = {"Content-Type": "application/json", "Accept": ACCEPT}
    begun = asyncio.get_running_loop().time()
    async with bridge.http.post(bridge.url + path, data=io.BytesIO(body), headers=headers) as response:
        assert response.status in (200, 201, 400, 413), await response.text()
        await response.read()
    assert asyncio.get_running_loop().time() - begun < 10
    assert await bridge.bridge_call("peer", "tools/call", name="x") == {"result": {"name": "x"}}


# Servers that somebody else names


@pytest.fixture
async def trap() -> Any:
    """An address that nobody should ever go to: ``url``, and who came."""
    came: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(await reader.read(1000))
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp", came
    server.close()
    await server.wait_closed()


async def test_no_request_chooses_where_the_bridge_goes(bridge: Running, trap: tuple[str, list[bytes]]) -> None:
    url, came = trap
    quoted = url.replace("/", "%2f")
    call = tool("echo", 1, url=url)
    asked = [
        ("/bridge", {**call, "server": url}),
        ("/bridge", {**call, "server": "peer", "url": url}),
        ("/bridge", {**call, "serverPath": url}),
        ("/bridge", {**call, "serverPath": "curl", "args": [url]}),
        ("/bridge/peer", {**call, "serverPath": "curl", "args": [url]}),
        ("/bridge/peer", {**call, "env": {"HTTP_PROXY": url}}),
        (f"/bridge/{quoted}", call),
        (f"/mcp/{quoted}", call),
        (f"/mcp/peer?url={quoted}", message("initialize", 1, **INITIALIZE)),
        ("/api/v1/sessions", {"server": url}),
        ("/api/v1/sessions", {"server": "peer", "url": url}),
        ("/api/v1/sessions", {"server": "peer", "metadata": {"url": url, "webhook": url}}),
    ]
    headers = {"Accept": ACCEPT, "X-Forwarded-Host": url[7:-4], "X-Original-URL": url, "Referer": url, "Forwarded": url}
    for path, body in asked:
        where = URL(bridge.url + path, encoded=True)
        async with bridge.http.post(where, json=body, headers=headers) as response:
            assert response.status < 500
    for line in (f"GET {url} HTTP/1.1", f"CONNECT {url[7:-4]} HTTP/1.1"):
        connection = await Raw.open(bridge)
        connection.writer.write(f"{line}\r\nHost: localhost\r\n\r\n".encode())
        status, _, _ = await connection.response()
        assert status in (400, 403, 404)  # its path is ours, or is not
        await connection.close()
    assert came == []


# Logs

FORGED = "\x1b]0;owned\x07\x1b[2J\x9b2J\r2026-11-21T10:00:00.000Z [ERROR] forged"
SHOUTING = f"""
import sys
sys.path.insert(0, {str(PEERS)!r})
sys.stderr.buffer.write({FORGED.encode()!r} + b"\\xff\\n" + b"x" * 100000 + b"\\n")
sys.stderr.flush()
import runpy
runpy.run_path({str(PEERS / "peer.py")!r}, run_name="__main__")
"""


async def test_nothing_forges_a_line_or_moves_a_cursor(
    tmp_path: Path, serve: Serve, http: aiohttp.ClientSession
) -> None:
    server = {"command": sys.executable, "args": ["-I", "-S", "-c", SHOUTING]}
    served = await serve(servers={"shouting": server}, LOG_LEVEL="DEBUG", AUDIT_LOG="true")
    evil = "%1b[2J%0d%0a2026-11-21T10:00:00.000Z%20[ERROR]%20forged%c2%9b2J"
    for path in (f"/mcp/{evil}", f"/{evil}", f"/api/v1/sessions/{evil}"):
        async with http.get(URL(served.url + path, encoded=True)) as response:
            assert response.status == 404
    for body in (tool(FORGED, 1), message(FORGED, 1), tool("die", 1)):
        async with http.post(f"{served.url}/bridge/shouting", json=body) as response:
            assert "\x1b" not in await response.text()
    async with http.get(f"{served.url}/servers") as response:
        assert "\x1b" not in await response.text()
    assert await served.stop() == 0
    logs = {path.name: path.read_bytes().decode() for path in sorted(tmp_path.glob("logs/**/*.log"))}  # noqa: ASYNC240
    logs["console"] = "".join(served.lines)
    assert {"audit.log", "shouting.log"} <= logs.keys()
    assert "owned" in logs["shouting.log"]
    for name, text in logs.items():
        assert not [char for char in text if not char.isprintable() and char != "\n"], name
        assert not [line for line in text.splitlines() if line.startswith("2026-11-21T10:00:00")], name
    for line in logs["audit.log"].splitlines():
        assert json.loads(line)["event"]
