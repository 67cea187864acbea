"""A new configuration for a running bridge: what has changed changes, and no running call is lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from bridge.children import registry
from bridge.config.server import ALL_SERVERS
from bridge.config.servers import Servers, parse_servers
from bridge.protocol.states import SessionState
from bridge.sessions.reload import LOOK, Changes, changes
from tests.conftest import PEERS, Running, Session, StartBridge, events, in_time, peer, tool
from tests.modern_client import ModernClient

MODERN = {"command": sys.executable, "args": ["-I", "-S", str(PEERS / "modern_peer.py")]}


def read(**servers: Any) -> Servers:
    return parse_servers(json.dumps(servers), "servers.json", {})


async def pid(session: Session) -> Any:
    return (await session.call("pid"))["result"]


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what nobody announces; the time limit of the test is the limit."""
    while not holds():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def has_ended(bridge: Running, server: str) -> None:
    """Wait until no child of a server is left."""
    await until(lambda: all(child.server != server for child in bridge.service.core.registry.children()))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"a": peer()}, {"a": peer()}, Changes()),
        ({}, {"a": peer()}, Changes(added=("a",))),
        ({"a": peer(disabled=True)}, {"a": peer()}, Changes(added=("a",))),
        ({"a": peer()}, {}, Changes(removed=("a",))),
        ({"a": peer()}, {"a": peer(disabled=True)}, Changes(removed=("a",))),
        ({"a": peer()}, {"a": peer(env={"X": "1"})}, Changes(restarted=("a",))),
        ({"a": peer()}, {"a": peer(sharing="shared")}, Changes(restarted=("a",))),
        ({"a": peer()}, {"a": peer(sessionTtlMs=1000, description="x")}, Changes(adjusted=("a",))),
        ({"a": peer()}, {"a": peer(maxRestarts=3, restartDelay=100)}, Changes(adjusted=("a",))),
        ({"a": peer()}, {"a": peer(onNodeLoss="end", startTimeout=100)}, Changes(adjusted=("a",))),
        ({"a": peer(), "b": peer()}, {"b": peer(), "c": peer()}, Changes(added=("c",), removed=("a",))),
    ],
)
def test_what_counts_as_a_change(old: dict[str, Any], new: dict[str, Any], expected: Changes) -> None:
    assert changes(read(**old).entries, read(**new).entries) == expected


async def test_a_new_server_is_there_and_a_removed_one_is_not(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"old": peer(), "stays": peer()})
    stays, old = await bridge.session("stays"), await bridge.session("old")
    before = await pid(stays)
    bridge.service.reload(read(stays=peer(), new=peer()))
    assert await pid(await bridge.session("new"))
    assert await pid(stays) == before
    async with old.post(tool("pid")) as response:
        assert response.status == 404
    await has_ended(bridge, "old")
    assert [row["id"] for row in await bridge.get("/servers")] == ["stays", "new"]
    assert [row["server"] for row in await bridge.get("/sessions")] == ["stays", "new"]


async def test_a_running_call_of_a_removed_server_gets_its_answer(start_bridge: StartBridge) -> None:
    bridge = await start_bridge()
    session = await bridge.session()
    async with session.get() as stream:
        heard = events(stream)
        waits = asyncio.create_task(session.call("wait", 1, key="k"))
        await until(lambda: bridge.service.core.registry.children()[0].connection.open_exchanges > 0)
        bridge.service.reload(read())
        child = bridge.service.core.registry.children()[0]
        await asyncio.sleep(3 * LOOK)  # time to end it too early
        assert child.lives
        child.connection.transport.kill()
        assert "error" in await waits
        assert [each async for each in heard] == []  # its stream ends with it
    await has_ended(bridge, "peer")


async def test_a_session_goes_on_with_a_process_of_the_new_environment(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"peer": peer(env={"MARK": "old"})})
    session = await bridge.session()
    before = await pid(session)
    async with session.get() as stream:
        heard = events(stream)
        bridge.service.reload(read(peer=peer(env={"MARK": "new"})))
        methods = {(await anext(heard))["method"] for _ in range(3)}
        assert methods == {f"notifications/{kind}/list_changed" for kind in ("tools", "prompts", "resources")}
        assert (await session.call("environment"))["result"]["MARK"] == "new"
        assert await pid(session) != before


async def test_a_call_that_runs_ends_on_the_process_that_it_began_on(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"peer": peer(env={"MARK": "old"})})
    session = await bridge.session()
    async with session.post(tool("wait", 1, key="k")) as response:
        heard = events(response)
        assert (await anext(heard))["method"] == "notifications/message"
        bridge.service.reload(read(peer=peer(env={"MARK": "new"})))
        assert (await session.call("environment", 2))["result"]["MARK"] == "old"
        await session.call("release", 3, key="k")
        assert (await anext(heard))["result"] == {"released": "k"}
    while (await session.call("environment", 4))["result"]["MARK"] != "new":
        pass


async def test_a_task_that_its_process_works_at_ends_there(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"peer": peer(env={"MARK": "old"})})
    session = await bridge.session(protocolVersion="2025-11-25")
    await session.call("begin", key="t")
    before = await pid(session)
    bridge.service.reload(read(peer=peer(env={"MARK": "new"})))
    other = await bridge.session()
    assert (await other.call("environment"))["result"]["MARK"] == "new"
    assert await pid(session) == before
    await session.call("finish", key="t")
    while (await session.call("environment"))["result"]["MARK"] != "new":
        pass


async def test_a_session_that_is_just_getting_a_process_gets_the_newest_in_the_end(start_bridge: StartBridge) -> None:
    bridge = await start_bridge()
    session = await bridge.session()
    [entry] = bridge.service.core.stream_pool.entries()
    async with session.get():  # so that it is woken without being asked
        bridge.service.reload(read(peer=peer(env={"ROUND": "1"})))
        await until(lambda: entry.state is SessionState.OPENING)
        bridge.service.reload(read(peer=peer(env={"ROUND": "2"})))

        def round_of(pid: int | None) -> str | None:
            with contextlib.suppress(psutil.Error):
                return psutil.Process(pid).environ().get("ROUND") if pid is not None else None
            return None

        await until(lambda: round_of(entry.session.pid) == "2")


async def test_an_operator_stops_what_runs_on_the_process_of_before_too(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"peer": peer(env={"MARK": "old"})})
    session = await bridge.session()
    async with session.post(tool("wait", 1, key="k")) as response:
        heard = events(response)
        assert (await anext(heard))["method"] == "notifications/message"
        bridge.service.reload(read(peer=peer(env={"MARK": "new"})))
        async with bridge.http.post(f"{bridge.url}/api/v1/servers/peer/stop") as stopped:
            assert stopped.status == 200
        assert bridge.service.core.registry.children() == []
        assert "error" in await anext(heard)


async def test_what_an_operator_has_stopped_stays_so_with_a_new_configuration(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"peer": peer(env={"MARK": "old"}), "other": peer()})
    changed = peer(env={"MARK": "new"}, warm=1, preload=True)
    async with bridge.http.post(f"{bridge.url}/api/v1/servers/peer/stop") as response:
        assert response.status == 200
    assert bridge.service.reload(read(peer=changed, other=peer(warm=1))).restarted == ("peer", "other")
    await until(lambda: any(child.server == "other" for child in bridge.service.core.registry.children()))
    assert {row["id"]: row["state"] for row in await bridge.get("/servers")}["peer"] == "stopped"
    async with bridge.http.post(f"{bridge.url}/bridge/peer", json={"method": "ping"}) as response:
        assert (response.status, "it was stopped" in await response.text()) == (503, True)
    assert not [each for each in asyncio.all_tasks() if each.get_name() == "zygote peer"]
    async with bridge.http.post(f"{bridge.url}/api/v1/servers/peer/start") as response:
        assert response.status == 200
    async with bridge.http.post(f"{bridge.url}/bridge/peer", json={"method": "ping"}) as response:
        assert response.status == 200
    async with bridge.http.post(f"{bridge.url}/api/v1/servers/peer/stop") as response:
        assert response.status == 200
    bridge.service.reload(read(other=peer(warm=1)))  # it is no server any more, and then another one
    bridge.service.reload(read(peer=peer(), other=peer(warm=1)))
    async with bridge.http.post(f"{bridge.url}/bridge/peer", json={"method": "ping"}) as response:
        assert response.status == 200


async def test_clients_of_another_program_initialize_again(start_bridge: StartBridge) -> None:
    bridge = await start_bridge()
    session = await bridge.session()
    changed = peer()
    changed["args"] = [*changed["args"], "--changes"]
    bridge.service.reload(read(peer=changed))
    while True:
        async with session.post(tool("pid")) as response:
            if response.status == 404:
                assert "configuration of its server has changed" in await response.text()
                break
    assert (await bridge.session()).greeting["result"]["capabilities"]["tools"] == {"listChanged": True}


async def test_a_session_that_must_not_be_replayed_ends(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"peer": peer(restore="refuse")})
    session = await bridge.session()
    bridge.service.reload(read(peer=peer(restore="refuse", env={"MARK": "new"})))
    while (await session.post(tool("pid"))).status != 404:
        pass


async def test_times_and_limits_hold_without_a_new_process(start_bridge: StartBridge) -> None:
    bridge = await start_bridge()
    session = await bridge.session()
    before = await pid(session)
    bridge.service.reload(read(peer=peer(sessionTtlMs=60_000, maxSessions=1)))
    assert await pid(session) == before
    second = await bridge.session()  # makes room for itself
    [row] = await bridge.get("/sessions")
    assert (row["ttl_ms"], row["pid"]) == (60_000, (await pid(second))["pid"])


def _any_with(answers: list[dict[str, Any]], since: int, mark: str) -> bool:
    return any(answer.get("result", {}).get("MARK") == mark for answer in answers[since:])


async def test_bridge_calls_never_fail(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"peer": peer(env={"MARK": "0"}), "other": peer()})
    stop = asyncio.Event()
    answers: list[dict[str, Any]] = []

    async def keep_calling(server: str) -> None:
        while not stop.is_set():
            answers.append(await bridge.bridge_call(server, "tools/call", name="environment", arguments={}))

    callers = [asyncio.create_task(keep_calling(server)) for server in ("peer", "other") for _ in range(4)]
    for mark in range(1, 6):
        seen = len(answers)
        bridge.service.reload(read(peer=peer(env={"MARK": str(mark)}), other=peer()))
        await until(partial(_any_with, answers, seen, str(mark)))
    stop.set()
    await asyncio.gather(*callers)
    assert [answer for answer in answers if "result" not in answer] == []
    await until(lambda: len(bridge.service.core.registry.children()) <= 2)  # those of before have ended


async def test_a_server_that_comes_back_is_itself_again(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"peer": peer(warm=1)})
    for servers in ({}, {"peer": peer(warm=1)}, {}, {"peer": peer()}):
        bridge.service.reload(read(**servers))
    assert await pid(await bridge.session())
    await until(lambda: len(bridge.service.core.registry.children()) == 1)


async def test_rates_of_a_server_hold_at_once(start_bridge: StartBridge) -> None:
    bridge = await start_bridge()
    assert "result" in await bridge.bridge_call("peer", "ping")
    bridge.service.reload(read(peer=peer(rateLimit=1)))
    assert "result" in await bridge.bridge_call("peer", "ping")
    assert "rateLimit" in (await bridge.bridge_call("peer", "ping"))["error"]["message"]
    bridge.service.reload(read(peer=peer()))
    assert "result" in await bridge.bridge_call("peer", "ping")


@pytest.mark.parametrize("entry", [MODERN, peer()], ids=["modern", "handshake"])
async def test_a_modern_call_whose_server_changes_before_it_is_sent_is_answered(
    start_bridge: StartBridge, entry: dict[str, Any]
) -> None:
    bridge = await start_bridge({"peer": entry})
    client = ModernClient(bridge, "peer")
    await client.ask("server/discover")
    [child] = [each for each in bridge.service.core.registry.children() if each.lives]
    assert child.pid is not None
    os.kill(child.pid, signal.SIGSTOP)
    call = asyncio.create_task(client.call("echo", n=1))  # its tools have to be listed first
    await until(lambda: child.connection.open_exchanges > 0)
    bridge.service.reload(read(peer={**entry, "env": {"ROUND": "1"}}))
    os.kill(child.pid, signal.SIGCONT)
    answer = await call
    assert answer.get("result", {}).get("structuredContent", answer.get("result", {})).get("n") == 1, answer


async def test_a_call_that_waits_for_its_user_goes_on_though_its_server_is_of_another_era_now(
    start_bridge: StartBridge,
) -> None:
    bridge = await start_bridge()
    client = ModernClient(bridge, "peer", {"elicitation": {}})
    asked = (await client.call("ask"))["result"]
    bridge.service.reload(read(peer=MODERN))
    assert (await client.call("number"))["result"]["structuredContent"] == 5
    retry = {"inputResponses": {"r0": {"action": "decline"}}, "requestState": asked["requestState"]}
    answer = await client.ask("tools/call", 2, name="ask", arguments={}, **retry)
    assert answer.get("result", {}).get("answer") == {"action": "decline"}, answer
    await until(lambda: len(bridge.service.core.registry.children()) == 1)  # that of before has ended


@pytest.mark.parametrize("face", ["bridge", "modern"])
async def test_who_waits_for_a_start_gets_the_server_of_the_new_configuration(
    start_bridge: StartBridge, face: str
) -> None:
    never: dict[str, Any] = {"command": "sleep", "args": ["1000"], "childEra": "handshake"}
    bridge = await start_bridge({"a": never, "b": never})

    async def ping(server: str) -> Any:
        if face == "bridge":
            return await bridge.bridge_call(server, "ping")
        return await ModernClient(bridge, server).ask("tools/list")

    waiting, hopeless = asyncio.create_task(ping("a")), asyncio.create_task(ping("b"))
    await until(lambda: len(bridge.service.core.registry.children()) == 2)
    bridge.service.reload(read(a=peer()))
    assert "error" not in await waiting
    assert 'no server "b" is in the configuration' in (await hopeless)["error"]["message"]
    await has_ended(bridge, "b")


#: The first process of it starts at once, and each other one when there is a file.
GATED = """import os, sys, time
try:
    os.close(os.open(sys.argv[1] + "/first", os.O_CREAT | os.O_EXCL))
except FileExistsError:
    while not os.path.exists(sys.argv[1] + "/gate"):
        time.sleep(0.01)
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


@pytest.mark.parametrize("sharing", ["session", {"holders": 1, "hold": "exchange"}], ids=["modern", "pooled"])
async def test_a_call_that_waits_for_a_process_of_its_own_is_answered(
    start_bridge: StartBridge, tmp_path: Path, sharing: Any
) -> None:
    entry = peer(sharing=sharing, childEra="handshake")
    entry["args"] = ["-c", GATED, str(tmp_path), *entry["args"]]
    bridge = await start_bridge({"peer": entry})
    children = bridge.service.core.registry.children
    async with in_time():
        if sharing == "session":
            await ModernClient(bridge, "peer").ask("server/discover")
            call = asyncio.create_task(ModernClient(bridge, "peer", {"roots": {}}).ask("tools/list", 2))
        else:
            session = await bridge.session()
            held = asyncio.create_task(session.call("wait", key="k"))
            await until(lambda: any(child.connection.open_exchanges for child in children()))
            call = asyncio.create_task(session.ask("tools/list", 2))
        await until(lambda: len(children()) == 2)
        bridge.service.reload(read(peer={**entry, "env": {"ROUND": "1"}}))
        (tmp_path / "gate").touch()
        answer = await call
        assert "tools" in answer.get("result", {}), answer
    if sharing != "session":
        held.cancel()


async def test_of_servers_that_have_gone_a_bounded_number_is_remembered_and_those_that_still_run(
    start_bridge: StartBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "MOST_BEFORE", 3)
    bridge = await start_bridge({"peer": peer(), "other": peer()})
    session = await bridge.session()
    known = bridge.service.core.registry.known
    async with session.post(tool("wait", 7, token="t", key="k")) as response:
        await anext(events(response))
        for number in range(10):
            bridge.service.core.reload(read(**{f"s{number}": peer()}))
        assert list(known) == [ALL_SERVERS, "peer", "s6", "s7", "s8", "s9"]
        bridge.service.core.reload(read(other=peer(), s7=peer()))
        assert list(known) == [ALL_SERVERS, "peer", "s6", "s8", "s9", "other", "s7"]
