"""The short way of a call is the same way: what the routes would have said, and what stands before them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web

from bridge.auth.keyring import Keyring
from bridge.config.settings import read_settings
from bridge.web.front import Front
from bridge.web.guards import Guards
from bridge.web.limits import Limits
from tests.conftest import ACCEPT, Running, StartBridge, tool

Ask = Callable[..., Awaitable[str]]


@pytest.fixture
async def ask() -> AsyncIterator[Ask]:
    """A server with nothing but a front: asks it, and says which way the request went."""

    async def post(request: web.BaseRequest, server: str) -> web.StreamResponse:
        return web.Response(text=f"post {server}")

    async def routes(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text="routes")

    front = Front(
        Guards(read_settings({}), Keyring(None, None)), {"mcp": post}, {"git", "a b"}, routes, Limits(None, {}), "/base"
    )
    runner = web.ServerRunner(web.Server(front.answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as http:

        async def asked(method: str, path: str, **headers: str) -> str:
            url = f"http://127.0.0.1:{runner.addresses[0][1]}{path}"
            async with http.request(method, aiohttp.client.URL(url, encoded=True), headers=headers) as response:
                return await response.text()

        yield asked
    await runner.cleanup()


@pytest.mark.parametrize("path", ["/mcp/git", "/base/mcp/git"])
async def test_a_post_to_a_server_goes_the_short_way(ask: Ask, path: str) -> None:
    assert await ask("POST", path) == "post git"


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/mcp/git", {}),
        ("DELETE", "/mcp/git", {}),
        ("POST", "/mcp/other", {}),
        ("POST", "/mcp/git/", {}),
        ("POST", "/mcp//git", {}),
        ("POST", "/mcp/git?x=1", {}),
        ("POST", "/mcp/a%20b", {}),
        ("POST", "/base/base/mcp/git", {}),
        ("POST", "/basemcp/git", {}),
        ("POST", "/mcp", {}),
        ("POST", "/", {}),
        ("POST", "/sse/git", {}),
        ("POST", "/mcp/git", {"Expect": "100-continue"}),
    ],
)
async def test_everything_else_goes_by_the_routes(ask: Ask, method: str, path: str, headers: dict[str, str]) -> None:
    assert await ask(method, path, **headers) == "routes"


@pytest.mark.parametrize("path", ["/mcp/git", "/mcp/other", "/health"])
async def test_the_guards_stand_before_both(ask: Ask, path: str) -> None:
    answer = json.loads(await ask("POST", path, Host="evil.example"))
    assert "ALLOWED_HOSTS" in answer["error"]["message"]


@pytest.mark.parametrize("path", ["/mcp/peer", "/mcp/pee%72", "/mcp/peer?x=1", "/bridge/peer", "/bridge/pee%72"])
async def test_both_ways_end_at_the_same_handlers(start_bridge: StartBridge, path: str) -> None:
    bridge = await start_bridge(ACCESS_TOKEN="secret", IMPLICIT_INITIALIZE="true")
    url = aiohttp.client.URL(bridge.url + path, encoded=True)
    headers = {"Accept": ACCEPT, "Authorization": "Bearer secret"}
    async with bridge.http.post(url, json=tool("echo", 1, x=2), headers=headers) as response:
        assert (await response.json())["result"] == {"x": 2}
    async with bridge.http.post(url, json=tool("echo", 1, x=2)) as response:
        assert response.status == 401
    async with bridge.http.post(url, json=tool("echo", 1, x=2), headers={**headers, "Origin": "http://x"}) as response:
        assert response.status == 403


@pytest.mark.parametrize("path", ["/mcp/nope", "/bridge/nope", "/nope", "/mcp/nope/nope"])
async def test_what_is_not_there_is_told_as_ever(bridge: Running, path: str) -> None:
    async with bridge.post(path, tool("echo")) as response:
        assert response.status == 404
        assert (await response.json())["error"]["code"]


async def test_a_client_that_waits_for_leave_to_send_its_body_gets_it(bridge: Running) -> None:
    session = await bridge.session()
    address = urlsplit(bridge.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    body = json.dumps(tool("echo", 7, x=1)).encode()
    writer.write(
        f"POST /mcp/peer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: {ACCEPT}\r\n"
        f"Mcp-Session-Id: {session.id}\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    )
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()


async def test_what_a_client_expects_in_vain_is_refused_in_json(bridge: Running) -> None:
    async with bridge.http.get(f"{bridge.url}/servers", headers={"Expect": "nonsense"}) as response:
        assert (response.status, response.content_type) == (417, "application/json")
        assert (await response.json())["error"]["message"] == "GET /servers: Expectation Failed"


@pytest.mark.parametrize("pieces", [1, 2, 50])
@pytest.mark.parametrize("size", [100, 300_000])
async def test_a_body_may_come_in_pieces(bridge: Running, pieces: int, size: int) -> None:
    session = await bridge.session()
    body = json.dumps(tool("echo", 7, text="x" * size)).encode()
    step = -(-len(body) // pieces)

    async def sent() -> AsyncIterator[bytes]:
        for start in range(0, len(body), step):
            yield body[start : start + step]

    headers = {"Accept": ACCEPT, "Content-Type": "application/json", "Mcp-Session-Id": session.id}
    async with bridge.http.post(session.url, data=sent(), headers=headers) as response:
        assert (await response.json())["result"] == {"text": "x" * size}


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("path", ["/mcp/peer", "/bridge/peer"])
async def test_a_body_is_as_large_as_the_setting_allows(start_bridge: StartBridge, path: str, declared: bool) -> None:
    most = 50_000
    bridge = await start_bridge(MAX_REQUEST_BYTES=most, IMPLICIT_INITIALIZE="true")
    headers = {"Accept": ACCEPT, "Content-Type": "application/json"}
    empty = len(json.dumps(tool("echo", 1, text="")).encode())
    for size, status in ((most, 200), (most + 1, 413)):
        body = json.dumps(tool("echo", 1, text="x" * (size - empty))).encode()

        async def sent(body: bytes = body) -> AsyncIterator[bytes]:
            yield body

        async with bridge.http.post(bridge.url + path, data=body if declared else sent(), headers=headers) as response:
            assert response.status == status
            if status == 413:
                assert "MAX_REQUEST_BYTES" in (await response.json())["error"]["message"]
