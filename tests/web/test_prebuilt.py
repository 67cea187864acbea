"""Answers that are written in one piece are the same answers on the wire."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import urlsplit

import pytest

from bridge.web.cors import sharing
from tests.conftest import Running, tool


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


@pytest.mark.parametrize("extra", ["", "Connection: close\r\n"])
@pytest.mark.parametrize("origin", ["http://localhost:5173", "http://127.0.0.1:\xe9"])
async def test_a_page_is_told_the_same_either_way(bridge: Running, extra: str, origin: str) -> None:
    everyone, _, _ = await _raw(bridge, "1.1", extra)
    page, answer, _ = await _raw(bridge, "1.1", f"Origin: {origin}\r\n{extra}")
    assert json.loads(answer)["result"] == {"text": "hello"}
    told = {name.lower(): value for name, value in sharing(origin).items()}
    assert {name: page.pop(name) for name in told} == told
    assert page.keys() == everyone.keys()
    if origin.isascii():
        assert page["content-type"] == everyone["content-type"]  # which differ between the ways


async def test_a_connection_serves_one_answer_after_the_other(bridge: Running) -> None:
    session = await bridge.session()
    for number in range(20):
        assert (await session.call("echo", number, n=number))["result"] == {"n": number}
