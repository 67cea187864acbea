"""The way out: running calls get their time, new work gets 503, nothing stays."""

from __future__ import annotations

import asyncio

import pytest

from bridge.protocol.errors import Rejection
from bridge.web.drain import Drain
from tests.conftest import Running, StartBridge, events, in_time, last, message, tool


async def _stopping(bridge: Running) -> asyncio.Task[None]:
    """A bridge that has begun to shut down."""
    task = asyncio.create_task(bridge.service.stop())
    await asyncio.sleep(0)  # it runs up to its first wait, which is for running calls
    assert bridge.service.draining
    return task


async def test_a_running_call_may_end_and_new_ones_are_503(bridge: Running) -> None:
    session = await bridge.session()
    async with session.post(tool("ask", 1)) as running:
        stream = events(running)
        question = await anext(stream)
        stopping = await _stopping(bridge)
        async with session.post(tool("echo")) as response:
            assert response.status == 503
            assert response.headers["Retry-After"]
            assert "shutting down" in (await response.json())["error"]["message"]
        async with bridge.post("/bridge/peer", {"method": "ping"}) as response:
            assert response.status == 503
        async with session.post({"jsonrpc": "2.0", "id": question["id"], "result": {}}) as response:
            assert response.status == 202  # an answer is part of the call that runs
        assert (await anext(stream))["result"] == {"answer": {}}
    await stopping


async def test_a_call_that_outlasts_the_shutdown_timeout_ends_with_an_error(start_bridge: StartBridge) -> None:
    bridge = await start_bridge(SHUTDOWN_TIMEOUT_MS=50)
    session = await bridge.session()
    async with session.post(tool("wait", "mine", key="k")) as running:
        await bridge.service.stop()
        answer = await last(running)
    assert answer["id"] == "mine"
    assert "shutting down" in answer["error"]["message"]


async def test_an_open_get_stream_does_not_hold_up_the_end(start_bridge: StartBridge) -> None:
    bridge = await start_bridge(SHUTDOWN_TIMEOUT_MS=1_000_000)
    session = await bridge.session()
    async with session.get() as stream:
        async with in_time():
            await bridge.service.stop()
        assert await stream.content.read() is not None


async def test_nothing_is_left_of_sessions_and_children(bridge: Running) -> None:
    await bridge.session()
    await bridge.bridge_call("peer", "ping")
    await bridge.service.stop()
    assert bridge.service.core.registry.children() == []


async def test_waiting_ends_with_the_last_call() -> None:
    drain = Drain()
    with drain:
        assert drain.begin() == 1
        assert await drain.wait(0.001) == 1
    assert await drain.wait(60) == 0
    with pytest.raises(Rejection), drain:
        pass


async def test_a_stopped_bridge_takes_no_connection(bridge: Running) -> None:
    await bridge.service.stop()
    with pytest.raises(OSError, match="connect"):
        async with bridge.post("/mcp/peer", message("ping", 1)):
            pass
