"""Children that die, hang, close their pipes or take their time: each request ends once, and nobody else notices."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from bridge.children import connection
from bridge.children.child import Child
from tests.conftest import INITIALIZE, Running, Session, StartBridge, events, in_time, last, message, peer, tool
from tests.faults.conftest import babbler, until
from tests.modern_client import ModernClient

SERVERS = {"peer": peer(), "babbler": babbler()}


@pytest.fixture
async def bridge(start_bridge: StartBridge) -> Running:
    return await start_bridge(SERVERS)


async def _is_served(session: Session) -> None:
    async with in_time():
        assert (await session.call("echo", "still", a=1))["id"] == "still"


async def _pid(session: Session) -> int:
    result = (await session.call("pid"))["result"]
    return int(result["pid"])


def _child(bridge: Running, pid: int) -> Child:
    return next(child for child in bridge.service.core.registry.children() if child.pid == pid)


async def _initialize(bridge: Running, server: str) -> tuple[dict[str, Any], str | None]:
    async with bridge.post(f"/mcp/{server}", message("initialize", "me", **INITIALIZE)) as response:
        return await last(response), response.headers.get("Mcp-Session-Id")


# Death


async def test_a_death_while_nobody_asks_ends_the_session_and_its_streams_with_the_reason(bridge: Running) -> None:
    session, other = await bridge.session(), await bridge.session()
    pid = await _pid(session)
    async with session.get() as stream:
        await stream.content.readline()
        os.kill(pid, signal.SIGKILL)
        async with in_time():
            await stream.content.read()  # to its end
    async with session.post(tool("echo")) as response:
        assert response.status == 404
        assert "killed by signal 9" in (await response.json())["error"]["message"]
    await _is_served(other)


async def test_all_that_wait_for_a_child_learn_of_its_death_once(bridge: Running) -> None:
    session, other = await bridge.session(), await bridge.session()
    pid = await _pid(session)
    calls = [asyncio.create_task(session.call("never", number)) for number in range(50)]
    await until(lambda: _child(bridge, pid).connection.open_exchanges == 50, "all calls wait")
    os.kill(pid, signal.SIGKILL)
    async with in_time():
        answers = await asyncio.gather(*calls)
    assert [answer["id"] for answer in answers] == list(range(50))
    assert all("killed by signal 9" in answer["error"]["message"] for answer in answers)
    await _is_served(other)


@pytest.mark.parametrize("code", [0, 3])
async def test_an_answer_that_was_given_before_the_death_arrives_whole(bridge: Running, code: int) -> None:
    session, other = await bridge.session("babbler"), await bridge.session("babbler")
    answer = await session.call("exit", "mine", exit=code, size=5_000_000)
    assert answer["id"] == "mine"
    assert len(answer["result"]["text"]) == 5_000_000
    await _is_served(other)


async def test_an_answer_without_a_line_end_is_one_when_its_child_ends(start_bridge: StartBridge) -> None:
    script = r"""read line; printf '{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"no licence"}}'"""
    bridge = await start_bridge({"terse": {"command": "sh", "args": ["-c", script]}})
    answer, _ = await _initialize(bridge, "terse")
    assert answer == {"jsonrpc": "2.0", "id": "me", "error": {"code": -32000, "message": "no licence"}}


async def test_twenty_deaths_in_a_row_cost_one_answer_each(bridge: Running) -> None:
    """After a few of them starts may have to wait: also that is told, with the time to come back."""
    other = await bridge.session("babbler")
    for number in range(20):
        async with bridge.post("/bridge/peer", tool("die", number, code=3)) as response:
            answer = await response.json()
        assert answer["id"] == number
        assert "exited with code 3" in answer["error"]["message"]
        if response.status == 503:
            assert int(response.headers["Retry-After"]) > 0
        else:
            assert response.status == 502
        await _is_served(other)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 0", "exited with code 0"),
        ("exit 5", "exited with code 5"),
        ("echo no licence >&2; exit 4", "exited with code 4; last words: no licence"),
        ("kill -9 $$", "killed by signal 9"),
        ("printf half; printf 'no end' >&2; exit 6", "exited with code 6; last words: no end"),
    ],
)
async def test_an_exit_at_start_is_told_on_every_face(start_bridge: StartBridge, script: str, words: str) -> None:
    bridge = await start_bridge({"ill": {"command": "sh", "args": ["-c", script]}})
    answer, session_id = await _initialize(bridge, "ill")
    assert answer["id"] == "me"
    assert words in answer["error"]["message"]
    assert session_id is None
    async with bridge.post("/bridge/ill", message("tools/list", "me")) as response:
        assert response.status == 502
        assert words in (await response.json())["error"]["message"]
    assert await bridge.get("/sessions") == []


async def test_one_bad_server_harms_none_of_twenty_good_ones(start_bridge: StartBridge) -> None:
    good = [f"good{number}" for number in range(20)]
    bad = {"ill": {"command": "false"}, "gone": {"command": "/no/such/program"}, "mute": {"command": "cat"}}
    entries = {**bad, **{name: peer() for name in good}, "noisy": {"command": "yes"}}
    for name in bad:
        entries[name] = {**entries[name], "startTimeout": 1000}
    bridge = await start_bridge({**entries, "noisy": {"command": "yes", "startTimeout": 1000}})

    async def fails(name: str) -> None:
        async with bridge.post(f"/bridge/{name}", message("tools/list", 1)) as response:
            assert response.status == 502

    async def works(name: str) -> None:
        answer = await bridge.bridge_call(name, "tools/call", name="echo", arguments={"who": name})
        assert answer == {"result": {"who": name}}

    await asyncio.gather(*map(fails, [*bad, "noisy"]), *map(works, good))
    states = {row["id"]: row["state"] for row in await bridge.get("/servers")}
    assert {states[name] for name in good} == {"running"}


async def test_a_program_that_babbles_without_end_is_no_server(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"noisy": {"command": "yes"}})
    async with in_time():
        why = (await bridge.bridge_call("noisy", "ping"))["error"]["message"]
    assert "it is no MCP server; on stdout it wrote what is no JSON-RPC: 100000 lines, the first: 'y'" in why
    await until(lambda: bridge.service.core.registry.children() == [], "its process has ended")


async def test_a_child_that_babbles_as_fast_as_it_can_slows_nobody(
    start_bridge: StartBridge, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.children.connection.MOST_BABBLE", 10**12)
    bridge = await start_bridge({"peer": peer(), "noisy": {"command": "yes", "startTimeout": 2000}})
    session = await bridge.session()
    given_up = asyncio.create_task(bridge.bridge_call("noisy", "ping"))
    served = 0
    while not given_up.done():
        await _is_served(session)
        served += 1
    assert "did not answer initialize" in (await given_up)["error"]["message"]
    assert served > 5  # of some hundred on an idle machine
    lines = [record for record in caplog.records if "is skipped" in record.message]
    assert 20 <= len(lines) < 60  # it writes millions


# The start


async def test_a_server_that_never_answers_initialize_is_given_up_and_nothing_of_it_is_left(
    start_bridge: StartBridge,
) -> None:
    bridge = await start_bridge({"mute": {"command": "sleep", "args": ["1000"], "startTimeout": 100}})
    answer, session_id = await _initialize(bridge, "mute")
    assert answer["id"] == "me"
    assert "could not be started: it did not answer initialize within 0." in answer["error"]["message"]
    assert session_id is None
    await until(lambda: bridge.service.core.registry.children() == [], "its process has ended")


async def first_answer(bridge: Running, face: str, server: str) -> dict[str, Any]:
    """What a server, or the bridge for it, says to the first request of a client."""
    if face == "modern":
        return await ModernClient(bridge, server).ask("tools/list", "me")
    async with bridge.post(f"/{face}/{server}", message("initialize", "me", **INITIALIZE)) as response:
        return await last(response)


@pytest.mark.parametrize("face", ["mcp", "bridge", "modern"])
async def test_a_program_that_sends_back_what_it_is_sent_is_no_server(start_bridge: StartBridge, face: str) -> None:
    bridge = await start_bridge({"mirror": {"command": "cat"}})
    async with in_time():
        answer = await first_answer(bridge, face, "mirror")
    why = 'server "mirror" could not be started: it sends back what it is sent'
    assert (answer["id"], answer["error"]["message"].startswith(why)) == ("me", True), answer
    await until(lambda: bridge.service.core.registry.children() == [], "its process has ended")


@pytest.mark.parametrize("face", ["mcp", "bridge", "modern"])
@pytest.mark.parametrize("end", ["exec sleep 1000", "read x; exit 0", "exit 0"])
async def test_a_program_that_prints_instead_of_answering_is_quoted(
    start_bridge: StartBridge, face: str, end: str
) -> None:
    logged: list[bytes] = []
    script = f"echo Welcome; echo '{{broken'; echo bye; {end}"
    entry = {"command": "sh", "args": ["-c", script], "startTimeout": 500}
    bridge = await start_bridge({"shop": entry}, sink=lambda _: logged.append)
    async with in_time():
        answer = await first_answer(bridge, face, "shop")
    said = answer["error"]["message"]
    assert "; on stdout it wrote what is no JSON-RPC: 3 lines, the first: 'Welcome'" in said
    assert ("exited with code 0" if "exit 0" in end else "did not answer") in said
    assert b"on stdout, no JSON-RPC: Welcome" in logged, "for mcp-bridge logs SERVER"


async def test_a_question_before_initialize_is_answered_gives_no_time(start_bridge: StartBridge) -> None:
    script = """echo '{"jsonrpc":"2.0","id":7,"method":"roots/list"}'; exec sleep 1000"""
    bridge = await start_bridge({"asks": {"command": "sh", "args": ["-c", script], "startTimeout": 300}})
    async with in_time():
        answer, _ = await _initialize(bridge, "asks")
    assert "did not answer initialize within 0." in answer["error"]["message"]


async def test_a_start_has_time_for_as_long_as_stderr_moves(
    start_bridge: StartBridge, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    done = tmp_path / "installed"
    entry = babbler("--stderr-until", str(done), startTimeout=2000)
    bridge = await start_bridge({"npx": entry})
    session, bridged = (
        asyncio.create_task(bridge.session("npx")),
        asyncio.create_task(bridge.bridge_call("npx", "ping")),
    )
    await until(lambda: len(bridge.service.core.registry.children()) == 2, "two are starting")
    children = bridge.service.core.registry.children()
    await until(lambda: caplog.text.count("server npx is still starting") >= 2, "its time is over")
    assert not session.done()
    assert not bridged.done()
    assert [child.lives for child in children] == [True, True]
    [row] = await bridge.get("/servers")
    assert row["state"] == "starting"
    done.touch()
    await _is_served(await session)
    assert (await bridged) == {"result": {}}
    [row] = await bridge.get("/servers")
    assert row["state"] == "running"


async def test_a_child_that_hears_a_recorded_handshake_has_as_much_time(
    start_bridge: StartBridge, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    done = tmp_path / "installed"
    bridge = await start_bridge({"npx": babbler("--stderr-until", str(done), startTimeout=2000)})
    opening = asyncio.create_task(bridge.session_at("/mcp"))
    await until(lambda: "server npx is still starting" in caplog.text, "its time is over")
    done.touch()
    session = await opening
    assert "result" in await session.call("npx__echo")


async def test_a_child_that_answers_initialize_while_it_is_stopped_answers_somebody(
    start_bridge: StartBridge, tmp_path: Path
) -> None:
    done = tmp_path / "installed"
    bridge = await start_bridge({"npx": babbler("--stderr-until", str(done))})
    initialize = asyncio.create_task(_initialize(bridge, "npx"))
    await until(
        lambda: [each.state.value for each in bridge.service.core.registry.children()] == ["greeting"], "it starts"
    )
    [child] = bridge.service.core.registry.children()
    stopping = asyncio.create_task(bridge.service.core.registry.stop("npx"))
    await until(lambda: child.state.value == "stopping", "its end has begun")
    done.touch()
    async with in_time():
        answer, _ = await initialize
        await stopping
    assert answer["id"] == "me"
    assert "result" in answer or "ended" in answer["error"]["message"]


@pytest.mark.parametrize("face", ["mcp", "bridge"])
async def test_a_start_that_goes_on_for_ever_is_given_up_and_says_what_it_said(
    start_bridge: StartBridge, face: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MOST_EXTENSIONS", 3)
    script = "while :; do echo installing >&2; sleep 0.02; done"
    bridge = await start_bridge({"npx": {"command": "sh", "args": ["-c", script], "startTimeout": 100}})
    async with bridge.post(f"/{face}/npx", message("initialize", 1, **INITIALIZE)) as response:
        text = (await last(response))["error"]["message"]
    assert re.search(r"did not answer initialize within 0\.[1-4] s", text)  # less where nothing came from it in time
    assert "installing" in text


# Pipes


@pytest.mark.parametrize("before", [False, True])
async def test_a_child_that_closes_its_input_and_lives_has_ended(bridge: Running, before: bool) -> None:
    session, other = await bridge.session("babbler"), await bridge.session("babbler")
    waiting = asyncio.create_task(session.call("raw", "waits", raw=[]))
    assert (await session.call("close", 1, close=0, **({"before": True} if before else {})))["result"] == {"closed": 0}
    async with in_time():
        answer = await waiting
        async with session.post(tool("echo", "too late")) as response:
            late = await last(response)
    assert answer["id"] == "waits"
    assert "it closed its input" in answer["error"]["message"]
    assert "it closed its input" in late["error"]["message"]
    await _is_served(other)


async def test_a_child_that_closes_its_output_and_lives_fails_all_that_wait(bridge: Running) -> None:
    session, other = await bridge.session("babbler"), await bridge.session("babbler")
    waiting = asyncio.create_task(session.call("raw", "waits", raw=[]))
    [first, _] = bridge.service.core.registry.children()
    await until(lambda: first.connection.open_exchanges == 1, "it waits")
    async with in_time():
        assert (await session.call("close", 1, close=1))["result"] == {"closed": 1}
        answer = await waiting
    assert "it closed its output" in answer["error"]["message"]
    await _is_served(other)


async def test_a_child_that_closes_stderr_goes_on(bridge: Running) -> None:
    session = await bridge.session("babbler")
    assert (await session.call("close", 1, close=2))["result"] == {"closed": 2}
    await _is_served(session)


async def test_a_frozen_child_gets_8_megabytes_of_requests_and_answers_each_when_it_thaws(bridge: Running) -> None:
    frozen, other = await bridge.session(), await bridge.session()
    pid = await _pid(frozen)
    os.kill(pid, signal.SIGSTOP)
    text = "x" * 1_000_000
    calls = [asyncio.create_task(frozen.call("echo", number, n=number, text=text)) for number in range(8)]
    await until(lambda: _child(bridge, pid).connection.open_exchanges == 8, "all are on their way")
    for _ in range(20):
        await _is_served(other)
    assert not any(call.done() for call in calls)
    os.kill(pid, signal.SIGCONT)
    async with in_time():
        answers = await asyncio.gather(*calls)
    assert [(answer["id"], answer["result"]) for answer in answers] == [(n, {"n": n, "text": text}) for n in range(8)]


async def test_a_session_whose_child_is_frozen_can_be_deleted_and_its_calls_end(bridge: Running) -> None:
    session = await bridge.session()
    pid = await _pid(session)
    child = _child(bridge, pid)
    os.kill(pid, signal.SIGSTOP)
    calls = [asyncio.create_task(session.call("echo", number, text="x" * 500_000)) for number in range(4)]
    await until(lambda: child.connection.open_exchanges == 4, "all are on their way")
    async with session.delete() as response:
        assert response.status == 204
    assert bridge.service.core.registry.children() == [child], "its client does not wait for its end"
    for number, call in enumerate(calls):
        answer = await call
        assert answer["id"] == number
        assert "the client deleted it" in answer["error"]["message"]
    await until(lambda: bridge.service.core.registry.children() == [], "SIGKILL ends a frozen process")


async def test_a_request_to_a_frozen_child_ends_with_the_request_timeout(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"peer": peer(requestTimeout=2000)})  # a busy machine takes some of it
    session = await bridge.session()
    pid = await _pid(session)
    os.kill(pid, signal.SIGSTOP)
    answer = await session.call("echo", "mine")
    assert answer["id"] == "mine"
    assert "neither answer nor progress for 2 s" in answer["error"]["message"]
    os.kill(pid, signal.SIGCONT)
    await _is_served(session)  # the answer that comes too late is nobody's


async def test_two_children_die_while_a_shared_one_serves(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"peer": peer(), "shared": peer(sharing="shared")})
    shared = [await bridge.session("shared") for _ in range(5)]
    dying = [await bridge.session() for _ in range(2)]
    waiting = [asyncio.create_task(each.call("progress", 7, token="p", steps=200)) for each in shared]
    deaths = [await each.call("die", 7) for each in dying]
    assert all("exited with code 1" in answer["error"]["message"] for answer in deaths)
    for answer in await asyncio.gather(*waiting):
        assert answer["id"] == 7
        assert "result" in answer


async def test_a_stream_that_a_death_cuts_ends_with_the_error_and_not_before(bridge: Running) -> None:
    session = await bridge.session()
    async with session.post(tool("wait", "mine", token="p", key="k")) as response:
        stream = events(response)
        assert (await anext(stream))["method"] == "notifications/message"
        os.kill(next(child.pid for child in bridge.service.core.registry.children()), signal.SIGKILL)  # type: ignore[arg-type]
        rest = [event async for event in stream]
    assert [event["id"] for event in rest] == ["mine"]
    assert "killed by signal 9" in rest[0]["error"]["message"]
