"""What is hardly HTTP, or comes slowly: an error in plain words, one answer per request, and nobody else notices."""

from __future__ import annotations

import collections
import gzip
import json
import logging
import re
import socket
from typing import Any

import pytest

from bridge.web import body, server
from bridge.web.aside import Waits
from tests.conftest import Running, StartBridge, in_time, message, tool
from tests.faults.conftest import until
from tests.faults.raw import Raw

PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
PONG = {"jsonrpc": "2.0", "id": 1, "result": {}}
HEAD = (
    b"Host: localhost\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"
    b"X-Secret: hush\r\n"
)
LENGTH = b"Content-Length: %d\r\n" % len(PING)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(PING), PING)


def post(headers: bytes = LENGTH, content: bytes = PING, line: bytes = b"POST /bridge/peer HTTP/1.1") -> bytes:
    return line + b"\r\n" + HEAD + headers + b"\r\n" + content


async def exchange(bridge: Running, data: bytes) -> tuple[int, dict[str, str], bytes, Raw]:
    connection = await Raw.open(bridge)
    connection.writer.write(data)
    return (*await connection.response(has_body=not data.startswith(b"HEAD")), connection)


async def _is_served(bridge: Running) -> None:
    async with in_time():
        assert await bridge.bridge_call("peer", "ping") == {"result": {}}


@pytest.fixture
async def bridge(start_bridge: StartBridge, caplog: pytest.LogCaptureFixture) -> Any:
    """A bridge that must not log an error, nor anything that was in a request."""
    caplog.set_level(logging.INFO)
    yield await start_bridge(IMPLICIT_INITIALIZE="false")
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert "hush" not in caplog.text


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
BROKEN = {
    "length and chunks": post(LENGTH + CHUNKED, CHUNKS),
    "chunks and length": post(CHUNKED + b"Content-Length: 4\r\n", CHUNKS),
    "two equal lengths": post(LENGTH + LENGTH),
    "two lengths": post(LENGTH + b"Content-Length: 4\r\n"),
    "a list of lengths": post(b"Content-Length: 40, 40\r\n"),
    "a length with a sign": post(b"Content-Length: +40\r\n"),
    "a length below zero": post(b"Content-Length: -1\r\n"),
    "a length in hex": post(b"Content-Length: 0x28\r\n"),
    "a length beyond any number": post(b"Content-Length: %b\r\n" % (b"9" * 30)),
    "a chunk size that is none": post(CHUNKED, b"zz\r\n" + PING + b"\r\n0\r\n\r\n"),
    "a chunk size below zero": post(CHUNKED, b"-1\r\n" + PING + b"\r\n0\r\n\r\n"),
    "chunks with bare line feeds": post(CHUNKED, CHUNKS.replace(b"\r\n", b"\n")),
    "an unknown transfer coding": post(b"Transfer-Encoding: xchunked\r\n", CHUNKS),
    "chunks that are not last": post(b"Transfer-Encoding: chunked, gzip\r\n", CHUNKS),
    "a blank before a colon": post(b"Transfer-Encoding : chunked\r\n", CHUNKS),
    "bare line feeds": post().replace(b"\r\n", b"\n"),
    "a bare carriage return": post(LENGTH + b"X-A: a\rX-B: b\r\n"),
    "a folded header": post(LENGTH + b"X-A: a\r\n folded\r\n"),
    "a NUL in a header": post(LENGTH + b"X-A: a\0b\r\n"),
    "a header without a colon": post(LENGTH + b"hush\r\n"),
    "a header without a name": post(LENGTH + b": hush\r\n"),
    "two hosts": post(LENGTH + b"Host: evil.example\r\n"),
    "no host": post().replace(b"Host: localhost\r\n", b""),
    "a very long header": post(LENGTH + b"X-A: " + b"hush" * 5000 + b"\r\n"),
    "a very long name": post(LENGTH + b"X" * 20_000 + b": a\r\n"),
    "too many headers": post(LENGTH + b"".join(b"X-%d: a\r\n" % number for number in range(500))),
    "a very long target": post(line=b"POST /bridge/peer?" + b"hush" * 5000 + b" HTTP/1.1"),
    "raw bytes in the target": post(line="POST /bridge/é HTTP/1.1".encode()),
    "a target that is no URL": post(line=b"POST http://[hush/bridge/peer HTTP/1.1"),
    "a method that is none": post(line=b"P(ST /bridge/peer HTTP/1.1"),
    "a method in small letters": post(line=b"post /bridge/peer HTTP/1.1"),
    "an unknown version": post(line=b"POST /bridge/peer HTTP/9.9"),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500,
    "words": b"hello, is this the bridge?\r\n\r\n",
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
async def test_what_is_no_http_is_refused_once_and_its_connection_closed(bridge: Running, data: bytes) -> None:
    status, headers, content, connection = await exchange(bridge, data + SMUGGLED)
    assert status == 400
    assert headers["content-type"].startswith("application/json")
    error = json.loads(content)["error"]
    assert error["code"] == -32600
    assert error["message"].startswith("this is no HTTP request: ")
    assert "hush" not in error["message"]
    assert await connection.is_closed()
    await _is_served(bridge)


UNUSUAL = {
    "chunks": post(CHUNKED, CHUNKS),
    "a chunk extension": post(CHUNKED, CHUNKS.replace(b"\r\n", b";a=b\r\n", 1)),
    "a trailer": post(CHUNKED, CHUNKS[:-2] + b"Mcp-Session-Id: x\r\n\r\n"),
    "a chunk per byte": post(CHUNKED, b"".join(b"1\r\n%c\r\n" % byte for byte in PING) + b"0\r\n\r\n"),
    "a target with a host": post(line=b"POST http://localhost/bridge/peer HTTP/1.1"),
    "an upgrade": post(LENGTH + b"Connection: Upgrade\r\nUpgrade: h2c\r\n"),
    "an unknown content encoding": post(LENGTH + b"Content-Encoding: zzz\r\n"),
    "HTTP/1.0 and keep-alive": post(LENGTH + b"Connection: keep-alive\r\n", line=b"POST /bridge/peer HTTP/1.0"),
}


@pytest.mark.parametrize("data", UNUSUAL.values(), ids=UNUSUAL)
async def test_unusual_http_is_served_and_so_is_what_follows_on_its_connection(bridge: Running, data: bytes) -> None:
    status, _, content, connection = await exchange(bridge, data)
    assert (status, json.loads(content)) == (200, PONG)
    connection.writer.write(post())
    status, _, content = await connection.response()
    assert (status, json.loads(content)) == (200, PONG)


async def test_http_1_0_is_served_and_its_connection_closed(bridge: Running) -> None:
    status, _, content, connection = await exchange(bridge, post(line=b"POST /bridge/peer HTTP/1.0"))
    assert (status, json.loads(content)) == (200, PONG)
    assert await connection.is_closed()


async def test_pipelined_requests_are_answered_in_order(bridge: Running) -> None:
    connection = await Raw.open(bridge)
    for number in range(200):
        content = json.dumps(message("ping", number)).encode()
        connection.writer.write(post(b"Content-Length: %d\r\n" % len(content), content))
    answers = [json.loads((await connection.response())[2]) for _ in range(200)]
    assert [answer["id"] for answer in answers] == list(range(200))


async def test_who_expects_to_be_told_to_continue_is_told(bridge: Running) -> None:
    connection = await Raw.open(bridge)
    connection.writer.write(post(LENGTH + b"Expect: 100-continue\r\n", b""))
    assert await connection.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.writer.write(PING)
    status, _, content = await connection.response()
    assert (status, json.loads(content)) == (200, PONG)


@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        (post(LENGTH + b"Expect: 200-ok\r\n"), 417, ""),
        (post(line=b"POST http://evil.example/bridge/peer HTTP/1.1"), 403, "evil.example"),
        (post().replace(b"Host: localhost", b"Host: evil.example"), 403, "ALLOWED_HOSTS"),
        (post().replace(b"Host: localhost", b"Host:"), 403, "ALLOWED_HOSTS"),
        (post().replace(b"Host: localhost", b"Host: \xff"), 403, "ALLOWED_HOSTS"),
        (post(LENGTH + b"Origin: http://[::1\r\n"), 403, "ALLOWED_ORIGINS"),
        (post(LENGTH + b"Origin: null\r\n"), 403, "ALLOWED_ORIGINS"),
        (post(LENGTH + b"Origin: \xff\xfe\r\n"), 403, "ALLOWED_ORIGINS"),
        (post(LENGTH + b"Origin: http://localhost.evil.example\r\n"), 403, "ALLOWED_ORIGINS"),
        (post(LENGTH + b"Content-Encoding: gzip\r\n"), 400, "Content-Encoding"),
        (post(LENGTH + b"Content-Encoding: br\r\n"), 415, "as gzip or deflate"),
        (post(LENGTH + b"Content-Encoding: zstd\r\n"), 415, "as gzip or deflate"),
        (post(line=b"POST /bridge/../mcp/peer HTTP/1.1"), 404, "Not Found; a server is at /mcp/{server_id}"),
        (post(line=b"POST /bridge%2fpeer HTTP/1.1"), 404, "Not Found"),
        (post(line=b"POST //bridge/peer HTTP/1.1"), 404, "Not Found"),
        (post(line=b"POST /bridge/peer%00 HTTP/1.1"), 404, "no server"),
        (post(line=b"POST /bridge/%zz HTTP/1.1"), 404, "no server"),
        (post(b"", b"", line=b"HEAD /mcp/peer HTTP/1.1"), 405, ""),
        (post(b"", b"", line=b"OPTIONS /mcp/peer HTTP/1.1"), 405, "OPTIONS"),
        (post(b"", b"", line=b"TRACE /mcp/peer HTTP/1.1"), 405, "TRACE"),
        (post(line=b"PUT /mcp/peer HTTP/1.1"), 405, "PUT"),
        (post(line=b"PATCH /bridge/peer HTTP/1.1"), 405, "PATCH"),
        (post(b"", b"", line=b"CONNECT localhost:80 HTTP/1.1"), 403, "is not allowed"),
        (post(b"", b"", line=b"OPTIONS * HTTP/1.1"), 403, "is not allowed"),
    ],
)
async def test_a_request_that_is_not_served_says_why(bridge: Running, data: bytes, status: int, words: str) -> None:
    got, _, content, _ = await exchange(bridge, data)
    assert got == status
    if words:
        assert words in json.loads(content)["error"]["message"]
    await _is_served(bridge)


SESSION_IDS = {
    "none": (b"", 400),
    "empty": (b"Mcp-Session-Id:\r\n", 404),
    "unknown": (b"Mcp-Session-Id: 6d5a1c0e\r\n", 404),
    "line ends in percent": (b"Mcp-Session-Id: a%0d%0aX-Evil: y\r\n", 404),
    "UTF-8": ("Mcp-Session-Id: é\r\n".encode(), 404),
    "no UTF-8": (b"Mcp-Session-Id: \xff\xfe\r\n", 404),
    "two": (b"Mcp-Session-Id: a\r\nMcp-Session-Id: b\r\n", 404),
    "very long": (b"Mcp-Session-Id: " + b"a" * 8000 + b"\r\n", 404),
    "SQL": (b"Mcp-Session-Id: ' OR 1=1 --\r\n", 404),
    "a path": (b"Mcp-Session-Id: ../../etc/passwd\r\n", 404),
}


@pytest.mark.parametrize("kind", SESSION_IDS)
@pytest.mark.parametrize("method", [b"POST", b"GET", b"DELETE"])
async def test_a_forged_session_id_finds_nothing(bridge: Running, kind: str, method: bytes) -> None:
    session = await bridge.session()
    header, status = SESSION_IDS[kind]
    got, headers, content, _ = await exchange(bridge, post(LENGTH + header, line=method + b" /mcp/peer HTTP/1.1"))
    assert got == status
    assert "x-evil" not in headers
    assert json.loads(content)["error"]["code"] == (-32000 if status == 400 else -32001)
    assert (await session.call("echo", 1))["id"] == 1


# Slowly


async def test_300_half_open_connections_cost_nobody_an_answer(bridge: Running) -> None:
    started = await bridge.session()
    connections = [await Raw.open(bridge) for _ in range(300)]
    for number, connection in enumerate(connections):
        connection.writer.write([b"", b"POST /mcp", post()[:60]][number % 3])
    await until(lambda: _connections(bridge) >= 300, "all have come")
    await _is_served(bridge)
    assert (await started.call("echo", 1))["id"] == 1


async def test_a_head_that_does_not_come_is_cut_in_time(bridge: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_PATIENCE", 0.0)  # the next look of the bridge itself is a minute away
    idle, upgrade, unread, next_half, along, in_value, half, silent = [await Raw.open(bridge) for _ in range(8)]
    unread.writer.write(post(line=b"POST /nowhere HTTP/1.1")[:-5])  # refused, whatever its body may be
    assert (await unread.response())[0] == 404
    unread.writer.write(post()[-5:])
    in_the_value = len(b"POST /bridge/peer HTTP/1.1\r\nHost: loc")
    for connection, more in ((idle, 0), (next_half, 0), (along, 60), (in_value, in_the_value)):
        connection.writer.write(post() + post()[:more])
        assert (await connection.response())[0] == 200
    upgrade.writer.write(UNUSUAL["an upgrade"])
    assert (await upgrade.response())[0] == 200
    for connection in (next_half, half):
        connection.writer.write(post()[:60])
    await until(lambda: _waiting(bridge)[Waits.HEAD] == 3, lambda: str(_waiting(bridge)))
    assert _waiting(bridge)[Waits.NOTHING] == 4
    for _ in range(2):
        _server(bridge).look()
    for connection in (next_half, along, in_value, half, silent):
        assert await connection.is_closed()
    for connection in (idle, upgrade, unread):  # an idle connection may wait for its next request, however long
        connection.writer.write(post())
        assert (await connection.response())[0] == 200


async def test_a_call_may_take_longer_than_a_head(bridge: Running) -> None:
    calling = await Raw.open(bridge)
    content = json.dumps(tool("wait", 1, key="a")).encode()
    calling.writer.write(post(b"Content-Length: %d\r\n" % len(content), content))
    children = bridge.service.core.registry.children
    await until(lambda: any(child.connection.open_exchanges for child in children()), "the call is on its way")
    for _ in range(2):
        _server(bridge).look()
    await bridge.bridge_call("peer", "tools/call", name="release", arguments={"key": "a"})
    assert (await calling.response())[0] == 200


async def test_a_body_that_does_not_come_is_408_in_time(bridge: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "PATIENCE", 0.05)
    connections = [await Raw.open(bridge) for _ in range(50)]
    for connection in connections:
        connection.writer.write(post()[:-5])
    for connection in connections:
        status, _, content = await connection.response()
        assert status == 408
        assert "did not come within 0.05 s" in json.loads(content)["error"]["message"]
    await _is_served(bridge)


async def test_a_body_that_comes_byte_by_byte_is_served(bridge: Running) -> None:
    connection = await Raw.open(bridge)
    sock = connection.writer.get_extra_info("socket")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in post():
        connection.writer.write(bytes([byte]))
        await connection.writer.drain()
    status, _, content = await connection.response()
    assert (status, json.loads(content)) == (200, PONG)


async def test_a_body_that_is_cut_off_is_nobodys_call(bridge: Running) -> None:
    connection = await Raw.open(bridge)
    connection.writer.write(post()[:-5])
    await until(lambda: _connections(bridge) >= 1, "it has come")
    connection.reset()
    await until(lambda: _connections(bridge) == 0, "it has gone")
    await _is_served(bridge)


def _connections(bridge: Running) -> int:
    return len(_server(bridge).connections)


def _waiting(bridge: Running) -> collections.Counter[Waits]:
    return collections.Counter(
        each.waits for each in _server(bridge).connections if isinstance(each, server.Connection)
    )


def _server(bridge: Running) -> server.Server:
    runner = bridge.service.port._runner
    assert runner is not None
    assert isinstance(runner.server, server.Server)
    return runner.server


# Bodies


async def test_a_body_in_chunks_over_the_limit_is_413(start_bridge: StartBridge) -> None:
    bridge = await start_bridge(MAX_REQUEST_BYTES=10_000)
    connection = await Raw.open(bridge)
    connection.writer.write(post(CHUNKED, b"%x\r\n%b\r\n" % (20_000, b" " * 20_000)))
    status, _, content = await connection.response()
    assert status == 413
    assert "MAX_REQUEST_BYTES" in json.loads(content)["error"]["message"]


@pytest.mark.parametrize("size", [1_000_000, 200_000_000])
async def test_a_compressed_body_over_the_limit_is_413_however_small_it_came(bridge: Running, size: int) -> None:
    content = gzip.compress(b" " * size + PING, 1 if size > 1_000_000 else 9)
    head = b"Content-Encoding: gzip\r\nContent-Length: %d\r\n" % len(content)
    status, _, answer, _ = await exchange(bridge, post(head, content))
    assert status == (200 if size < 4_000_000 else 413)
    if status == 200:
        assert json.loads(answer) == PONG
    await _is_served(bridge)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" ",
        b"{",
        b"null",
        b"true",
        b"5",
        b'"text"',
        b"[]",
        b"[[]]",
        b"{}",
        b"NaN",
        b"\xff\xfe{\x00}\x00",
        b"\xef\xbb\xbf",
        b'{"jsonrpc":"2.0","id":1,"method":"\xff"}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"n":NaN}}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"s":"\\ud800"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":%b}' % (b'{"a":' * 20_000 + b"1" + b"}" * 20_000),
        b'{"jsonrpc":"2.0","id":1,"method":"ping"}{"jsonrpc":"2.0","id":2,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":true,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":[1],"method":"ping"}',
        b'{"jsonrpc":"2.0","id":1,"method":null}',
        b'{"jsonrpc":"2.0","id":1,"method":["ping"]}',
        b'{"jsonrpc":"1.0","id":1,"method":"ping"}',
        b'{"jsonrpc":2.0,"id":1,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":"x"}',
    ],
)
@pytest.mark.parametrize("face", ["mcp", "bridge"])
async def test_a_body_that_is_no_message_is_400_and_harms_nobody(bridge: Running, face: str, content: bytes) -> None:
    session = await bridge.session()
    async with bridge.post(f"/{face}/peer", content, Mcp_Session_Id=session.id) as response:
        assert response.status == 400, await response.text()
        assert (await response.json())["error"]["code"] in (-32700, -32600)
    assert (await session.call("echo", 1))["id"] == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content_Type": "multipart/form-data; boundary=x"}, 415),
        ({"Content_Type": "application/jsonx"}, 415),
        ({"Content_Type": ""}, 415),
        ({"Content_Type": "Application/JSON; charset=UTF-8"}, 200),
        ({"Accept": "text/html"}, 406),
        ({"Accept": ""}, 406),
        ({"Accept": "application/json;q=0.1, text/event-stream;q=1"}, 200),
        ({"Accept": "application/*, text/*"}, 200),
        ({"Accept": "*/*;q=0.1"}, 200),
    ],
)
async def test_types_are_checked_as_http_has_them(bridge: Running, headers: dict[str, str], status: int) -> None:
    session = await bridge.session()
    async with bridge.post("/mcp/peer", tool("echo", 1), Mcp_Session_Id=session.id, **headers) as response:
        assert response.status == status, await response.text()
    assert re.fullmatch(r"[\x21-\x7e]{32,}", session.id)  # visible ASCII (specification, session management)
