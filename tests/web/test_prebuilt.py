"""Answers that are written in one piece are the same answers on the wire."""

from __future__ import annotations

import asyncio
import http.client
import json
from urllib.parse import urlsplit

import pytest

from bridge.web.cors import sharing
from tests.conftest import Running, StartBridge, tool

LOCAL = "http://localhost:5173"


@pytest.fixture
async def bridge(start_bridge: StartBridge) -> Running:
    return await start_bridge(ALLOWED_ORIGINS="*")  # also origins that no browser would send


async def _raw(
    bridge: Running, version: str, extra: str = "", text: str = "hello"
) -> tuple[dict[str, str], bytes, bool]:
    """One POST by hand: headers by lower-case name, body, and whether the connection was closed after it."""
    session = await bridge.session()
    address = urlsplit(bridge.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    body = json.dumps(tool("echo", 7, text=text)).encode()
    writer.write(
        f"POST /mcp/peer HTTP/{version}\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Accept: application/json, text/event-stream\r\nMcp-Session-Id: {session.id}\r\n{extra}"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    assert head[0].endswith("200 OK")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    answer = await reader.readexactly(int(headers["content-length"]))
    assert headers["mcp-session-id"] == session.id
    closed = headers.get("connection") == "close" or version == "1.0"
    if closed:
        assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    return headers, answer, closed


@pytest.mark.parametrize(
    ("version", "extra", "text"),
    [
        ("1.1", "", "hello"),
        ("1.1", "Connection: close\r\n", "hello"),
        ("1.0", "", "hello"),
        ("1.1", "", "é" * 100_000),
    ],
)
async def test_the_same_answer_goes_either_way(bridge: Running, version: str, extra: str, text: str) -> None:
    headers, answer, closed = await _raw(bridge, version, extra, text)
    assert json.loads(answer) == {"jsonrpc": "2.0", "id": 7, "result": {"text": text}}
    assert headers["content-type"].startswith("application/json")
    assert headers["date"].endswith("GMT")
    assert closed is bool(extra or version == "1.0")


@pytest.mark.parametrize("extra", ["", "Connection: close\r\n", f"Origin: {LOCAL}\r\n"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize(("method", "status"), [("POST", "202 Accepted"), ("DELETE", "204 No Content")])
async def test_nothing_is_answered_the_same_either_way(
    bridge: Running, method: str, status: str, version: str, extra: str
) -> None:
    session = await bridge.session()
    address = urlsplit(bridge.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    body = b'{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}' if method == "POST" else b""
    writer.write(
        f"{method} /mcp/peer HTTP/{version}\r\nHost: localhost\r\nContent-Type: application/json\r\n{extra}"
        f"X: y\r\nAccept: */*;q=1\r\nMcp-Session-Id: {session.id}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
        + (b"" if version == "1.0" or "close" in extra else b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    )
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
    assert first == f"HTTP/{version} {status}"
    names = {line.partition(":")[0].lower() for line in lines} - {"content-type", "connection"}
    wanted = {"date", "server", *(["content-length"] if method == "POST" else [])}
    assert names == wanted | ({name.lower() for name in sharing(LOCAL)} if "Origin" in extra else set())
    if version == "1.0" or "close" in extra:
        assert await reader.read() == b""
    else:  # nothing of a body is left behind
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("extra", ["", "Connection: close\r\n"])
@pytest.mark.parametrize("origin", [LOCAL, "http://127.0.0.1:\xe9"])
async def test_a_page_is_told_the_same_either_way(bridge: Running, extra: str, origin: str) -> None:
    everyone, _, _ = await _raw(bridge, "1.1", extra)
    page, answer, _ = await _raw(bridge, "1.1", f"Origin: {origin}\r\n{extra}")
    assert json.loads(answer)["result"] == {"text": "hello"}
    told = {name.lower(): value for name, value in sharing(origin).items()}
    assert {name: page.pop(name) for name in told} == told
    assert page.keys() == everyone.keys()
    if origin.isascii():
        assert page["content-type"] == everyone["content-type"]  # which differ between the ways


def _two_streams(url: str, session: str, version: int, more: dict[str, str]) -> list[tuple[dict[str, str], list[str]]]:
    """Headers and lines of data of two event streams, over one connection as long as it lasts."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    connection._http_vsn, connection._http_vsn_str = version, f"HTTP/{version / 10}"  # type: ignore[attr-defined]
    headers = {"Content-Type": "application/json", "Accept": "*/*", "Mcp-Session-Id": session, **more}
    found = []
    for number in (1, 2):
        connection.request("POST", "/mcp/peer", json.dumps(tool("progress", number, token="t", steps=2)), headers)
        response = connection.getresponse()
        data = [line for line in response.read().decode().splitlines() if line.startswith("data: ")]
        found.append(({name.lower(): value for name, value in response.getheaders()}, data))
    connection.close()
    return found


@pytest.mark.parametrize(
    ("version", "more"),
    [
        (11, {"Connection": "close"}),
        (10, {"Host": "localhost"}),
        (11, {"Origin": LOCAL}),
        (11, {"Origin": LOCAL, "Connection": "close"}),
    ],
)
async def test_the_same_stream_goes_either_way(bridge: Running, version: int, more: dict[str, str]) -> None:
    one, two = await bridge.session(), await bridge.session()
    short = await asyncio.to_thread(_two_streams, bridge.url, one.id, 11, {})
    other = await asyncio.to_thread(_two_streams, bridge.url, two.id, version, more)
    told = {name.lower(): value for name, value in sharing(more.get("Origin")).items()}
    for (headers, data), (their_headers, their_data) in zip(short, other, strict=True):
        assert len(data) == 3
        assert their_data == data
        assert (headers.pop("mcp-session-id"), their_headers.pop("mcp-session-id")) == (one.id, two.id)
        for own in ("transfer-encoding", "connection", "date"):
            headers.pop(own, None)
            their_headers.pop(own, None)
        assert their_headers == {**headers, **told}


async def test_a_connection_serves_one_answer_after_the_other(bridge: Running) -> None:
    session = await bridge.session()
    for number in range(20):
        assert (await session.call("echo", number, n=number))["result"] == {"n": number}
