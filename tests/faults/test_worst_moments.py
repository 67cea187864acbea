"""A session that loses its child, or that its client deletes, at the one moment that is the worst. Chaos found them."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from bridge.config.servers import parse_servers
from bridge.process.spawn import Command
from bridge.protocol import jsontext
from bridge.protocol.errors import Fault
from bridge.protocol.messages import Notification, Request
from bridge.protocol.mux import CANCELLED
from bridge.protocol.states import SessionState
from bridge.sessions.room import SessionEntry
from bridge.web import sse
from tests.conftest import INITIALIZE, StartBridge, in_time, last, message, peer, tool
from tests.faults.conftest import babbler, until
from tests.modern_client import ModernClient
from tests.process.watched import Watched


async def test_a_child_that_dies_while_its_session_is_written_costs_no_answer(
    start_bridge: StartBridge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"SESSION_STORE": "file", "SESSION_DIR": str(tmp_path)}
    bridge = await start_bridge({"kept": peer(persistent=True)}, **settings)
    kept = bridge.service.core.sessions.kept
    settle = kept.settle

    async def dies_meanwhile(entry: SessionEntry) -> None:
        await settle(entry)
        assert entry.session.pid is not None
        os.kill(entry.session.pid, signal.SIGKILL)
        await until(lambda: entry.state is SessionState.DORMANT, "the session has lost its child")

    monkeypatch.setattr(kept, "settle", dies_meanwhile)
    async with in_time():
        session = await bridge.session("kept")
        assert (await session.call("echo", n=1))["result"] == {"n": 1}
    async with session.delete() as response:
        assert response.status == 204


@pytest.mark.parametrize("turns", [1, 2])
async def test_a_session_that_is_deleted_as_a_request_wakes_it_refuses_that_request(
    start_bridge: StartBridge, turns: int
) -> None:
    bridge = await start_bridge()
    await bridge.session()
    sessions = bridge.service.core.sessions
    [entry] = sessions.pool.entries()
    sessions.seating.park(entry, "a test")
    calling = asyncio.create_task(entry.session.call(Request(b"1", "ping", b"{}"), silence=None))
    for _ in range(turns):
        await asyncio.sleep(0)  # it is about to ask for a child; it has asked, and nobody has begun to look for one
    sessions.delete(entry)
    exchange = await calling
    assert exchange.failure is not None
    assert exchange.failure.fault is Fault.UNKNOWN_SESSION


@pytest.mark.parametrize("turns", [1, 2])
async def test_a_call_that_is_cancelled_as_it_wakes_its_session_is_not_sent(
    start_bridge: StartBridge, turns: int
) -> None:
    bridge = await start_bridge()
    session = await bridge.session()
    sessions = bridge.service.core.sessions
    [entry] = sessions.pool.entries()
    sessions.seating.park(entry, "a test")
    params = jsontext.encode({"name": "count", "arguments": {}})
    calling = asyncio.create_task(entry.session.call(Request(b"1", "tools/call", params), silence=None))
    for _ in range(turns):
        await asyncio.sleep(0)
    entry.session.tell(Notification(CANCELLED, b'{"requestId":1}'))
    exchange = await calling
    assert "cancelled" in str(exchange.failure)
    assert (await session.call("count"))["result"] == {"count": 1}


@pytest.mark.parametrize("turns", range(1, 12))
async def test_a_start_that_is_cancelled_closes_every_descriptor_once(turns: int) -> None:
    """The loop closes the pipes that it was given; a second close would hit whatever has that number by then."""
    child = Watched(Command(("cat",), {"PATH": os.environ["PATH"]})).child
    starting = asyncio.create_task(child.start())
    for _ in range(turns):
        await asyncio.sleep(0)
    starting.cancel()
    await asyncio.wait([starting])
    if child.pid is not None:
        for _ in range(3):  # the loop closes what it has
            await asyncio.sleep(0)
        await child.stop(0.01)


async def test_a_session_that_loses_its_child_while_a_message_comes_refuses_that_message(
    start_bridge: StartBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On HTTP+SSE: taken, it would be answered on a stream that has ended."""
    bridge = await start_bridge()
    read = sse.read_json

    async def read_slowly(request: web.Request) -> bytes:
        body = await read(request)
        [child] = bridge.service.core.registry.children()
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        await until(lambda: len(bridge.service.core.sessions.pool) == 0, "the session has ended")
        return body

    async with bridge.http.get(bridge.url + "/sse/peer") as stream:
        await stream.content.readuntil(b"data: ")
        path = (await stream.content.readline()).decode().strip()
        async with bridge.post(path, message("initialize", 0, **INITIALIZE)) as response:
            assert response.status == 202
        await stream.content.readuntil(b'"id":0')
        monkeypatch.setattr(sse, "read_json", read_slowly)
        async with bridge.post(path, tool("echo")) as response:
            assert response.status == 404
            assert "killed by signal 9" in (await response.json())["error"]["message"]


async def test_a_session_that_ends_before_its_initialize_is_answered_answers_it_all_the_same(
    start_bridge: StartBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On HTTP+SSE, where the answer comes on the stream that ends with the session."""
    bridge = await start_bridge()

    async def ends_meanwhile(entry: SessionEntry) -> None:
        bridge.service.core.sessions.end(entry, "a test")

    monkeypatch.setattr(bridge.service.core.sessions.kept, "settle", ends_meanwhile)
    async with in_time(), bridge.http.get(bridge.url + "/sse/peer") as stream:
        await stream.content.readuntil(b"data: ")
        path = (await stream.content.readline()).decode().strip()
        async with bridge.post(path, message("initialize", 0, **INITIALIZE)) as response:
            assert response.status == 202
        rest = await stream.content.read()  # to its end
    assert b'"id":0,"error"' in rest
    assert b"session ended" in rest


GOING = {
    "modern": lambda bridge: ModernClient(bridge, "npx").send(ModernClient(bridge, "npx").body("tools/list")),
    "alone": lambda bridge: ModernClient(bridge, "npx").send(
        ModernClient(bridge, "npx", {"elicitation": {}}).body("tools/call", name="echo", arguments={})
    ),
    "mcp": lambda bridge: bridge.post("/mcp/npx", message("initialize", 0, **INITIALIZE)),
    "implicit": lambda bridge: bridge.post("/mcp/npx", tool("echo")),
    "bridge": lambda bridge: bridge.post("/bridge/npx", tool("echo")),
    "rest": lambda bridge: bridge.post("/api/v1/servers/npx/tools/echo", {}),
    "openapi": lambda bridge: bridge.http.get(bridge.url + "/openapi.json"),
}


@pytest.mark.parametrize("face", GOING)
async def test_a_server_that_is_removed_while_a_request_starts_it_ends_that_request_with_a_clear_error(
    start_bridge: StartBridge, tmp_path: Path, face: str, caplog: pytest.LogCaptureFixture
) -> None:
    done = tmp_path / "installed"
    bridge = await start_bridge({"npx": babbler("--stderr-until", str(done))})
    asking = asyncio.create_task(_status(GOING[face](bridge)))
    children = bridge.service.core.registry.children
    await until(lambda: [each.state.value for each in children()] == ["greeting"], "it starts")
    bridge.service.reload(parse_servers("{}", "servers.json", {}))
    done.touch()
    status, error = await asking
    assert (status, error.get("error", {}).get("code") != -32603) in {(200, True), (404, True), (502, True)}, error
    assert "Traceback" not in caplog.text


async def test_a_server_that_is_removed_while_its_tools_are_read_answers_the_call_that_wanted_them(
    start_bridge: StartBridge, caplog: pytest.LogCaptureFixture
) -> None:
    bridge = await start_bridge()
    client = ModernClient(bridge, "peer")
    assert "result" in await client.ask("tools/list")
    [child] = bridge.service.core.registry.children()
    assert child.pid is not None
    os.kill(child.pid, signal.SIGSTOP)
    asking = asyncio.create_task(_status(client.send(client.body("tools/call", name="echo", arguments={}))))
    await until(lambda: child.connection.open_exchanges == 1, "its tools are read")
    bridge.service.reload(parse_servers("{}", "servers.json", {}))
    os.kill(child.pid, signal.SIGCONT)
    status, answer = await asking
    assert (status, answer["result"]["resultType"]) == (200, "complete")
    async with client.send(client.body("tools/call", name="echo", arguments={})) as response:
        assert response.status == 404
        assert 'no server "peer"' in (await last(response))["error"]["message"]
    assert "Traceback" not in caplog.text


async def _status(asked: Any) -> tuple[int, Any]:
    async with in_time(), asked as response:
        return response.status, await last(response)
