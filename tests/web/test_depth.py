"""What is nested as deeply as can just be read is served, or refused where it comes in: nobody who holds something for
it stumbles over it later.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bridge.children.child import Child
from bridge.protocol.errors import Fault, Rejection
from bridge.sessions import greeting, modern
from bridge.sessions.streamable import StreamableSession
from tests.conftest import INITIALIZE, Running, StartBridge, in_time, last, message, peer
from tests.modern_client import ModernClient
from tests.web.test_direct import until

#: Deeper than any reader follows, on any version of Python.
TOO_DEEP = 40_000
#: How far around the deepest that is good to look: more than the frames between two readers.
AROUND = 12


def nested(body: dict[str, Any], depth: int) -> bytes:
    """A body with so many arrays in the place of HERE."""
    return json.dumps(body).replace('"HERE"', "[" * depth + "]" * depth).encode()


async def around(status: Callable[[int], Awaitable[int]]) -> set[int]:
    """Ask in all depths around the deepest that is good; return how that was answered."""
    good, bad = 1, TOO_DEEP
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if await status(middle) == 200 else (good, middle)
    return {await status(depth) for depth in range(good - 2, good + AROUND)}


def children(bridge: Running) -> list[Child]:
    return bridge.service.core.registry.children()


def holders(bridge: Running) -> int:
    return sum(child.holders for child in children(bridge))


async def test_a_call_that_is_nested_too_deeply_holds_no_child(bridge: Running) -> None:
    async def status(depth: int) -> int:
        """Call a tool, in a way that holds a child alone."""
        body = ModernClient(bridge, "peer", {"elicitation": {}}).body(
            "tools/call", name="echo", arguments={"x": "HERE"}
        )
        headers = {"MCP_Protocol_Version": "2026-07-28", "Mcp_Method": "tools/call", "Mcp_Name": "echo"}
        async with bridge.post("/mcp/peer", nested(body, depth), **headers) as response:
            await last(response)
            return int(response.status)

    async with in_time():
        assert await status(1) == 200
        before = holders(bridge)
        assert await around(status) == {200, 400}
        assert holders(bridge) == before


async def test_a_subscription_that_is_nested_too_deeply_holds_no_child(bridge: Running) -> None:
    client = ModernClient(bridge, "peer")

    async def status(depth: int) -> int:
        body = client.body("subscriptions/listen", notifications={"x": "HERE"})
        headers = {"MCP_Protocol_Version": "2026-07-28", "Mcp_Method": "subscriptions/listen"}
        async with bridge.post("/mcp/peer", nested(body, depth), **headers) as response:
            return int(response.status)  # who goes now ends it

    async with in_time():
        await client.ask("tools/list")
        before = holders(bridge)
        assert await around(status) == {200, 400}
        await until(lambda: holders(bridge) == before)


async def test_an_initialize_that_is_nested_too_deeply_leaves_its_session_as_it_was(bridge: Running) -> None:
    async def status(depth: int) -> int:
        async with bridge.post("/api/v1/sessions", {"server": "peer"}) as response:
            made = (await response.json())["session_id"]
        body = message("initialize", 1, **{**INITIALIZE, "capabilities": {"x": "HERE"}})
        async with bridge.post("/mcp/peer", nested(body, depth), Mcp_Session_Id=made) as response:
            if response.status != 200:
                assert bridge.service.core.stream_pool.find(made).state.value == "dormant"  # type: ignore[union-attr]
            await last(response)
        async with bridge.http.delete(f"{bridge.url}/mcp/peer", headers={"Mcp-Session-Id": made}) as gone:
            assert gone.status in (204, 404)  # its server has said it again with more around it
        return int(response.status)

    async with in_time():
        assert await around(status) == {200, 400}
        await until(lambda: children(bridge) == [])


async def test_arguments_that_are_nested_too_deeply_leave_no_open_call(start_bridge: StartBridge) -> None:
    away = await start_bridge({"peer": peer(args=[*peer()["args"], "--tools"])})
    bridge = await start_bridge({"far": {"url": f"{away.url}/mcp/peer"}})

    async def status(depth: int) -> int:
        async with bridge.post("/api/v1/servers/far/tools/echo", nested({"x": "HERE"}, depth)) as response:
            await response.read()
            return int(response.status)

    async with in_time():
        assert await around(status) >= {200, 400}
        assert [child.connection.open_exchanges for child in children(bridge)] == [0]


def refuse(*_: object) -> None:
    raise Rejection(Fault.NOT_JSON, "nested too deeply")


async def test_a_subscription_that_cannot_begin_holds_no_child(
    bridge: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = ModernClient(bridge, "peer")
    await client.ask("tools/list")
    before = holders(bridge)
    monkeypatch.setattr(modern, "DownListen", refuse)
    assert (await client.ask("subscriptions/listen", notifications={}))["error"]["message"] == "nested too deeply"
    assert holders(bridge) == before


async def test_a_session_that_cannot_be_introduced_ends_with_its_child(
    bridge: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StreamableSession, "introduce", refuse)
    async with bridge.post("/api/v1/sessions", {"server": "peer"}) as response:
        made = (await response.json())["session_id"]
    async with bridge.post("/mcp/peer", message("initialize", 1, **INITIALIZE), Mcp_Session_Id=made) as response:
        assert response.status == 400
    assert bridge.service.core.stream_pool.entries() == []
    async with in_time():
        await until(lambda: children(bridge) == [])


async def test_a_session_whose_server_greets_with_what_cannot_be_read_ends_with_its_child(
    bridge: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(greeting, "_version", refuse)
    async with bridge.post("/mcp/peer", message("tools/list", 1)) as response:
        assert response.status == 400
    assert bridge.service.core.stream_pool.entries() == []
    async with in_time():
        await until(lambda: children(bridge) == [])
