"""Every byte of params and results passes as it was written, on every way; what is no JSON passes on none."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest

from tests.conftest import ACCEPT, PEERS, Running, Session, StartBridge, last, message

MIRROR = ["-I", "-S", str(PEERS / "mirror.py")]
SERVERS = {
    "mirror": {"command": sys.executable, "args": MIRROR},
    "modern": {"command": sys.executable, "args": [*MIRROR, "--modern"]},
}
ENVELOPE = (
    b'{"io.modelcontextprotocol/protocolVersion":"2026-07-28", "io.modelcontextprotocol/clientCapabilities" : {},'
    rb'"a":1.0,"\u0061":-0}'
)
#: Members of an object that a decoder and an encoder would not give back as they are.
ODD = [
    b'"b":1,"a":2,"B":3',  # the order of keys
    b'"a":1,"a":2',  # a key twice
    b'"n":[1.0,1.10,1E5,1e+05,-0,-0.0,0.1e-7,1e400]',  # one number, many spellings, and one that no float holds
    b'"n":123456789012345678901234567890',  # no 64 bits hold it
    rb'"s":"\u0041\/\u00e9\b\ud83d\ude00"',  # escapes that need not be
    '"s":"é😀\u2028\x7f"'.encode(),  # and characters that need none
    rb'"\u0061":"\n\\n","":null',
    b' "a" :  [ 1 ,\t{ } ] ',  # blanks
    b'"id":7,"method":"y","result":1,"jsonrpc":"1.0"',  # what looks like an envelope
    rb'"s":"data: x\r\n\r\nid: 1","t":"ID"',  # what looks like an event
]


@pytest.fixture
async def mirrors(start_bridge: StartBridge) -> Running:
    return await start_bridge(SERVERS)


@pytest.fixture
async def session(mirrors: Running) -> Session:
    return await mirrors.session("mirror")


def _call(params: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":"x","method":"tools/call","params":%b}' % params


def _answer(result: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":"x","result":%b}' % result


async def _posted(bridge: Running, path: str, body: bytes, **headers: str) -> bytes:
    given = {"Content-Type": "application/json", "Accept": ACCEPT, **headers}
    dashed = {name.replace("_", "-"): value for name, value in given.items()}
    async with bridge.http.post(bridge.url + path, data=io.BytesIO(body), headers=dashed) as response:
        assert response.status == 200, await response.text()
        return bytes(await response.read())


def _modern(bridge: Running, server: str, params: bytes) -> Any:
    headers = {"MCP_Protocol_Version": "2026-07-28", "Mcp_Method": "tools/call", "Mcp_Name": "t"}
    return _posted(bridge, f"/mcp/{server}", _call(params), **headers)


@pytest.mark.parametrize("odd", ODD)
async def test_a_call_of_a_session(mirrors: Running, session: Session, odd: bytes) -> None:
    params = b'{"name":"t",%b}' % odd
    assert await _posted(mirrors, "/mcp/mirror", _call(params), Mcp_Session_Id=session.id) == _answer(params)


@pytest.mark.parametrize("odd", ODD)
async def test_of_a_call_with_a_progress_token_nothing_changes_but_the_token(
    mirrors: Running, session: Session, odd: bytes
) -> None:
    params = b'{%b,"name":"t", "_meta": {%b, "progressToken":%%b} }' % (odd, odd)
    answer = await _posted(mirrors, "/mcp/mirror", _call(params % b'"my token"'), Mcp_Session_Id=session.id)
    progress = (
        b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"my token","progress":1.0}}'
    )
    on_wire = params % b"2"  # initialize was the child's first request
    assert [line[6:] for line in answer.split(b"\n") if line.startswith(b"data: ")] == [progress, _answer(on_wire)]


@pytest.mark.parametrize("odd", ODD)
async def test_a_bridge_call(mirrors: Running, odd: bytes) -> None:
    params = b'{"name":"t",%b}' % odd
    assert await _posted(mirrors, "/bridge/mirror", _call(params)) == _answer(params)
    bare = b'{"method":"tools/call","params":%b}' % params
    assert await _posted(mirrors, "/bridge/mirror", bare) == b'{"result":%b}' % params


@pytest.mark.parametrize("odd", ODD)
async def test_a_modern_call_of_a_modern_server(mirrors: Running, odd: bytes) -> None:
    params = b'{"name":"t",%b, "_meta":%b}' % (odd, ENVELOPE)
    assert await _modern(mirrors, "modern", params) == _answer(params)


@pytest.mark.parametrize("odd", ODD)
async def test_the_arguments_of_a_modern_call_of_a_handshake_server(mirrors: Running, odd: bytes) -> None:
    arguments = b'"arguments":{%b}' % odd
    answer = await _modern(mirrors, "mirror", b'{"name":"t",%b,"_meta":%b}' % (arguments, ENVELOPE))
    assert arguments in answer


@pytest.mark.parametrize("odd", ODD)
async def test_the_arguments_of_a_handshake_call_of_a_modern_server(mirrors: Running, odd: bytes) -> None:
    session = await mirrors.session("modern")
    arguments = b'"arguments":{%b}' % odd
    params = b'{"name":"t",%b}' % arguments
    assert arguments in await _posted(mirrors, "/mcp/modern", _call(params), Mcp_Session_Id=session.id)


async def test_a_megabyte_of_it(mirrors: Running, session: Session) -> None:
    params = b'{"name":"t","n":[%b]}' % b",".join([b"{%b}" % odd for odd in ODD] * 3500)
    assert len(params) > 1_000_000
    assert await _posted(mirrors, "/mcp/mirror", _call(params), Mcp_Session_Id=session.id) == _answer(params)
    assert await _posted(mirrors, "/bridge/mirror", _call(params)) == _answer(params)
    params = params[:-1] + b',"_meta":%b}' % ENVELOPE
    assert await _modern(mirrors, "modern", params) == _answer(params)


@pytest.mark.parametrize(
    "result",
    [
        b'{"n":NaN}',
        b'{"n":[Infinity]}',
        b'{"n":01}',
        b'{"s":"\xff"}',
        rb'{"s":"\ud83d"}',
        b'{"s":"one\ttab"}',
        b'{"s":1,}',
        b'{"s":1',
        b"{'s':1}",
    ],
)
@pytest.mark.parametrize("way", ["session", "bridge", "modern"])
async def test_an_answer_that_is_no_json_becomes_an_error(mirrors: Running, way: str, result: bytes) -> None:
    line = b'{"jsonrpc":"2.0","id":ID,"result":%b}' % result
    params = b'{"name":"t","say":"%b","_meta":%b}' % (line.hex().encode(), ENVELOPE if way == "modern" else b"{}")
    if way == "bridge":
        async with mirrors.post("/bridge/mirror", _call(params)) as response:
            assert response.status == 502
            answer = await response.json()
    elif way == "modern":
        headers = {"MCP_Protocol_Version": "2026-07-28", "Mcp_Method": "tools/call", "Mcp_Name": "t"}
        async with mirrors.post("/mcp/modern", _call(params), **headers) as response:
            answer = await last(response)
    else:
        session = await mirrors.session("mirror")
        async with mirrors.post("/mcp/mirror", _call(params), Mcp_Session_Id=session.id) as response:
            answer = await last(response)
        async with session.post(message("tools/call", 2, name="t")) as response:
            assert (await last(response))["result"] == {"name": "t"}  # and nobody else notices
    assert answer["id"] == "x"
    assert "answered with what cannot be passed on" in answer["error"]["message"]
