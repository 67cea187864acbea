"""Sharing modes: who holds a child, and what holders may hear of each other."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bridge.protocol.modern import LOG_LEVEL
from tests.conftest import INITIALIZE, Running, Session, StartBridge, events, in_time, last, message, peer, tool
from tests.modern_client import ModernClient


async def _shared(start_bridge: StartBridge, sharing: Any, **settings: Any) -> Running:
    return await start_bridge({"peer": peer(sharing=sharing)}, **settings)


async def _pid(session: Session) -> int:
    return int((await session.call("pid"))["result"]["pid"])


async def _ask(session: Session, method: str, **params: Any) -> dict[str, Any]:
    async with session.post(message(method, 1, **params)) as response:
        return await last(response)


async def test_one_child_serves_fifty_sessions_that_keep_apart(start_bridge: StartBridge) -> None:
    bridge = await _shared(start_bridge, "shared")
    sessions = await asyncio.gather(*(bridge.session() for _ in range(50)))
    assert len(bridge.service.core.registry.children()) == 1

    async def one(session: Session, steps: int) -> None:
        async with session.post(tool("progress", 7, token="p", steps=steps)) as response:
            got = [event async for event in events(response)]
        assert [event["params"]["progress"] for event in got[:-1]] == list(range(1, steps + 1))
        assert (await session.call("echo", 7, who=session.id))["result"] == {"who": session.id}

    await asyncio.gather(*(one(session, steps % 5) for steps, session in enumerate(sessions)))
    [row] = await bridge.get("/children")
    assert row["holders"] == 50


async def test_the_bridge_calls_of_a_shared_server_use_the_same_child(start_bridge: StartBridge) -> None:
    bridge = await _shared(start_bridge, "shared")
    session = await bridge.session()
    answer = await bridge.bridge_call("peer", "tools/call", name="pid", arguments={})
    assert answer["result"]["pid"] == await _pid(session)


@pytest.mark.parametrize("version", ["2024-11-05", "2025-06-18", "2025-11-25"])
async def test_a_shared_child_is_greeted_once_and_offered_nothing(start_bridge: StartBridge, version: str) -> None:
    bridge = await _shared(start_bridge, "shared")
    session = await bridge.session(protocolVersion=version, capabilities={"sampling": {}})
    result = session.greeting["result"]
    assert result["protocolVersion"] == version
    assert result["saw"]["capabilities"] == {}
    assert result["saw"]["clientInfo"]["name"] == "mcp-stdio-bridge"


async def test_a_version_that_nobody_knows_is_answered_with_the_childs(start_bridge: StartBridge) -> None:
    bridge = await _shared(start_bridge, "shared")
    session = await bridge.session(protocolVersion="1999-01-01")
    assert session.greeting["result"]["protocolVersion"] == "2025-11-25"


async def test_list_changed_reaches_all_holders(start_bridge: StartBridge) -> None:
    bridge = await _shared(start_bridge, "shared")
    one, two = await bridge.session(), await bridge.session()
    async with one.get() as first, two.get() as second:
        await one.call("list_changed")
        for response in (first, second):
            assert (await anext(events(response)))["method"] == "notifications/tools/list_changed"


async def test_updates_reach_those_who_subscribed_and_are_counted(start_bridge: StartBridge) -> None:
    bridge = await _shared(start_bridge, "shared")
    one, two, three = [await bridge.session() for _ in range(3)]
    for session in (one, two):
        assert (await _ask(session, "resources/subscribe", uri="a://b"))["result"] == {}
    assert "error" in await _ask(three, "resources/subscribe", uri="refuse://me")
    async with one.get() as first, two.get() as second, three.get() as third:
        await one.call("updated", uri="a://b")
        await one.call("updated", uri="refuse://me")
        await one.call("list_changed")
        for response in (first, second):
            stream = events(response)
            assert (await anext(stream))["params"] == {"uri": "a://b"}
            assert (await anext(stream))["method"] == "notifications/tools/list_changed"
        assert (await anext(events(third)))["method"] == "notifications/tools/list_changed"
    assert (await _ask(one, "resources/unsubscribe", uri="a://b"))["result"] == {}
    assert ["unsubscribe", "a://b"] not in (await three.call("seen"))["result"]["subscriptions"]
    async with two.delete() as response:
        assert response.status == 204
    assert (await three.call("seen"))["result"]["subscriptions"][-1] == ["unsubscribe", "a://b"]


async def test_logs_and_levels_of_a_shared_child_stay_away_from_its_clients(
    start_bridge: StartBridge, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    bridge = await _shared(start_bridge, "shared")
    session = await bridge.session()
    assert (await _ask(session, "logging/setLevel", level="debug"))["error"]["code"] == -32601
    async with session.post(tool("log", 1, text="secret of someone")) as response:
        assert response.content_type == "application/json"
    assert (await session.call("seen"))["result"]["levels"] == []
    assert "secret of someone" in caplog.text


async def test_a_question_of_a_shared_child_is_refused(start_bridge: StartBridge) -> None:
    bridge = await _shared(start_bridge, "shared")
    answer = await (await bridge.session()).call("ask")
    assert answer["result"]["answer"]["code"] == -32601


async def test_the_last_session_ends_a_shared_child(start_bridge: StartBridge) -> None:
    bridge = await _shared(start_bridge, "shared")
    one, two = await bridge.session(), await bridge.session()
    [child] = bridge.service.core.registry.children()
    async with one.delete():
        assert not child.is_stopping
    async with two.delete():
        await child.ended.wait()


async def test_the_death_of_a_shared_child_ends_all_its_sessions_with_the_reason(start_bridge: StartBridge) -> None:
    bridge = await _shared(start_bridge, "shared")
    one, two = await bridge.session(), await bridge.session()
    await one.call("die", code=3)
    async with two.post(tool("echo")) as response:
        assert response.status == 404
        assert "exited with code 3" in (await response.json())["error"]["message"]
    assert "result" in await (await bridge.session()).call("count")


async def test_so_many_holders_and_no_more_share_a_child(start_bridge: StartBridge) -> None:
    bridge = await _shared(start_bridge, {"holders": 2, "hold": "session", "limit": 2})
    sessions = [await bridge.session() for _ in range(4)]
    pids = [await _pid(session) for session in sessions]
    assert pids[0] == pids[1] != pids[2] == pids[3]
    async with bridge.post("/mcp/peer", message("initialize", 1, **INITIALIZE)) as response:
        assert response.status == 503
        assert response.headers["Retry-After"]


async def test_a_pooled_child_is_lent_for_one_request_and_used_again(start_bridge: StartBridge) -> None:
    bridge = await _shared(start_bridge, {"holders": 1, "hold": "exchange"})
    one, two = await bridge.session(), await bridge.session()
    assert await _pid(one) == await _pid(two) == await _pid(one)
    assert len(bridge.service.core.registry.children()) == 1


async def test_requests_at_once_never_share_a_pooled_child_and_wait_at_the_limit(start_bridge: StartBridge) -> None:
    bridge = await _shared(start_bridge, {"holders": 1, "hold": "exchange", "limit": 2})
    session = await bridge.session()
    async with session.post(tool("wait", 1, key="a")):
        free = await _pid(session)  # only one is left for all of these
        pids = await asyncio.gather(*(_pid(session) for _ in range(10)))
        assert set(pids) == {free}
        assert len(bridge.service.core.registry.children()) == 2


async def test_a_pooled_child_that_may_still_work_for_someone_is_not_lent_on(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"peer": peer(sharing={"holders": 1, "hold": "exchange"}, requestTimeout=100)})
    session = await bridge.session()
    before = await _pid(session)
    assert "neither answer" in (await session.call("never"))["error"]["message"]
    assert await _pid(session) != before


@pytest.mark.parametrize("sharing", ["shared", {"holders": 1, "hold": "exchange", "limit": 1}])
async def test_progress_of_a_task_does_not_reach_another_client(start_bridge: StartBridge, sharing: Any) -> None:
    bridge = await _shared(start_bridge, sharing)
    one, two = await bridge.session(), await bridge.session()
    await one.call("begin", token="p", key="t")
    async with two.post(tool("say", 7, token="p", key="t", progress=1)) as response:
        assert [event async for event in events(response)] == [{"jsonrpc": "2.0", "id": 7, "result": {}}]


async def test_the_death_of_a_pooled_child_fails_its_request_only(start_bridge: StartBridge) -> None:
    bridge = await _shared(start_bridge, "pooled")
    session = await bridge.session()
    assert "exited with code 3" in (await session.call("die", code=3))["error"]["message"]
    assert (await session.call("echo", a=1))["result"] == {"a": 1}


@pytest.mark.parametrize(
    ("sharing", "told"), [("session", {"list": {}, "cancel": {}}), ("shared", {"cancel": {}}), ("pooled", None)]
)
async def test_clients_of_one_process_do_not_find_the_tasks_of_each_other(
    start_bridge: StartBridge, sharing: str, told: dict[str, Any] | None
) -> None:
    bridge = await start_bridge({"peer": peer(args=[*peer()["args"], "--tasks"], sharing=sharing)})
    one, two = [await bridge.session(protocolVersion="2025-11-25") for _ in range(2)]
    assert one.greeting["result"]["capabilities"].get("tasks") == told
    if told is not None:
        await one.call("begin", key="secret")
        assert (await _ask(one, "tasks/get", taskId="secret"))["result"]["status"] == "working"
    if sharing == "session":
        assert [task["taskId"] for task in (await _ask(one, "tasks/list"))["result"]["tasks"]] == ["secret"]
        assert (await _ask(two, "tasks/list"))["result"]["tasks"] == []
        return
    for method in ["tasks/list"] if told else ["tasks/list", "tasks/get", "tasks/result", "tasks/cancel"]:
        refused = await _ask(two, method, taskId="secret")
        assert refused["error"]["code"] == -32601, refused


@pytest.mark.parametrize("sharing", ["shared", "pooled"])
async def test_clients_of_one_process_are_told_of_no_logs_except_those_whose_calls_say_what_they_want(
    start_bridge: StartBridge, sharing: str
) -> None:
    bridge = await start_bridge({"peer": peer(args=[*peer()["args"], "--logging"], sharing=sharing)})
    session, modern = await bridge.session(), ModernClient(bridge, "peer")
    assert session.greeting["result"]["capabilities"] == {"tools": {}}
    assert (await _ask(session, "logging/setLevel", level="error"))["error"]["code"] == -32601
    assert (await session.call("seen"))["result"]["levels"] == []
    assert (await modern.ask("server/discover"))["result"]["capabilities"] == {"tools": {}, "logging": {}}
    assert (await modern.call("seen"))["result"]["levels"] == []
    body = modern.body("tools/call", 1, {LOG_LEVEL: "info"}, name="log", arguments={"text": "hear me"})
    async with modern.send(body) as response:
        assert (await anext(events(response)))["params"]["data"] == "hear me"
    assert (await modern.call("seen", 1, {LOG_LEVEL: "info"}))["result"]["levels"] == ["debug"]


@pytest.mark.parametrize("name", ["log", "log_late"])
async def test_what_a_pooled_child_logs_goes_to_our_log_only(
    start_bridge: StartBridge, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    caplog.set_level("INFO")
    bridge = await _shared(start_bridge, {"holders": 1, "hold": "exchange", "limit": 1})
    one, two = await bridge.session(), await bridge.session()
    for session in (one, two):
        async with session.post(tool(name, 1, text="secret of someone")) as response:
            assert response.content_type == "application/json"
    modern = ModernClient(bridge, "peer")
    async with modern.send(modern.body("tools/call", name=name, arguments={"text": "secret of someone"})) as response:
        assert len([event async for event in events(response)]) == 1
    await _until(lambda: caplog.text.count("secret of someone") == 3)


async def test_what_pooled_children_announce_reaches_whom_it_concerns(start_bridge: StartBridge) -> None:
    bridge = await _shared(start_bridge, {"holders": 1, "hold": "exchange", "limit": 2})
    one, two = await bridge.session(), await bridge.session()
    assert (await _ask(one, "resources/subscribe", uri="a://b"))["result"] == {}
    assert "error" in await _ask(two, "resources/subscribe", uri="refuse://me")
    async with two.post(tool("wait", 1, key="a")):  # holds the child that was asked; the next one is subscribed too
        assert (await two.call("seen"))["result"]["subscriptions"] == [["subscribe", "a://b"]]
        async with one.get() as first, two.get() as second:
            await two.call("updated", uri="a://b")
            await two.call("list_changed")
            stream = events(first)
            assert (await anext(stream))["params"] == {"uri": "a://b"}
            assert (await anext(stream))["method"] == "notifications/tools/list_changed"
            assert (await anext(events(second)))["method"] == "notifications/tools/list_changed"
        assert (await _ask(one, "resources/unsubscribe", uri="a://b"))["result"] == {}
        assert (await two.call("seen"))["result"]["subscriptions"][-1] == ["unsubscribe", "a://b"]


async def test_the_end_of_a_session_ends_what_pooled_children_were_subscribed_to_for_it(
    start_bridge: StartBridge,
) -> None:
    bridge = await _shared(start_bridge, {"holders": 1, "hold": "exchange", "limit": 1})
    one, two = await bridge.session(), await bridge.session()
    await _ask(one, "resources/subscribe", uri="a://b")
    async with one.delete() as response:
        assert response.status == 204
    assert (await two.call("seen"))["result"]["subscriptions"] == [["subscribe", "a://b"], ["unsubscribe", "a://b"]]


@pytest.mark.parametrize("entry", [{"warm": 2}, {"sharing": {"holders": 1, "hold": "session", "warm": 2}}])
async def test_warm_children_wait_for_sessions(
    start_bridge: StartBridge, entry: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.children.spares.REFILL", 0)
    bridge = await start_bridge({"peer": peer(**entry)})
    children = bridge.service.core.registry.children()
    await asyncio.gather(*(child.ready for child in children))
    assert len(children) == 2
    waited = {child.pid for child in children}
    session = await bridge.session(capabilities={"roots": {}})
    assert await _pid(session) in waited
    assert session.greeting["result"]["saw"]["capabilities"] == {"roots": {}}  # its own initialize, verbatim
    async with in_time():
        while len(await bridge.get("/children")) != 3:  # two wait again, soon
            pass


async def _until(holds: Callable[[], bool]) -> None:
    async with in_time():
        while not holds():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.001)


async def test_a_call_that_ends_while_it_waits_for_a_child_takes_none(start_bridge: StartBridge) -> None:
    one_child = {"holders": 1, "hold": "exchange", "warm": 0, "limit": 1}
    bridge = await start_bridge({"peer": peer(sharing=one_child)})
    holding, deleted, cancelled, after = [await bridge.session() for _ in range(4)]
    [child] = bridge.service.core.registry.children()
    held = asyncio.create_task(holding.call("wait", 1, key="k"))
    await _until(lambda: child.connection.open_exchanges == 1)
    first, second = (asyncio.create_task(session.call("echo", 2)) for session in (deleted, cancelled))
    await _until(lambda: len(bridge.service.core.registry.pool("peer")._queue) == 2)
    async with deleted.delete() as response:
        assert response.status == 204
    async with cancelled.post(message("notifications/cancelled", requestId=2)) as response:
        assert response.status == 202
    async with in_time():
        assert "session ended" in (await first)["error"]["message"]
        assert "cancelled" in (await second)["error"]["message"]
        child.connection.transport.kill()
        assert "ended before it answered" in (await held)["error"]["message"]
        for _ in range(3):
            assert (await after.call("echo", 3, n=1))["result"] == {"n": 1}


async def test_the_calls_of_a_session_that_ends_end_on_its_shared_child_too(start_bridge: StartBridge) -> None:
    bridge = await _shared(start_bridge, "shared")
    ending, staying = await bridge.session(), await bridge.session()
    [child] = bridge.service.core.registry.children()
    call = asyncio.create_task(ending.call("never", 5))
    await _until(lambda: child.connection.open_exchanges == 1)
    async with ending.delete() as response:
        assert response.status == 204
    assert "session ended" in (await call)["error"]["message"]
    assert child.connection.exchanges == []
    [seen] = (await staying.call("cancelled"))["result"]["cancelled"]
    assert "session ended" in seen["reason"]


async def test_a_subscribed_session_ends_although_its_shared_child_reads_nothing(
    start_bridge: StartBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge = await _shared(start_bridge, "shared")
    ending, staying = await bridge.session(), await bridge.session()
    [child] = bridge.service.core.registry.children()
    assert child.pid is not None
    await _ask(ending, "resources/subscribe", uri="a://b")
    os.kill(child.pid, signal.SIGSTOP)
    calls = [asyncio.create_task(staying.call("echo", number, text="x" * 500_000)) for number in range(4)]
    await _until(lambda: child.connection.open_exchanges == 4)
    monkeypatch.setattr("bridge.process.stdin.BACKLOG", 0)
    async with ending.delete() as response:
        assert response.status == 204
    assert child.holders == 1
    os.kill(child.pid, signal.SIGCONT)
    assert all("result" in answer for answer in await asyncio.gather(*calls))
    async with staying.delete(), in_time():
        await child.ended.wait()


async def test_an_initialize_whose_session_ends_is_not_cancelled(start_bridge: StartBridge, tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    listener = {"command": "sh", "args": ["-c", 'exec cat >"$0"', str(heard)]}
    bridge = await start_bridge({"mute": listener})
    async with bridge.post("/api/v1/sessions", {"server": "mute"}) as response:
        id_ = (await response.json())["session_id"]
    session = Session(bridge.http, f"{bridge.url}/mcp/mute", id_, {})
    opening = asyncio.create_task(_ask(session, "initialize", **INITIALIZE))
    await _until(lambda: heard.exists() and b"initialize" in heard.read_bytes())
    [child] = bridge.service.core.registry.children()
    async with session.delete() as response:
        assert response.status == 204
    assert "session ended" in (await opening)["error"]["message"]
    await _until(lambda: not bridge.service.core.registry.children())
    assert child.connection.exchanges == []
    assert b"cancelled" not in heard.read_bytes()
