"""How many calls a caller may have in flight (maxConcurrent): each gives its place back, however it ends."""

from __future__ import annotations

import asyncio

import pytest

from tests.conftest import Session, StartBridge, events, in_time, message, peer, tool
from tests.modern_client import ModernClient
from tests.web.test_sse import connected


async def _until_free(session: Session) -> None:
    """Call until there is a place, which is there when the call before has ended."""
    async with in_time():
        while True:
            async with session.post(tool("echo", 9)) as response:
                if response.status == 200:
                    return


async def test_one_call_too_many_is_refused_until_one_has_ended(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"peer": peer(maxConcurrent=2)})
    session, other = await bridge.session(), await bridge.session()
    async with session.post(tool("wait", 1, key="a")) as first, other.post(tool("wait", 2, key="b")) as second:
        for each in (session, other):
            async with each.post(tool("echo", 3)) as response:
                assert response.status == 429
                assert response.headers["Retry-After"] == "1"
                error = await response.json()
                assert (error["id"], "maxConcurrent" in error["error"]["message"]) == (3, True)
        async with bridge.post("/bridge/peer", {"method": "tools/list"}) as response:
            assert response.status == 429
        await first.content.readany()
        await second.content.readany()
        async with session.delete() as response:  # ends its call
            assert response.status == 204
        await _until_free(other)


async def test_a_call_whose_client_has_gone_still_counts(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"peer": peer(maxConcurrent=1)})
    session = await bridge.session()
    async with session.post(tool("wait", 1, key="a")) as response:
        await response.content.readany()
        response.close()
    async with session.post(tool("echo", 2)) as response:
        assert response.status == 429
    async with session.post(message("notifications/cancelled", requestId=1)) as response:
        assert response.status == 202


async def test_what_answers_a_question_is_no_call(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"peer": peer(maxConcurrent=1)})
    session = await bridge.session()
    async with session.post(tool("ask", 1)) as response:
        messages = events(response)
        question = await anext(messages)
        answer = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {}}}
        async with session.post(answer) as taken:
            assert taken.status == 202
        assert "result" in await anext(messages)
    await _until_free(session)


@pytest.mark.parametrize("ends", ["answer", "error", "death", "hang up"])
async def test_each_call_of_a_face_without_sessions_gives_its_place_back(start_bridge: StartBridge, ends: str) -> None:
    bridge = await start_bridge({"peer": peer(maxConcurrent=1, restartDelay=1)})
    name = {"answer": "echo", "error": "unknown tool", "death": "die", "hang up": "never"}[ends]
    modern = ModernClient(bridge, "peer")
    for call in (
        lambda name: bridge.post("/bridge/peer", {"method": "tools/call", "params": {"name": name, "arguments": {}}}),
        lambda name: modern.send(modern.body("tools/call", name=name, arguments={})),
    ):
        if ends == "hang up":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5), call(name) as response:
                    await response.read()
        else:
            async with call(name) as response:
                assert response.status != 429
                await response.read()
        async with in_time():
            while True:
                async with call("echo") as response:
                    if response.status == 200:
                        break


async def test_what_the_bridge_answers_itself_gives_its_place_back(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"peer": peer(maxConcurrent=1)})
    for method in ("initialize", "initialize", "ping"):
        async with bridge.post("/bridge/peer", {"method": method}) as response:
            assert response.status == 200


@pytest.mark.parametrize("face", ["mcp", "batch", "sse"])
async def test_a_call_whose_client_leaves_while_it_waits_for_a_child_gives_its_place_back(
    start_bridge: StartBridge, face: str
) -> None:
    one_child = {"holders": 1, "hold": "exchange", "limit": 1}
    bridge = await start_bridge({"peer": peer(maxConcurrent=2, sharing=one_child)})
    session = await bridge.session(protocolVersion="2025-03-26")
    async with connected(bridge) as client:
        await client.initialize()

        async def echo() -> None:
            if face == "sse":
                await client.send(tool("echo", 2))
                return
            async with session.post(tool("echo", 2) if face == "mcp" else [tool("echo", 2)]) as answer:
                raise AssertionError(await answer.text())

        for _ in range(2):  # a place that was lost in the first round is missing in the second
            other = await bridge.session()
            async with other.post(tool("wait", 1, key="k")) as holding:
                await holding.content.readany()
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(echo(), 0.5)
                async with other.delete() as response:
                    assert response.status == 204
