"""What has ended is forgotten: nothing of it is left in a bridge whose children live for months."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.conftest import INITIALIZE, PEERS, Running, StartBridge, events, message, peer
from tests.faults.conftest import until
from tests.faults.glass import ours
from tests.modern_client import ModernClient

PEER = {**peer(), "args": [*peer()["args"], "--changes", "--tools"]}
SERVERS = {
    "own": PEER,
    "shared": {**PEER, "sharing": "shared"},
    "pooled": {**PEER, "sharing": "pooled"},
    "modern": {"command": sys.executable, "args": ["-I", "-S", str(PEERS / "modern_peer.py")]},
}
TIMES = 12
Way = Callable[[Running, str], Awaitable[None]]


async def session(bridge: Running, server: str) -> None:
    """A session with a stream, a subscription and calls, which is deleted."""
    client = await bridge.session(server)
    async with client.get():
        if server != "modern":
            await client.ask("resources/subscribe", uri="file:///a")
        await client.call("echo", n=1)
        await client.call("progress", 7, token="t", steps=3)
    async with client.delete() as response:
        assert response.status == 204


async def created(bridge: Running, server: str) -> None:
    """A session that is made by the management API, and never initialized."""
    async with bridge.post("/api/v1/sessions", {"server": server}) as response:
        made = (await response.json())["session_id"]
    async with bridge.http.delete(f"{bridge.url}/api/v1/sessions/{made}") as response:
        assert response.status in (200, 204)


async def sse(bridge: Running, server: str) -> None:
    """A session of HTTP+SSE, which ends with its stream."""
    async with bridge.http.get(f"{bridge.url}/sse/{server}") as stream:
        await stream.content.readuntil(b"data: ")
        path = (await stream.content.readline()).decode().strip()
        async with bridge.post(path, message("initialize", 0, **INITIALIZE)) as response:
            assert response.status == 202
        await stream.content.readuntil(b'"id":0')


async def call(bridge: Running, server: str) -> None:
    """A call without a session."""
    assert "result" in await bridge.bridge_call(server, "tools/call", name="echo", arguments={"n": 1})


async def rest(bridge: Running, server: str) -> None:
    """A tool by plain HTTP."""
    async with bridge.post(f"/api/v1/servers/{server}/tools/echo", {"n": 1}) as response:
        assert response.status == 200


async def modern(bridge: Running, server: str) -> None:
    """Calls of a modern client, one of which asks its user and gets an answer."""
    client = ModernClient(bridge, server, {"elicitation": {}, "sampling": {}})
    await client.call("echo", n=1)
    params: dict[str, Any] = {}
    while (result := (await client.ask("tools/call", 1, name="ask", arguments={}, **params))["result"])[
        "resultType"
    ] == "input_required":
        answers = {key: {"action": "decline"} for key in result["inputRequests"]}
        params = {"inputResponses": answers, "requestState": result["requestState"]}


async def listen(bridge: Running, server: str) -> None:
    """A subscription of a modern client, which it leaves."""
    client = ModernClient(bridge, server)
    body = client.body("subscriptions/listen", "l", notifications={"toolsListChanged": True})
    async with client.send(body) as response:
        await anext(events(response))
        response.close()


async def cut(bridge: Running, server: str) -> None:
    """A call that its client cancels by going away."""
    client = ModernClient(bridge, server)
    await client.call("echo", n=1)  # its tools are known then
    body = client.body("tools/call", 1, {"progressToken": "p"}, name="wait", arguments={"key": "k"})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05), client.send(body) as response:
            await response.read()


async def everywhere(bridge: Running, server: str) -> None:
    """A session at all servers at once."""
    if server != "shared":
        return
    client = await bridge.session_at("/mcp")
    await client.ask("tools/list")
    await client.call("shared__echo", n=1)
    async with client.delete() as response:
        assert response.status == 204


WAYS = (session, created, sse, call, rest, modern, listen, cut, everywhere)


@pytest.mark.parametrize("way", WAYS)
async def test_what_has_ended_is_forgotten(start_bridge: StartBridge, way: Way) -> None:
    bridge = await start_bridge(SERVERS)
    for server in SERVERS:
        await bridge.session(server)  # keeps a shared child alive
    before: Counter[str] = Counter()

    async def some(times: int) -> None:
        for _ in range(times):
            for server in SERVERS:
                await way(bridge, server)

    def has_settled() -> bool:
        nonlocal before
        seen, before = before, ours()
        return seen == before

    await some(2)
    await until(has_settled, "nothing happens any more")
    await some(TIMES)
    more: dict[str, int] = {}

    def is_as_before() -> bool:
        nonlocal more
        more = {name: count - before[name] for name, count in ours().items() if count >= before[name] + TIMES // 2}
        return not more

    await until(is_as_before, lambda: f"more than before: {more}")
