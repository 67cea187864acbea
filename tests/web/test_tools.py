"""``allowedTools`` and ``disabledTools``: what is not there for clients is in no list, and no call reaches it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PEERS, Running, StartBridge, last, message, tool
from tests.modern_client import ModernClient

READ = r'{ "name":"read_file", "description":"\u0041\/ é", "inputSchema" : {"a":1.0,"a":2} }'
LIST = '{"name":"list_files","inputSchema":{}}'
WRITE = '{"name":"write_file","inputSchema":{}}'
SECRET = r'{"name":"read_\u0073ecret","inputSchema":{}}'
KEYS = {"allowedTools": ["read_*", "list_files"], "disabledTools": ["*_secret"]}
SEEN = ["read_file", "list_files"]


def server(file: Path, *flags: str, **keys: Any) -> dict[str, Any]:
    """The peer whose tools stand in a file."""
    return {"command": sys.executable, "args": ["-I", "-S", str(PEERS / "tools_peer.py"), str(file), *flags], **keys}


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    file = tmp_path / "pages"
    file.write_text(f"[{WRITE}, {READ},{SECRET}]\n[ {WRITE} ]\n[{SECRET} ,{LIST}]\n")
    return file


@pytest.fixture
async def guarded(start_bridge: StartBridge, pages: Path) -> Running:
    """The same tools behind servers of every kind."""
    origin = await start_bridge({"old": server(pages), "new": server(pages, "--modern")})
    return await start_bridge(
        {
            "own": server(pages, **KEYS),
            "shared": server(pages, sharing="shared", **KEYS),
            "pooled": server(pages, sharing="pooled", **KEYS),
            "modern": server(pages, "--modern", **KEYS),
            "remote": {"url": f"{origin.url}/mcp/old", **KEYS},
            "remote-modern": {"url": f"{origin.url}/mcp/new", **KEYS},
        }
    )


class Handshake:
    def __init__(self, bridge: Running, name: str) -> None:
        self._bridge, self._name, self._session = bridge, name, None

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._session = self._session or await self._bridge.session(self._name)
        return await self._session.ask(method, 1, **params)


class Bridge(Handshake):
    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        return await self._bridge.bridge_call(self._name, method, **params)


class Modern(Handshake):
    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        return await ModernClient(self._bridge, self._name).ask(method, 1, **params)


class Asking(Handshake):
    """A modern client that may be asked, so that its calls hold a handshake child alone."""

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        return await ModernClient(self._bridge, self._name, {"elicitation": {}}).ask(method, 1, **params)


FACES = [Handshake, Bridge, Modern, Asking]
NAMES = ["own", "shared", "pooled", "modern", "remote", "remote-modern"]


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("name", NAMES)
async def test_what_is_not_for_clients_is_in_no_list_and_cannot_be_called(
    guarded: Running, name: str, face: type[Handshake]
) -> None:
    client = face(guarded, name)
    found: list[str] = []
    cursor: dict[str, str] = {}
    for _ in range(3):
        result = (await client.ask("tools/list", **cursor))["result"]
        found += [each["name"] for each in result["tools"]]
        cursor = {"cursor": result["nextCursor"]} if "nextCursor" in result else {}
    assert found == SEEN
    assert cursor == {}
    for refused in ("write_file", "read_secret", "unheard_of"):
        answer = await client.ask("tools/call", name=refused, arguments={})
        assert answer["error"] == {"code": -32602, "message": f"Unknown tool: {refused}"}
    answer = await client.ask("tools/call", name="read_file", arguments={"x": 1})
    assert answer["result"]["structuredContent"]["calls"] == ["read_file"]  # and no other call was heard there


async def test_tools_that_stay_keep_their_bytes(guarded: Running) -> None:
    session = await guarded.session("own")
    async with session.post(message("tools/list", 1)) as response:
        body = (await response.read()).decode()
    assert body == f'{{"jsonrpc":"2.0","id":1,"result":{{ "tools" : [{READ}], "nextCursor":"1"}}}}'


@pytest.mark.parametrize(
    "params",
    [
        '{"name":"read_file","Name":"write_file","arguments":{}}',
        '{"NAME":"write_file","name":"read_file","arguments":{}}',
        '{"arguments":{}}',
        '{"name":["write_file"]}',
        '{"name":"read_file","name":"write_file"}',
    ],
)
async def test_a_call_that_can_be_read_in_two_ways_reaches_nobody(guarded: Running, params: str) -> None:
    session = await guarded.session("own")
    body = f'{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}'
    async with guarded.post("/mcp/own", body.encode(), Mcp_Session_Id=session.id) as response:
        assert (await last(response))["error"]["code"] == -32602
    assert (await session.call("read_file"))["result"]["structuredContent"]["calls"] == ["read_file"]


async def test_a_member_that_is_there_twice_reaches_the_child_once(guarded: Running) -> None:
    session = await guarded.session("own")
    params = '{"name":"write_file","name":"read_file"}'  # some servers take the first
    body = f'{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}'
    async with guarded.post("/mcp/own", body.encode(), Mcp_Session_Id=session.id) as response:
        assert (await last(response))["result"]["structuredContent"]["calls"] == ["read_file"]


async def test_a_call_without_an_id_reaches_nobody(guarded: Running) -> None:
    session = await guarded.session("own")
    async with session.post(message("tools/call", None, name="write_file")) as response:
        assert response.status == 202
    assert (await session.call("read_file"))["result"]["structuredContent"]["calls"] == ["read_file"]


async def test_a_refused_call_in_a_batch_is_one_answer_of_many(guarded: Running) -> None:
    session = await guarded.session("own", protocolVersion="2025-03-26")
    batch = [tool("write_file", 1), tool("read_file", 2)]
    async with guarded.post("/mcp/own", json.dumps(batch).encode(), Mcp_Session_Id=session.id) as response:
        answers = {answer["id"]: answer for answer in await response.json()}
    assert answers[1]["error"]["message"] == "Unknown tool: write_file"
    assert answers[2]["result"]["structuredContent"]["calls"] == ["read_file"]


@pytest.mark.parametrize("face", [Handshake, Bridge])
async def test_a_list_ends_with_its_error_when_the_child_dies(
    start_bridge: StartBridge, tmp_path: Path, face: type[Handshake]
) -> None:
    bridge = await start_bridge({"own": server(tmp_path / "missing", **KEYS)})  # to read it ends the peer
    answer = await face(bridge, "own").ask("tools/list")
    assert "exited with code 1" in answer["error"]["message"]
