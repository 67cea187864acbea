"""``idleStopMs``: the process of a session that idles ends, the session does not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bridge.protocol.states import SessionState
from bridge.sessions.room import SessionEntry
from tests.conftest import PEERS, Running, Session, StartBridge, in_time, peer, sse, tool
from tests.modern_client import ModernClient

Way = Callable[[Running], Awaitable[None]]

IDLE = 100.0  # seconds
RICH = {"peer": {**peer(idleStopMs=IDLE * 1000), "args": [*peer()["args"], "--changes"]}}


@pytest.fixture
async def bridge(start_bridge: StartBridge) -> Running:
    """A bridge whose sessions lose their process after a while; when that has passed, a test says."""
    return await start_bridge(RICH, STREAM_SESSION_TTL_MS="never")


def entry_of(bridge: Running, session: Session) -> SessionEntry:
    entry = bridge.service.core.sessions.pool.find(session.id)
    assert entry is not None
    return entry


def pass_time(bridge: Running, *sessions: Session) -> int:
    """Let the idle time of sessions pass, and have the bridge look; return how many processes it stops."""
    for session in sessions:
        entry_of(bridge, session).last_used -= IDLE
    return bridge.service.core.upkeep.look()


async def no_children(bridge: Running) -> None:
    async with in_time():
        while await bridge.get("/children"):
            pass


async def test_an_idle_session_loses_its_process_and_gets_another(bridge: Running) -> None:
    session = await bridge.session()
    await session.ask("logging/setLevel", level="warning")
    assert pass_time(bridge) == 0
    assert pass_time(bridge, session) == 1
    await no_children(bridge)
    [row] = await bridge.get("/sessions")
    assert (row["state"], row["pid"], row["restored"]) == ("dormant", None, False)
    assert (await session.call("count"))["result"]["count"] == 1
    assert (await session.call("seen"))["result"]["levels"] == ["warning"]
    assert entry_of(bridge, session).state is SessionState.IDLE


@pytest.mark.parametrize("kind", ["own", "modern", "shared"])
async def test_a_session_keeps_the_version_that_its_client_was_told(start_bridge: StartBridge, kind: str) -> None:
    entry = peer(persistent=True, sharing="shared" if kind == "shared" else "session")
    if kind == "modern":
        entry["args"] = [*entry["args"][:-1], str(PEERS / "modern_peer.py")]
    bridge = await start_bridge({"peer": entry})
    session = await bridge.session(protocolVersion="2025-03-26")
    bridge.service.core.sessions.seating.park(entry_of(bridge, session), "memory is short")
    async with session.post([tool("echo", id_, a=id_) for id_ in (1, 2)]) as response:  # which that version alone has
        assert response.status == 200, await response.text()
        assert sorted(answer["id"] for answer in await response.json()) == [1, 2]
    async with session.post([tool("echo", 3, a=3)]) as response:
        assert response.status == 200, await response.text()
    assert entry_of(bridge, session).session.version == "2025-03-26"
    assert not entry_of(bridge, session).session.primes  # with an event that older clients cannot read


async def test_a_call_in_flight_keeps_the_process(bridge: Running) -> None:
    session = await bridge.session()
    async with session.post(tool("wait", 1, key="k")) as stream:
        assert pass_time(bridge, session) == 0
        await session.call("release", 2, key="k")
        await stream.read()
    assert pass_time(bridge, session) == 1


async def test_a_question_keeps_the_process(bridge: Running) -> None:
    session = await bridge.session()
    await session.call("ask_later")  # a question that belongs to no call
    async with in_time():
        while not (await bridge.get("/children"))[0]["open_questions"]:
            pass
    assert pass_time(bridge, session) == 0


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
async def test_a_task_keeps_the_process_until_its_end_is_told(bridge: Running, status: str) -> None:
    session = await bridge.session(protocolVersion="2025-11-25")
    for key in ("one", "two"):
        await session.call("begin", key=key, ttl=3_600_000)
    for key, stopped in (("one", 0), ("two", 1)):
        await session.call("finish", key=key, status="input_required")
        assert pass_time(bridge, session) == 0
        await session.call("finish", key=key, status=status)
        assert pass_time(bridge, session) == stopped


@pytest.mark.parametrize(
    ("tool", "method"),
    [("finish", "tasks/get"), ("finish", "tasks/result"), ("echo", "tasks/cancel"), ("forget", "tasks/get")],
)
async def test_a_task_keeps_the_process_until_its_end_is_asked_for(bridge: Running, tool: str, method: str) -> None:
    session = await bridge.session(protocolVersion="2025-11-25")
    await session.call("begin", key="t")
    await session.ask("tasks/get", taskId="t")
    await session.call(tool, key="t", quietly=True)
    assert pass_time(bridge, session) == 0
    await session.ask(method, taskId="t")
    assert pass_time(bridge, session) == 1


async def test_a_task_that_its_server_may_have_forgotten_does_not_keep_the_process(bridge: Running) -> None:
    session = await bridge.session(protocolVersion="2025-11-25")
    await session.call("begin", key="t", ttl=1)
    async with in_time():
        while not pass_time(bridge, session):
            await bridge.get("/sessions")


async def test_a_task_of_an_earlier_process_does_not_keep_the_next(bridge: Running) -> None:
    session = await bridge.session(protocolVersion="2025-11-25")
    await session.call("begin", key="t")
    bridge.service.core.sessions.seating.park(entry_of(bridge, session), "memory is short")
    assert (await session.call("count"))["result"]["count"] == 1
    assert pass_time(bridge, session) == 1


async def test_a_stream_that_waits_for_nothing_does_not_keep_the_process(bridge: Running) -> None:
    """Clients keep one open all the time; it goes on when the session has a process again."""
    session = await bridge.session(protocolVersion="2025-11-25")
    async with session.get() as stream:
        found = sse(stream)
        await anext(found)  # the primer
        assert pass_time(bridge, session) == 1
        assert entry_of(bridge, session).state is SessionState.DORMANT
        await session.call("list_changed")
        _, note = await anext(found)
        assert note["method"] == "notifications/tools/list_changed"
        assert entry_of(bridge, session).state is SessionState.ACTIVE


async def test_a_stream_that_waits_for_updates_keeps_the_process(bridge: Running) -> None:
    session = await bridge.session()
    await session.ask("resources/subscribe", uri="file:///a")
    async with session.get():
        assert pass_time(bridge, session) == 0
    async with in_time():
        while (await bridge.get("/sessions"))[0]["in_use"]:
            pass
    assert pass_time(bridge, session) == 1


async def test_a_session_that_sleeps_can_be_deleted(bridge: Running) -> None:
    session = await bridge.session()
    pass_time(bridge, session)
    async with session.delete() as response:
        assert response.status == 204
    assert await bridge.get("/sessions") == []


async def test_a_session_that_is_deleted_while_it_wakes_leaves_no_process(bridge: Running) -> None:
    session = await bridge.session()
    pass_time(bridge, session)
    call = asyncio.create_task(_answer(session))
    await waking(bridge)
    async with session.delete() as response:
        assert response.status == 204
    assert "session ended" in (await call)["error"]["message"]
    await no_children(bridge)


async def waking(bridge: Running) -> None:
    async with in_time():
        while (await bridge.get("/sessions"))[0]["state"] != "opening":
            pass


async def _answer(session: Session) -> Any:
    async with session.post(tool("count")) as response:
        return await response.json()


async def test_a_server_with_a_memory_keeps_its_process(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"peer": peer(idleStopMs=IDLE * 1000, restore="refuse")})
    session = await bridge.session()
    assert pass_time(bridge, session) == 0


async def test_a_cancelled_call_does_not_reach_the_process_that_it_woke(bridge: Running) -> None:
    session = await bridge.session()
    pass_time(bridge, session)
    call = asyncio.create_task(_answer(session))
    await waking(bridge)
    async with session.post(
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    ) as response:
        assert response.status == 202
    assert "cancelled" in (await call)["error"]["message"]
    assert (await session.call("count", 2))["result"]["count"] == 1


async def test_where_there_are_too_many_processes_an_idle_session_gives_up_its_own(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"peer": peer()}, MAX_CHILDREN=2)
    first, second = await bridge.session(), await bridge.session()
    async with first.get():  # the older one, in use
        third = await bridge.session()
        assert "result" in await third.call("count")
        async with second.post(tool("count")) as response:
            assert response.status == 404
            assert "MAX_CHILDREN" in (await response.json())["error"]["message"]
    assert "result" in await first.call("count")


async def _by_bridge(bridge: Running) -> None:
    assert "result" in await bridge.bridge_call("other", "ping")


async def _by_modern(bridge: Running) -> None:
    assert "result" in await ModernClient(bridge, "other").ask("tools/list")


async def _by_one_who_may_be_asked(bridge: Running) -> None:
    assert "result" in await ModernClient(bridge, "other", {"elicitation": {}}).call("echo")


async def _by_pool(bridge: Running) -> None:
    assert "result" in await (await bridge.session("pooled")).call("echo")


async def _by_session(bridge: Running) -> None:
    assert "result" in await (await bridge.session("other")).call("echo")


async def _in_sessions(bridge: Running) -> None:
    for _ in range(2):
        await bridge.session()


async def _in_bridge_clients(bridge: Running) -> None:
    for server in ("peer", "third"):
        assert "result" in await bridge.bridge_call(server, "ping")


async def _in_a_pool(bridge: Running) -> None:
    assert "result" in await (await bridge.session("pooled")).call("echo")


@pytest.mark.parametrize("held", [_in_sessions, _in_bridge_clients, _in_a_pool])
@pytest.mark.parametrize("by", [_by_bridge, _by_modern, _by_one_who_may_be_asked, _by_pool, _by_session])
async def test_whoever_needs_a_process_gets_that_of_one_who_idles(
    start_bridge: StartBridge, held: Way, by: Way
) -> None:
    servers = {"peer": peer(), "third": peer(), "other": peer(), "pooled": peer(sharing="pooled")}
    bridge = await start_bridge(servers, MAX_CHILDREN=2)
    await held(bridge)
    await by(bridge)
    assert len(await bridge.get("/children")) <= 2
