"""Servers that keep ending: how often they are started, what clients are told, what an operator sees and does."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from bridge.children.restart import FREE_FAILURES
from tests.conftest import INITIALIZE, PEERS, Running, Session, StartBridge, last, message, peer, tool
from tests.faults.conftest import until

PEER = PEERS / "peer.py"
LOOP = {
    "command": sys.executable,
    "args": ["-I", "-S", "-c", "import sys; print('no config', file=sys.stderr); sys.exit(3)"],
}


async def initialize(bridge: Running, server: str = "loop") -> tuple[int, Any, Any]:
    async with bridge.post(f"/mcp/{server}", message("initialize", 1, **INITIALIZE)) as response:
        return response.status, await response.json(), response.headers


async def act(bridge: Running, server: str, verb: str) -> Any:
    async with bridge.http.post(f"{bridge.url}/api/v1/servers/{server}/{verb}") as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def row(bridge: Running, server: str) -> dict[str, Any]:
    return next(each for each in await bridge.get("/servers") if each["id"] == server)


async def test_a_crash_loop_is_started_five_times_and_then_waits(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"loop": LOOP, "peer": peer()})
    for _ in range(FREE_FAILURES):
        status, answer, _ = await initialize(bridge)
        assert status == 200
        assert "no config" in answer["error"]["message"]
    status, answer, headers = await initialize(bridge)
    assert status == 200  # SDKs show the text of an error with no other status
    assert int(headers["Retry-After"]) >= 1
    assert "failed 5 times in a row" in answer["error"]["message"]
    assert "no config" in answer["error"]["message"]
    shown = await row(bridge, "loop")
    assert (shown["state"], shown["restarts"]) == ("backoff", FREE_FAILURES - 1)
    assert "exited with code 3" in shown["last_error"]
    health = await bridge.get("/health")
    assert health["status"] == "degraded"
    assert "server loop is in backoff" in health["reasons"][0]
    session = await bridge.session("peer")  # the others do not notice
    assert "result" in await session.call("count")


@pytest.mark.parametrize("path", ["/mcp/loop", "/mcp"])
@pytest.mark.parametrize(
    ("script", "patience", "said"),
    [
        ("cat >/dev/null", 100, "did not answer initialize within 0."),
        ("echo Welcome; cat >/dev/null", 1000, "'Welcome'"),
        ("cat", 60_000, "it sends back what it is sent"),
        ("""read x; echo '{"jsonrpc":"2.0","id":1,"result":{]}'; cat >/dev/null""", 60_000, "JSON is malformed"),
    ],
)
async def test_a_server_that_has_no_answer_to_initialize_has_failed(
    start_bridge: StartBridge, caplog: pytest.LogCaptureFixture, path: str, script: str, patience: int, said: str
) -> None:
    entry = {"command": "sh", "args": ["-c", script], "startTimeout": patience, "maxRestarts": 2}
    bridge = await start_bridge({"loop": entry})
    for _ in range(3):
        async with bridge.post(path, message("initialize", 1, **INITIALIZE)) as response:
            text = await response.text()
    if path == "/mcp/loop":
        assert "failed 2 times in a row" in text
    shown = await row(bridge, "loop")
    assert (shown["state"], shown["restarts"]) == ("fatal", 1)
    assert said in shown["last_error"]
    health = await bridge.get("/health")
    assert (health["status"], said in health["reasons"][0]) == ("degraded", True)
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert (len(errors), all(said in each for each in errors)) == (2, True), errors


async def test_a_client_that_leaves_a_server_that_still_starts_counts_nothing(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"slow": {"command": "sh", "args": ["-c", "cat >/dev/null"], "maxRestarts": 1}})
    children = bridge.service.core.registry.children

    opening = asyncio.create_task(initialize(bridge, "slow"))
    await until(lambda: any(child.pid for child in children()), "it starts")
    opening.cancel()
    await until(lambda: children() == [], "its process has ended")

    async with bridge.http.post(f"{bridge.url}/api/v1/sessions", json={"server": "slow"}) as response:
        session = Session(bridge.http, f"{bridge.url}/mcp/slow", (await response.json())["session_id"], {})
    async with asyncio.TaskGroup() as group:
        group.create_task(_post_initialize(session))
        await until(lambda: any(child.pid for child in children()), "it starts")
        async with session.delete() as response:
            assert response.status == 204
    await until(lambda: children() == [], "its process has ended")

    shown = await row(bridge, "slow")
    assert (shown["state"], shown["last_error"]) == ("idle", None)


async def _post_initialize(session: Session) -> None:
    async with session.post(message("initialize", 1, **INITIALIZE)) as response:
        assert "error" in await last(response)


async def test_a_bridge_call_to_a_crash_loop_waits_as_well(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"loop": LOOP})
    statuses = []
    for _ in range(FREE_FAILURES + 1):
        async with bridge.post("/bridge/loop", {"method": "ping"}) as response:
            statuses.append(response.status)
    assert statuses == [502] * FREE_FAILURES + [503]


async def test_after_max_restarts_only_an_operator_starts_it_again(start_bridge: StartBridge, tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    script.write_text("raise SystemExit(7)")
    entry = {"command": sys.executable, "args": ["-I", "-S", str(script)], "maxRestarts": 2}
    bridge = await start_bridge({"loop": entry})
    for _ in range(2):
        assert (await initialize(bridge))[0] == 200
    status, answer, headers = await initialize(bridge)
    assert status == 200
    assert "Retry-After" not in headers
    assert "mcp-bridge servers start loop" in answer["error"]["message"]
    assert (await row(bridge, "loop"))["state"] == "fatal"
    script.write_text(PEER.read_text())
    assert await act(bridge, "loop", "start") == {"id": "loop", "state": "started"}
    session = await bridge.session("loop")
    assert "result" in await session.call("count")
    assert (await row(bridge, "loop"))["state"] == "running"
    assert (await bridge.get("/health"))["status"] == "ok"


async def test_a_child_that_is_killed_again_and_again_makes_its_server_wait(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"peer": peer()})
    for _ in range(FREE_FAILURES):
        session = await bridge.session()
        assert "ended before it answered" in (await session.call("die"))["error"]["message"]
    _, answer, _ = await initialize(bridge, "peer")
    assert "failed 5 times in a row" in answer["error"]["message"]
    assert "exited with code 1" in answer["error"]["message"]


async def test_sessions_that_end_in_order_are_no_failures(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"peer": peer()})
    for _ in range(2 * FREE_FAILURES):
        session = await bridge.session()
        async with session.delete() as response:
            assert response.status == 204
    assert "result" in await (await bridge.session()).call("count")
    assert (await row(bridge, "peer"))["restarts"] == 0


async def test_a_server_is_stopped_and_started_by_its_operator(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"peer": peer(), "other": peer()})
    session, other = await bridge.session(), await bridge.session("other")
    assert await act(bridge, "peer", "stop") == {"id": "peer", "state": "stopped"}
    assert [child["server"] for child in await bridge.get("/children")] == ["other"]
    assert (await row(bridge, "peer"))["state"] == "stopped"
    async with session.post(tool("count")) as response:
        assert response.status == 404
    _, answer, _ = await initialize(bridge, "peer")
    assert "mcp-bridge servers start peer" in answer["error"]["message"]
    await act(bridge, "peer", "start")
    assert "result" in await (await bridge.session()).call("count")
    assert "result" in await other.call("count")


async def test_a_restart_takes_the_program_as_it_is_now(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"peer": peer(sharing="shared")})
    first = await bridge.bridge_call("peer", "tools/call", name="pid", arguments={})
    assert await act(bridge, "peer", "restart") == {"id": "peer", "state": "restarted"}
    second = await bridge.bridge_call("peer", "tools/call", name="pid", arguments={})
    assert first["result"] != second["result"]


async def test_an_unknown_server_cannot_be_restarted(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"off": peer(disabled=True)})
    for server in ("off", "nobody"):
        async with bridge.http.post(f"{bridge.url}/api/v1/servers/{server}/restart") as response:
            assert response.status == 404


async def test_a_hundred_clients_of_a_crash_loop_all_get_an_answer(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"loop": LOOP}, MAX_CHILDREN=20)
    answers = await asyncio.gather(*(initialize(bridge) for _ in range(100)))
    assert all("error" in answer for _, answer, _ in answers)
    assert {status for status, _, _ in answers} <= {200, 503}


@pytest.mark.parametrize(
    ("limits", "does", "said"),
    [
        ({"memoryBytes": 200 * 1024 * 1024}, "x = bytearray(400 * 1024 * 1024)", "MemoryError"),
        ({"cpuSeconds": 1}, "while True: pass", "signal"),
        ({"openFiles": 32}, "files = [open('/dev/null') for _ in range(100)]", "Too many open files"),
    ],
)
async def test_a_child_has_the_limits_that_its_server_gives_it(
    start_bridge: StartBridge, limits: dict[str, int], does: str, said: str
) -> None:
    # It reads its first line and then does it, so that the limit is there by then.
    entry = {"command": sys.executable, "args": ["-I", "-S", "-c", f"input()\n{does}"], "limits": limits}
    bridge = await start_bridge({"greedy": entry})
    _, answer, _ = await initialize(bridge, "greedy")
    assert said in answer["error"]["message"]
