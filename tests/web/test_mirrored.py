"""Arguments that headers must repeat: of the tools that this client sees, as they are now."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from bridge.children import policy
from bridge.protocol.modern import LOG_LEVEL
from tests.conftest import Running, StartBridge, in_time
from tests.modern_client import ModernClient

#: A server of either era. Clients that can be asked see one tool more. What headers repeat changes when a tool says so.
SERVER = """
import json, sys
PREFIX = "io.modelcontextprotocol/"
listens, offered, lists, header, call = [], {}, 0, "Region", None
def send(**message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)
def changed():
    for id_ in listens if sys.argv[1] == "modern" else [None]:
        meta = {} if id_ is None else {"_meta": {PREFIX + "subscriptionId": id_}}
        send(method="notifications/tools/list_changed", params=meta)
def tool(name, **properties):
    return {"name": name, "inputSchema": {"type": "object", "properties": properties}}
for line in sys.stdin:
    message = json.loads(line)
    id_, method, params = message.get("id"), message.get("method"), message.get("params", {})
    meta = params.get("_meta", {})
    result = {"resultType": "complete"}
    if method in ("initialize", "server/discover"):
        if method != {"modern": "server/discover", "handshake": "initialize"}[sys.argv[1]]:
            send(id=id_, error={"code": -32601, "message": "another era"})
            continue
        offered = params.get("capabilities", {})
        result |= {"protocolVersion": "2025-11-25", "supportedVersions": ["2026-07-28"], "serverInfo": {}}
        result |= {"capabilities": {"tools": {"listChanged": True}}, "ttlMs": 0, "cacheScope": "private"}
    elif method == "subscriptions/listen":
        listens.append(id_)
        send(method="notifications/subscriptions/acknowledged", params={"_meta": {PREFIX + "subscriptionId": id_}})
        continue
    elif method == "tools/list":
        lists += 1
        if header is None:
            send(id=id_, error={"code": -32000, "message": "not now"})
            continue
        mirrored = {"region": {"type": "string", "x-mcp-header": header}}
        capable = meta.get(PREFIX + "clientCapabilities", offered)
        result["tools"] = [tool("open", **mirrored), *([tool("hidden", **mirrored)] if capable else [])]
    elif method == "tools/call":
        arguments = params["arguments"]
        if params["name"] == "change":
            header = arguments["header"]
            changed()
        elif params["name"] == "ask":
            changed()
            call = id_
            send(id="q", method="elicitation/create", params={"message": "?", "requestedSchema": {"type": "object"}})
            continue
        result |= {"content": [], "structuredContent": {"lists": lists}}
    elif id_ == "q":
        id_, result = call, {"content": []}
    elif method is None or id_ is None:
        continue
    send(id=id_, result=result)
"""
SERVERS = {era: {"command": sys.executable, "args": ["-I", "-S", "-c", SERVER, era]} for era in ("modern", "handshake")}
#: Clients by what they offer and want; the last one's calls have a child for themselves that asks nobody.
CLIENTS: list[tuple[dict[str, Any], dict[str, Any]]] = [({}, {}), ({"elicitation": {}}, {}), ({}, {LOG_LEVEL: "info"})]


@pytest.fixture
async def bridge(start_bridge: StartBridge) -> Running:
    return await start_bridge(SERVERS)


class Caller:
    """Calls a tool with an argument and a header."""

    def __init__(self, bridge: Running, server: str, capabilities: dict[str, Any], meta: dict[str, Any]) -> None:
        self.client = ModernClient(bridge, server, capabilities)
        self.meta = meta

    async def call(self, tool: str, arguments: dict[str, Any], **headers: str) -> tuple[int, dict[str, Any]]:
        body = self.client.body("tools/call", 1, self.meta, name=tool, arguments=arguments)
        async with self.client.send(body, **headers) as response:
            return response.status, await response.json()

    async def status(self, tool: str, **headers: str) -> int:
        return (await self.call(tool, {"region": "eu"}, **headers))[0]

    async def change(self, header: str | None) -> None:
        status, answer = await self.call("change", {"header": header})
        assert status == 200, answer


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(("capabilities", "meta"), CLIENTS)
async def test_a_header_is_checked_for_every_tool_that_the_client_sees(
    bridge: Running, server: str, capabilities: dict[str, Any], meta: dict[str, Any]
) -> None:
    caller = Caller(bridge, server, capabilities, meta)
    assert await caller.status("open", Mcp_Param_Region="eu") == 200
    assert await caller.status("open", Mcp_Param_Region="us") == 400
    assert await caller.status("hidden", Mcp_Param_Region="eu") == 200
    assert await caller.status("hidden", Mcp_Param_Region="us") == (400 if capabilities else 200)
    status, answer = await caller.call("open", {"region": "eu"})
    assert (status, answer["error"]["code"]) == (400, -32020)


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(("capabilities", "meta"), CLIENTS)
async def test_a_change_of_the_tools_changes_what_is_checked(
    bridge: Running, server: str, capabilities: dict[str, Any], meta: dict[str, Any]
) -> None:
    caller = Caller(bridge, server, capabilities, meta)
    assert await caller.status("open", Mcp_Param_Region="eu") == 200
    await caller.change("Zone")
    assert await caller.status("open", Mcp_Param_Zone="eu") == 200
    assert await caller.status("open", Mcp_Param_Zone="us") == 400
    assert await caller.status("open", Mcp_Param_Region="eu") == 400


async def test_clients_whose_children_differ_are_checked_by_their_own(bridge: Running) -> None:
    callers = [Caller(bridge, "handshake", *each) for each in CLIENTS]
    for caller in callers:
        assert await caller.status("open", Mcp_Param_Region="eu") == 200
    for header, caller in enumerate(callers):
        await caller.change(f"H{header}")
        for number, each in enumerate(callers):
            shown = f"H{number}" if number <= header else "Region"
            assert await each.status("open", **{f"Mcp_Param_{shown}": "eu"}) == 200
            assert await each.status("open", **{f"Mcp_Param_{shown}": "us"}) == 400


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("capabilities", [{}, {"elicitation": {}}])
async def test_the_tools_are_listed_once_for_all_who_offer_the_same(
    bridge: Running, server: str, capabilities: dict[str, Any]
) -> None:
    caller = Caller(bridge, server, capabilities, {})
    await asyncio.gather(*(caller.status("open", Mcp_Param_Region="eu") for _ in range(20)))
    assert await caller.status("open", Mcp_Param_Region="eu") == 200
    answers = await asyncio.gather(*(caller.call("lists", {}) for _ in range(5)))
    assert sum(answer["result"]["structuredContent"]["lists"] for _, answer in answers) <= len(answers)
    assert max(answer["result"]["structuredContent"]["lists"] for _, answer in answers) == 1


async def test_a_list_that_failed_is_asked_for_again(bridge: Running) -> None:
    caller = Caller(bridge, "modern", {}, {})
    await caller.change(None)
    assert await caller.status("open", Mcp_Param_Region="us") == 200, "nobody knows"
    _, answer = await caller.call("lists", {})
    assert answer["result"]["structuredContent"]["lists"] > 1


async def test_an_answer_does_not_wait_for_a_list_of_the_child_that_it_holds(
    bridge: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "INTERACTIVE_CHILDREN", 1)
    client = ModernClient(bridge, "handshake", {"elicitation": {}})
    asked = (await client.call("ask"))["result"]
    retry = {"inputResponses": {"r0": {"action": "accept"}}, "requestState": asked["requestState"]}
    async with in_time():
        answered = await client.ask("tools/call", 2, name="ask", arguments={}, **retry)
    assert answered["result"]["resultType"] == "complete"
