"""``serve --workers N``: one bridge to whoever looks at it, and what happens when a worker or the parent dies."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from bridge.cluster.hosting import VARIABLE
from tests.cli.conftest import Serve, Served, environment, run
from tests.cluster.conftest import NAMES, SERVERS, StartWorkers, Workers, held_by, through
from tests.conftest import INITIALIZE, Session, events, in_time, last, message, peer, tool
from tests.faults.conftest import until


async def test_lists_are_the_same_whichever_worker_is_asked(workers: Workers) -> None:
    for name in NAMES:
        await held_by(workers, name)
    answers = []
    for name in NAMES:
        way = workers.way(name)
        health = await way.get("/health")
        assert (health["status"], health["children"], health["sessions"]["streamable"]) == ("ok", 2, 2)
        assert {node: each["children"] for node, each in health["nodes"].items()} == {"w1": 1, "w2": 1}
        assert [row["node"] for row in await way.get("/children")] == ["w1", "w2"]
        [row] = [row for row in await way.get("/api/v1/servers") if row["id"] == "peer"]
        assert (row["children"], row["sessions"], row["state"]) == (2, 2, "running")
        assert (await way.get("/api/v1/sessions/stats"))["total_sessions"] == 2
        async with way.http.get(f"{way.url}/metrics") as response:
            text = await response.text()
        for node in NAMES:
            assert f'mcp_bridge_children{{node="{node}",server="peer",state="ready"}} 1.0' in text
        assert text.count("# TYPE mcp_bridge_children gauge") == 1
        answers.append(sorted((row["node"], row["session_id"]) for row in await way.get("/sessions")))
    assert answers[0] == answers[1]
    assert [node for node, _ in answers[0]] == ["w1", "w2"]


async def test_the_page_sees_all_workers(workers: Workers) -> None:
    for name in NAMES:
        await held_by(workers, name)
    async with workers.way("w2").http.get("http://localhost/api/v1/events") as response:
        async for line in response.content:
            if line.startswith(b"data: "):
                snapshot = json.loads(line[6:])
                break
    assert [row["node"] for row in snapshot["children"]] == ["w1", "w2"]
    assert (snapshot["total_sessions"], snapshot["bridge"]["status"]) == (2, "ok")


async def test_what_is_done_to_a_server_or_a_session_reaches_the_right_workers(workers: Workers) -> None:
    sessions = [await held_by(workers, name) for name in NAMES]
    for session, name in zip(sessions, reversed(NAMES), strict=True):  # over the worker that does not hold it
        way = workers.way(name)
        url = f"{way.url}/api/v1/sessions/{session.id}"
        async with way.http.patch(url, json={"metadata": {"a": 1}}) as response:
            assert (await response.json())["metadata"] == {"a": 1}
        async with way.http.get(url) as response:
            assert (await response.json())["session_id"] == session.id
        async with way.http.delete(url) as response:
            assert response.status == 204
        async with way.http.delete(url) as response:
            assert response.status == 404
    sessions = [await held_by(workers, name) for name in NAMES]
    before = {row["pid"] for row in await way.get("/children") if row["state"] == "ready"}
    async with way.http.post(f"{way.url}/api/v1/servers/peer/restart") as response:
        assert response.status == 200
    assert len(before) >= len(NAMES)
    assert not before & {row["pid"] for row in await way.get("/children")}


async def test_a_worker_that_is_killed_takes_only_its_own_sessions_with_it(own_workers: Workers) -> None:
    workers = own_workers
    sessions = {name: await held_by(workers, name) for name in NAMES}
    process, socket = await workers.process("w1"), workers.socket("w1")
    children = process.children()
    over = through(sessions["w1"], workers.way("w2"))
    streamed = await over.post(tool("wait", "streamed", token="t", key="k")).__aenter__()
    found = events(streamed)
    assert (await anext(found))["method"] == "notifications/message"
    silent = asyncio.ensure_future(over.post(tool("never", "silent")).__aenter__())
    while (await workers.way("w2").get("/children"))[0]["open_calls"] < 2:
        pass
    process.kill()
    *_, lost = [each async for each in found]
    assert (lost["id"], "w1 ended" in lost["error"]["message"]) == ("streamed", True)
    response = await silent
    assert (response.status, (await last(response))["id"]) == (502, "silent")
    assert "Retry-After" not in response.headers  # nobody knows whether it was done
    assert (await sessions["w2"].call("echo", text="x"))["result"] == {"text": "x"}
    for url in (workers.served.url, "http://localhost"):
        way = workers.way("w2").http if url == "http://localhost" else workers.http
        session = Session(way, f"{url}/mcp/peer", sessions["w1"].id, {})
        async with session.post(tool("echo")) as response:
            assert response.status in (404, 502, 503)  # 502: over a connection from before whose end is not seen yet
        async with way.post(f"{url}/mcp/peer", json=message("initialize", 0, **INITIALIZE)) as response:
            assert response.status == 200
    await workers.replaced("w1", socket)
    psutil.wait_procs(children, 5)
    assert [child for child in children if child.is_running()] == []
    async with through(sessions["w1"], workers.way("w2")).post(tool("echo")) as response:
        assert response.status == 404
    await held_by(workers, "w1")
    assert (await workers.way("w2").get("/health"))["status"] == "ok"


async def test_a_worker_that_is_replaced_starts_no_server_that_was_stopped(own_workers: Workers) -> None:
    workers = own_workers
    for name in NAMES:
        await held_by(workers, name)
    process, socket = await workers.process("w1"), workers.socket("w1")
    async with workers.http.post(f"{workers.served.url}/api/v1/servers/new/stop") as response:
        assert response.status == 200
    process.kill()
    await workers.replaced("w1", socket)
    while len((await workers.way("w2").get("/health"))["nodes"]) < len(NAMES):
        pass
    found = await workers.way("w1").bridge_call("new", "tools/list")
    assert "it was stopped" in found["error"]["message"]
    async with workers.way("w2").http.post("http://localhost/api/v1/servers/new/start") as response:
        assert response.status == 200
    assert "result" in await workers.way("w1").bridge_call("new", "tools/list")


async def test_a_kept_session_is_not_told_to_be_gone_while_its_worker_starts_again(
    start_workers: StartWorkers,
) -> None:
    servers = {"peer": peer(persistent=True)}
    workers = await start_workers("--workers", "2", servers=servers, SESSION_STORE="file")
    session = await held_by(workers, "w1")
    assert (await session.call("count"))["result"]["count"] == 1
    process, socket = await workers.process("w1"), workers.socket("w1")
    process.kill()
    statuses = set()
    while 200 not in statuses:
        async with through(session, workers.way("w2")).post(tool("echo")) as response:
            statuses.add(response.status)
    assert statuses <= {200, 502, 503}
    await workers.replaced("w1", socket)


async def test_sigterm_loses_no_call(start_workers: StartWorkers) -> None:
    """Calls that wait on both workers, over both ways, each end with their answer; then every process is gone."""
    workers = await start_workers("--workers", "2", SHUTDOWN_TIMEOUT_MS="20000")
    sessions = {name: await held_by(workers, name) for name in NAMES}
    ways = [(name, way, through(sessions[name], workers.way(way))) for name in NAMES for way in NAMES]
    calls = [asyncio.create_task(each.call("wait", f"{name}{way}", key=f"{name}{way}")) for name, way, each in ways]
    for name, session in sessions.items():
        for way in NAMES:
            while "error" in await session.call("say", key=f"{name}{way}", progress=1):
                pass
    processes = [*workers.processes(), *(child for each in workers.processes() for child in each.children())]
    workers.served.process.send_signal(signal.SIGTERM)
    for _ in NAMES:
        await workers.served.line_with("waiting for 3 running")
    for session in sessions.values():  # a notification is part of what runs
        async with session.post(message("notifications/initialized")) as response:
            assert response.status == 202
        async with session.post(tool("echo")) as response:
            assert response.status == 503
    for process in processes:
        if "peer.py" in " ".join(process.cmdline()):
            process.send_signal(signal.SIGTERM)  # each child that ends answers its calls with an error
    answers = await asyncio.gather(*calls)
    assert [answer["id"] for answer in answers] == [f"{name}{way}" for name, way, _ in ways]
    assert await workers.served.process.wait() == 0
    assert [each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE] == []


async def test_nothing_is_left_of_a_parent_that_is_killed(own_workers: Workers) -> None:
    workers = own_workers
    for name in NAMES:
        await held_by(workers, name)
    processes = [*workers.processes(), *(child for each in workers.processes() for child in each.children())]
    workers.served.process.kill()
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, 20)
    assert alive == []


async def test_reload_and_drain_reach_every_worker(own_workers: Workers, tmp_path: Path) -> None:
    workers = own_workers
    servers = {**SERVERS, "late": peer()}
    (tmp_path / "servers.json").write_text(json.dumps(servers))
    async with workers.http.post(f"{workers.served.url}/api/v1/reload") as response:
        assert response.status == 200, await response.text()
    for _ in NAMES:
        await workers.served.line_with("configuration read again")
    for name in NAMES:
        assert "late" in {row["id"] for row in await workers.way(name).get("/servers")}
    del servers["late"]
    (tmp_path / "servers.json").write_text(json.dumps(servers))
    workers.served.process.send_signal(signal.SIGHUP)
    for _ in NAMES:
        await workers.served.line_with("configuration read again")
    for name in NAMES:
        assert "late" not in {row["id"] for row in await workers.way(name).get("/servers")}
    async with workers.http.post(f"{workers.served.url}/api/v1/drain") as response:
        assert response.status == 202
    assert await workers.served.process.wait() == 0


async def drain(workers: Workers, how: str) -> None:
    if how == "SIGUSR1":
        workers.served.process.send_signal(signal.SIGUSR1)
        return
    async with workers.http.post(f"{workers.served.url}{how}") as response:
        assert response.status == 202


@pytest.mark.parametrize("how", ["SIGUSR1", "/api/v1/drain"])
async def test_a_worker_that_dies_while_all_are_drained_has_no_successor(own_workers: Workers, how: str) -> None:
    workers = own_workers
    sessions = {name: await held_by(workers, name) for name in NAMES}
    process = await workers.process("w1")
    await drain(workers, how)
    for _ in NAMES:
        await workers.served.line_with("draining")
    process.kill()
    assert "w1 has ended by signal 9: its sessions are lost\n" in await workers.served.line_with("sessions are lost")
    async with sessions["w2"].delete() as response:
        assert response.status == 204
    async with in_time():
        assert await workers.served.process.wait() == 1


@pytest.fixture
async def starting(tmp_path: Path) -> AsyncIterator[tuple[Served, Path]]:
    """A parent whose two workers do not begin before there is a file, and that file."""
    gate, root = tmp_path / "gate", Path(__file__).parent.parent.parent
    (tmp_path / "servers.json").write_text(json.dumps(SERVERS))
    (tmp_path / "sitecustomize.py").write_text(
        "import os, time\n"
        f"while {VARIABLE!r} in os.environ and not os.path.exists({str(gate)!r}):\n    time.sleep(0.01)\n"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bridge", "serve", "--port", "0", "--workers", "2"),
        cwd=tmp_path,
        env=environment(PYTHONPATH=f"{tmp_path}:{root}"),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    await until(lambda: len(psutil.Process(process.pid).children()) == 2, "no workers")
    yield Served(process), gate
    if process.returncode is None:
        process.kill()
        await process.wait()


async def test_a_reload_waits_for_workers_that_still_start(starting: tuple[Served, Path]) -> None:
    served, gate = starting
    served.process.send_signal(signal.SIGHUP)
    gate.touch()
    for _ in NAMES:
        await served.line_with("configuration read again")
    assert await served.stop() == 0


async def test_workers_that_still_start_when_all_are_drained_end(starting: tuple[Served, Path]) -> None:
    served, _ = starting
    served.process.send_signal(signal.SIGUSR1)
    async with in_time():
        assert await served.process.wait() == 0


async def test_logs_of_all_workers_are_one(own_workers: Workers, tmp_path: Path) -> None:
    workers = own_workers
    for name in NAMES:
        await held_by(workers, name)
    opened: Counter[str] = Counter()
    async with in_time():
        while opened != {"w1": 1, "w2": 1}:  # logs are written behind what they tell of
            async with workers.http.get(f"{workers.served.url}/api/v1/logs?tail=1000") as response:
                lines = (await response.json())["lines"]
            opened = Counter(line.split()[2] for line in lines if "Session created" in line)
    assert all(re.match(r"\d{4}-\S+Z \[[A-Z]+\] (w1|w2|parent) ", line) for line in lines)
    assert sorted(each.name for each in (tmp_path / "logs").glob("*.log")) == ["bridge.log", "error.log"]


async def test_kept_sessions_come_back_where_they_were(start_workers: StartWorkers) -> None:
    store = {"SESSION_STORE": "file", "SHUTDOWN_TIMEOUT_MS": "1000"}
    workers = await start_workers(servers={"peer": peer(persistent=True)}, **store)
    sessions = {name: await held_by(workers, name) for name in NAMES}
    assert await workers.served.stop() == 0
    again = await start_workers(servers={"peer": peer(persistent=True)}, **store)
    for name, other in (NAMES, NAMES[::-1]):
        assert (await through(sessions[name], again.way(other)).call("echo", text="x"))["result"] == {"text": "x"}
    rows = await again.way("w1").get("/sessions?pool=streamable")
    assert {row["session_id"].partition(".")[0]: row["node"] for row in rows} == {"w1": "w1", "w2": "w2"}


@pytest.mark.parametrize(
    ("arguments", "settings", "says"),
    [
        (("--workers", "0"), {}, "WORKERS"),
        (("--workers", "2"), {"CLUSTER_KEY": "short"}, "CLUSTER_KEY"),
    ],
)
async def test_what_cannot_be_is_said_at_the_start(
    tmp_path: Path, arguments: tuple[str, ...], settings: dict[str, str], says: str
) -> None:
    (tmp_path / "servers.json").write_text(json.dumps(SERVERS))
    code, _, err = await run(tmp_path, "serve", "--port", "0", *arguments, **settings)
    assert code == 2
    assert says in err
    assert "short" not in err.partition("at least")[0].partition("is ")[2]


async def test_a_port_that_is_taken_is_said_at_the_start(serve: Serve, tmp_path: Path) -> None:
    served = await serve("--workers", "2", servers=SERVERS)
    port = served.url.rpartition(":")[2]
    code, _, err = await run(tmp_path, "serve", "--port", port, "--workers", "2")
    assert (code, f"cannot listen on 127.0.0.1:{port}" in err) == (1, True)


async def test_workers_that_cannot_start_end_the_parent(tmp_path: Path) -> None:
    (tmp_path / "servers.json").write_text(json.dumps(SERVERS))
    (tmp_path / "pins.json").write_text("no JSON")
    code, _, err = await run(tmp_path, "serve", "--port", "0", "--workers", "2", PINS_FILE="pins.json")
    assert code == 1
    assert "no JSON" in err
    assert "could not start" in err


async def test_one_worker_is_a_bridge_as_ever(start_workers: StartWorkers) -> None:
    workers = await start_workers("--workers", "1")
    assert workers.processes() == []
    async with workers.http.post(
        f"{workers.served.url}/mcp/peer", json=message("initialize", 0, **INITIALIZE)
    ) as response:
        assert "." not in response.headers["Mcp-Session-Id"]
        assert "result" in await last(response)
