"""``mcp-bridge restart``: another process takes over the port, and nobody who calls meanwhile notices."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from bridge.auth.principal import ANYONE, NOBODY
from bridge.cluster.hop import Hop, HopSeals
from bridge.cluster.hosting import HEIR, VARIABLE
from bridge.version import __version__
from bridge.web.across import SESSION, STORE
from bridge.web.hops import HOP_HEADER
from tests.cli.conftest import Serve, Served, run
from tests.conftest import INITIALIZE, Running, Session, events, in_time, last, message, peer, tool
from tests.faults.conftest import until
from tests.web.test_tls import Pair

pytestmark = [pytest.mark.slow, pytest.mark.timeout(100)]

KEPT = {"peer": peer(persistent=True)}


class Restarted(Running):
    """A bridge as its clients see it, whichever process answers; and the first process, which somebody watches."""

    def __init__(self, served: Served, folder: Path) -> None:
        self.served = served
        self.folder = folder
        self.http = aiohttp.ClientSession()
        self.seen: set[psutil.Process] = set()

    @property
    def url(self) -> str:
        return self.served.url

    @property
    def first(self) -> psutil.Process:
        return psutil.Process(self.served.process.pid)

    def serving(self) -> list[psutil.Process]:
        """The bridges below the first process."""
        return [each for each in self.first.children() if lives(each) and "serve" in each.cmdline()]

    def look(self) -> None:
        """Remember every process there is."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self.seen.update([self.first, *self.first.children(recursive=True)])

    async def ask(self, patience: float = 60) -> tuple[int, dict[str, Any]]:
        """Ask for a restart over a connection of its own."""
        self.look()
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{self.url}/api/v1/restart", json={"patience_s": patience}) as response,
        ):
            return response.status, await response.json()

    async def restart(self, patience: float = 60) -> psutil.Process:
        """Restart; return the new process."""
        status, found = await self.ask(patience)
        assert status == 200, found
        self.look()
        return psutil.Process(found["new"]["pid"])

    async def old_has_ended(self) -> None:
        """Wait until the first process does nothing but wait."""
        await until(lambda: "waiter.py" in " ".join(self.first.cmdline()), "the old bridge lives", 30)

    async def end(self) -> None:
        """End everything by the first process: its exit code is 0, and nothing is left."""
        self.look()
        assert await self.served.stop() == 0, "".join(self.served.lines)
        await self.nothing_is_left()

    async def nothing_is_left(self) -> None:
        await until(lambda: not any(lives(each) for each in self.seen), "processes are left", 30)


def lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


Start = Callable[..., Awaitable[Restarted]]


@pytest.fixture
async def start(serve: Serve, tmp_path: Path) -> AsyncIterator[Start]:
    """Start bridges; whatever a test has left of them is killed."""
    started: list[Restarted] = []

    async def begin(*arguments: str, servers: dict[str, Any] | None = None, **settings: str) -> Restarted:
        found = Restarted(await serve(*arguments, servers=servers or {"peer": peer()}, **settings), tmp_path)
        started.append(found)
        return found

    yield begin
    for each in started:
        await each.http.close()
        each.look()
        for process in each.seen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        assert each.served.process.stderr is not None
        async with in_time():
            await each.served.process.wait()
            sys.stdout.write("".join(each.served.lines) + (await each.served.process.stderr.read()).decode())


class Calls:
    """Clients that call over and over, each in its own way; counts how their calls end."""

    def __init__(self, bridge: Restarted) -> None:
        self.bridge = bridge
        self.ends: Counter[str] = Counter()
        self.rounds: Counter[str] = Counter()
        self.stopping = False

    async def run(self, name: str, one: Callable[[int], Awaitable[None]]) -> None:
        for number in itertools.count(1):
            if self.stopping:
                return
            try:
                await one(number)
                self.ends["answered"] += 1
            except (aiohttp.ClientError, OSError, AssertionError, KeyError) as error:
                self.ends[f"{name}: {error!r}"] += 1
            self.rounds[name] += 1

    async def more(self, rounds: int) -> None:
        """Wait until every client has called so often again."""
        before = dict(self.rounds)
        await until(lambda: all(self.rounds[name] >= before[name] + rounds for name in before), str(self.rounds), 60)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_no_call_is_refused_or_lost(start: Start, workers: str) -> None:
    bridge = await start("--workers", workers)
    calls = Calls(bridge)
    sessions = [await bridge.session() for _ in range(2)]

    async def goes_on(session: Session, number: int) -> None:
        assert (await session.call("count"))["result"]["count"] == number  # by the same child

    async def begins(number: int) -> None:
        session = await bridge.session()
        assert (await session.call("count"))["result"]["count"] == 1
        async with session.delete() as response:
            assert response.status == 204

    async def connects(number: int) -> None:
        async with aiohttp.ClientSession() as http, http.get(f"{bridge.url}/health") as response:
            assert response.status == 200

    async def bridges(number: int) -> None:
        assert await bridge.bridge_call("peer", "tools/call", name="echo", arguments={"n": number}) == {
            "result": {"n": number}
        }

    clients = {
        **{f"session {place}": lambda number, each=each: goes_on(each, number) for place, each in enumerate(sessions)},
        "new session": begins,
        "new connection": connects,
        "bridge": bridges,
    }
    running = [asyncio.create_task(calls.run(name, one)) for name, one in clients.items()]
    await until(lambda: len(calls.rounds) == len(clients), "a client does not begin")
    old = bridge.served.process.pid
    code, out, err = await run(bridge.folder, "restart", "--port", bridge.url.rpartition(":")[2])
    assert (code, err) == (0, "")
    assert out.startswith(f"restarted: {old} ({__version__}) -> ")
    await calls.more(20)
    calls.stopping = True
    await asyncio.gather(*running)
    assert {*calls.ends} == {"answered"}, calls.ends
    for session in sessions:
        async with session.delete() as response:
            assert response.status == 204
    await bridge.http.close()
    await bridge.old_has_ended()
    await bridge.end()


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_session_goes_on_through_the_new_bridge(start: Start, workers: str) -> None:
    bridge = await start("--workers", workers, servers={"peer": peer(args=[*peer()["args"], "--changes"])})
    session = await bridge.session()
    pid = (await session.call("pid"))["result"]["pid"]
    waiting = asyncio.create_task(session.call("wait", "long", key="k"))
    while "error" in await session.call("say", key="k", progress=1):
        pass
    await bridge.restart()
    async with aiohttp.ClientSession() as http:  # whose connections the new one takes
        over = Session(http, session.url, session.id, {})
        assert (await over.call("pid"))["result"]["pid"] == pid
        async with over.get() as stream:
            await over.call("list_changed")
            assert (await anext(events(stream)))["method"] == "notifications/tools/list_changed"
        assert (await bridge.ask())[0] == 409
        await over.call("release", key="k")
        assert await waiting == {"jsonrpc": "2.0", "id": "long", "result": {"released": "k"}}
        api = f"{bridge.url}/api/v1/sessions/{session.id}"
        async with http.get(api) as response:
            assert (await response.json())["session_id"] == session.id
        async with over.delete() as response:
            assert response.status == 204
        async with over.post(tool("echo")) as response:
            assert response.status == 404
        async with over.post(tool("echo"), Mcp_Session_Id="nobody's") as response:
            assert response.status == 404
    await bridge.http.close()
    await bridge.old_has_ended()
    await bridge.end()


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_connection_from_before_reaches_sessions_of_the_new_bridge(start: Start, workers: str) -> None:
    bridge = await start("--workers", workers)
    await bridge.get("/health")  # over a connection that stays
    new = await bridge.restart()
    async with aiohttp.ClientSession() as http:
        bridge.http, before = http, bridge.http
        session = await bridge.session()
        pid = (await Session(before, session.url, session.id, {}).call("pid"))["result"]["pid"]
        assert pid in {child.pid for child in new.children(recursive=True)}
        await before.close()


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_no_client_speaks_for_the_old_bridge(start: Start, workers: str) -> None:
    """What that sends on for clients has the same seal as what it says itself."""
    bridge = await start("--workers", workers, SESSION_STORE="file")
    before = {path: aiohttp.ClientSession() for path in (SESSION, STORE)}
    for path, http in before.items():
        async with http.get(f"{bridge.url}/health") as response:  # over a connection that stays
            assert response.status == 200, path
    await bridge.restart()
    async with aiohttp.ClientSession() as new:
        for path, old in before.items():
            for http in (old, new):
                async with http.post(bridge.url + path, json=[]) as response:
                    assert response.status == 404, (path, http is old)
            await old.close()
    await bridge.old_has_ended()
    await bridge.end()


async def test_what_a_worker_sends_on_is_not_what_it_says(start: Start) -> None:
    """Also where the old bridge is one that does not look."""
    key = "0123456789abcdef" * 2
    with tempfile.TemporaryDirectory(prefix="w", dir="/tmp") as folder:
        bridge = await start("--workers", "2", CLUSTER_KEY=key, SESSION_STORE="file", TMPDIR=folder)

        def doors() -> set[Path]:
            return set(Path(folder).glob("*/w1.*"))

        async def door_after_restart() -> Path:
            await bridge.restart()
            (door,) = doors() - before
            return door

        before = doors()
        async with (
            bridge.http.get(f"{bridge.url}/sse/peer") as stream,  # as long as it is open the old bridge is there
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(await door_after_restart()))) as http,
        ):
            assert stream.status == 200
            for caller, statuses in ((ANYONE, (404, 404)), (NOBODY, (400, 204))):
                for path, status in zip((SESSION, STORE), statuses, strict=True):
                    hop = Hop("w1", "w1", "POST", path, caller.words, "", "", "")
                    sealed = {HOP_HEADER: HopSeals(key.encode()).write(hop, time.time())}
                    async with http.post(f"http://localhost{path}", json=[], headers=sealed) as response:
                        assert response.status == status, (path, caller)
        await bridge.http.close()
        await bridge.old_has_ended()
        await bridge.end()


async def test_the_old_transport_goes_on(start: Start) -> None:
    bridge = await start()
    async with bridge.http.get(f"{bridge.url}/sse/peer") as stream:
        lines = stream.content
        while not (line := (await lines.readline()).decode()).startswith("data: "):
            pass
        await bridge.restart()
        async with aiohttp.ClientSession() as http:
            where = bridge.url + line.removeprefix("data: ").strip()
            async with http.post(where, json=message("initialize", 1, **INITIALIZE)) as response:
                assert response.status == 202
        while not (line := (await lines.readline()).decode()).startswith("data: "):
            pass
        assert json.loads(line.removeprefix("data: "))["id"] == 1


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_kept_sessions_go_to_the_new_bridge(start: Start, workers: str) -> None:
    settings = {"SESSION_STORE": "file", "PERSISTENCE_REQUIRED": "true"}
    bridge = await start("--workers", workers, servers=KEPT, **settings)
    idle, busy = await bridge.session(), await bridge.session()
    assert (await idle.call("count"))["result"]["count"] == 1
    waiting = asyncio.create_task(busy.call("wait", "long", key="k"))
    while "error" in await busy.call("say", key="k", progress=1):
        pass
    await bridge.restart()
    async with aiohttp.ClientSession() as http:
        idle, busy = (Session(http, each.url, each.id, {}) for each in (idle, busy))
        pid = (await busy.call("pid"))["result"]["pid"]
        assert (await idle.call("count"))["result"]["count"] == 1  # in another process, as after any restart
        opening = asyncio.create_task(bridge.session())  # which waits for the store
        await busy.call("release", key="k")
        assert (await waiting)["result"] == {"released": "k"}
        async with in_time():
            while (await busy.call("pid"))["result"]["pid"] == pid:  # noqa: ASYNC110
                await asyncio.sleep(0.2)  # because each request holds it up
        new = await opening
        assert (await new.call("count"))["result"]["count"] == 1
        await bridge.http.close()
        await bridge.old_has_ended()
        for each in (idle, busy, new):
            async with http.get(f"{bridge.url}/api/v1/sessions/{each.id}") as response:
                assert (await response.json())["persistent"] is True
    await bridge.end()
    again = await start("--workers", workers, servers=KEPT, **settings)
    for each in (idle, busy, new):
        moved = Session(again.http, f"{again.url}/mcp/peer", each.id, {})
        assert (await moved.call("count"))["result"]["count"] == 1


REFUSED = [
    ({"servers.json": '{"mcpServers": {'}, 409, "the new bridge refuses: servers.json"),
    ({".env": "HOST=127.0.0.2"}, 409, "HOST: is 127.0.0.2, and the bridge that is restarted listens on 127.0.0.1"),
    ({".env": "LOG_LEVEL=loud"}, 409, "LOG_LEVEL: is 'loud', must be one of"),
    ({"aiohttp.py": "def broken("}, 500, "the new bridge could not start"),
]


async def test_what_cannot_start_leaves_the_old_one_as_it_was(start: Start) -> None:
    bridge = await start()
    session = await bridge.session()
    before = {path.name for path in bridge.folder.iterdir()}
    servers = (bridge.folder / "servers.json").read_text()
    for files, status, said in REFUSED:
        for name, text in files.items():
            (bridge.folder / name).write_text(text)
        found = await bridge.ask()
        assert (found[0], said in found[1]["error"]["message"]) == (status, True), found
        assert found[1]["error"]["message"].endswith("; this one goes on")
        code, out, err = await run(bridge.folder, "restart", "--host", "127.0.0.1", "--port", bridge.url[-5:])
        assert (code != 0, out) == (True, "")
        assert "Traceback" not in err
        for name in {path.name for path in bridge.folder.iterdir()} - before:
            if name in files:
                (bridge.folder / name).unlink()
        (bridge.folder / "servers.json").write_text(servers)
    assert (await session.call("count"))["result"]["count"] == 1
    assert (await (await bridge.session()).call("count"))["result"]["count"] == 1
    await bridge.restart(0)
    await bridge.end()


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_restart_may_follow_as_soon_as_the_bridge_before_has_ended(start: Start, workers: str) -> None:
    bridge = await start("--workers", workers)
    served = await bridge.restart(patience=0)
    await bridge.old_has_ended()
    for _ in range(3):
        before, served = served, await bridge.restart(patience=0)
        await until(lambda: not lives(before), "the bridge before lives", 30)  # noqa: B023 - is called here only
    assert (await (await bridge.session()).call("count"))["result"]["count"] == 1
    await bridge.end()


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_token_or_a_scheme_that_has_changed_leaves_a_way(start: Start, tmp_path: Path, workers: str) -> None:
    settings, pair = tmp_path / ".env", Pair(tmp_path)
    settings.write_text("ACCESS_TOKEN=the-token-of-before\n")
    bridge = await start("--workers", workers)
    restart = ["restart", "--port", bridge.url.rpartition(":")[2]]
    settings.write_text("ACCESS_TOKEN=the-token-of-now\n")
    code, _, err = await run(tmp_path, *restart)
    assert (code, "MCP_BRIDGE_TOKEN=... mcp-bridge restart" in err) == (1, True), err
    assert err.endswith(f"or on its machine: kill -USR2 {bridge.first.pid}\n")
    code, out, err = await run(tmp_path, *restart, MCP_BRIDGE_TOKEN="the-token-of-before")
    assert (code, err, out.startswith(f"restarted: {bridge.first.pid} ")) == (0, "", True)
    await bridge.old_has_ended()
    assert (await run(tmp_path, "ps", *restart[1:]))[0] == 0, "the token of now"
    [new] = bridge.serving()
    settings.write_text(f"ACCESS_TOKEN=the-token-of-now\nSSL_CERTFILE={pair.cert}\nSSL_KEYFILE={pair.key}\n")
    code, _, err = await run(tmp_path, *restart)
    assert (code, err.endswith(f"unset since it started, kill -USR2 {new.pid} restarts it\n")) == (3, True), err
    new.send_signal(signal.SIGUSR2)
    await bridge.served.line_with(f"takes over from {new.pid}")
    assert (await run(tmp_path, "ps", *restart[1:]))[0] == 0, "https"


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("how", ["SIGUSR1", "/api/v1/drain"])
async def test_a_drain_waits_for_the_sessions_of_both(start: Start, workers: str, how: str) -> None:
    bridge = await start("--workers", workers)
    session = await bridge.session()
    assert (await session.call("count"))["result"]["count"] == 1
    await bridge.restart()
    if how == "SIGUSR1":
        bridge.served.process.send_signal(signal.SIGUSR1)
    else:
        async with aiohttp.ClientSession() as http, http.post(bridge.url + how) as response:
            assert response.status == 202
    for _ in range(int(workers)):
        await bridge.served.line_with("draining: no new sessions")
    async with aiohttp.ClientSession() as http:
        async with http.post(f"{bridge.url}/mcp/peer", json=message("initialize", 0, **INITIALIZE)) as response:
            assert response.status == 503
        there = Session(http, session.url, session.id, session.greeting)
        assert (await there.call("count"))["result"]["count"] == 2
        async with there.delete() as response:
            assert response.status == 204
    await bridge.served.line_with("drained: every session has ended")
    assert "the bridge before this one has gone" in "".join(bridge.served.lines)
    async with in_time():
        assert await bridge.served.process.wait() == 0
    await bridge.nothing_is_left()


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_signal_that_comes_when_the_event_loop_has_ended_is_passed_on(
    start: Start, tmp_path: Path, workers: str
) -> None:
    """The first process, which is held just before it becomes one that only waits."""
    reached, gate, root = tmp_path / "reached", tmp_path / "gate", Path(__file__).parent.parent.parent
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, time\nblock = signal.pthread_sigmask\n"
        "def held(how, mask):\n"
        f"    open({str(reached)!r}, 'w').close()\n"
        f"    while len(mask) > 3 and not os.path.exists({str(gate)!r}):\n        time.sleep(0.01)\n"
        "    return block(how, mask)\n"
        "signal.pthread_sigmask = held\n"
    )
    bridge = await start("--workers", workers, PYTHONPATH=f"{tmp_path}:{root}")
    new = await bridge.restart()
    await until(reached.exists, "the old bridge lives", 30)
    bridge.served.process.send_signal(signal.SIGTERM)
    await until(lambda: not lives(new), "the new bridge goes on", 30)
    gate.touch()
    async with in_time():
        assert await bridge.served.process.wait() == 0
    await bridge.nothing_is_left()


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_what_was_stopped_stays_stopped(start: Start, tmp_path: Path, workers: str) -> None:
    """The new bridge starts no process of it, whether that was before it was there or while it came."""
    gate, root = tmp_path / "gate", Path(__file__).parent.parent.parent
    (tmp_path / "sitecustomize.py").write_text(
        f"import os, time\nwhile {HEIR!r} in os.environ and not os.path.exists({str(gate)!r}):\n    time.sleep(0.01)\n"
    )
    servers = {name: peer(sharing={"warm": 1}) for name in ("before", "meanwhile", "again", "never")}
    bridge = await start("--workers", workers, servers=servers, PYTHONPATH=f"{tmp_path}:{root}")

    async def do(verb: str, server: str) -> None:
        async with bridge.http.post(f"{bridge.url}/api/v1/servers/{server}/{verb}") as response:
            assert response.status == 200

    await do("stop", "before")
    await do("stop", "again")
    asked = asyncio.create_task(bridge.ask())
    await until(lambda: bool(bridge.serving()), "no new bridge")
    await do("stop", "meanwhile")
    await do("start", "again")
    gate.touch()
    assert (await asked)[0] == 200
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{bridge.url}/servers") as response:
            states = {row["id"]: row["state"] for row in await response.json()}
        assert (states.pop("before"), states.pop("meanwhile")) == ("stopped", "stopped")
        assert "stopped" not in states.values()
    assert "".join(bridge.served.lines).count("server before: started child") <= int(workers)
    await bridge.end()


async def test_sessions_end_when_patience_does(start: Start) -> None:
    bridge = await start()
    session = await bridge.session()
    await bridge.http.close()
    await bridge.restart(0)
    await bridge.old_has_ended()
    async with aiohttp.ClientSession() as http, Session(http, session.url, session.id, {}).post(tool("echo")) as found:
        assert found.status == 404
    await bridge.end()


async def test_only_the_first_process_waits_however_often_it_is_restarted(start: Start) -> None:
    bridge = await start()
    gone = "the bridge before this one has gone"
    for number in range(3):
        bridge.first.send_signal(signal.SIGUSR2)
        await bridge.served.line_with("takes over from")
        bridge.look()
        await bridge.old_has_ended()
        if sum(gone in line for line in bridge.served.lines) <= number:  # two processes write, in any order
            await bridge.served.line_with(gone)
        await until(lambda: len(bridge.serving()) == 1, "the one between lives", 30)
        session = await bridge.session()
        assert (await session.call("count"))["result"]["count"] == 1
        async with session.delete() as response:
            assert response.status == 204
        await bridge.http.close()
        bridge.http = aiohttp.ClientSession()
    (bridge.folder / "servers.json").write_text(json.dumps({"mcpServers": {"peer": peer(), "late": peer()}}))
    bridge.first.send_signal(signal.SIGHUP)
    await bridge.served.line_with("configuration read again")
    await bridge.end()


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_only_a_bridge_of_its_own_is_told_that_its_logs_mix(start: Start, serve: Serve, workers: str) -> None:
    bridge = await start("--workers", workers)
    await bridge.restart()
    await bridge.old_has_ended()
    other = await serve()
    said = "[WARNING] LOG_DIR: another bridge writes to logs too; set another LOG_DIR for one"
    assert said in "".join(other.lines)
    assert await other.stop() == 0
    await bridge.end()
    assert "LOG_DIR" not in "".join(bridge.served.lines)


async def test_the_first_process_ends_as_the_newest_bridge_does(start: Start) -> None:
    bridge = await start()
    new = await bridge.restart()
    await bridge.old_has_ended()
    new.kill()
    assert await bridge.served.process.wait() == 128 + signal.SIGKILL
    await bridge.nothing_is_left()


async def answered(session: Session) -> dict[str, Any]:
    """Call until there is a result: connections to what was killed end, and while nobody knows yet who is missing,
    clients are told to try again.
    """
    async with in_time():
        while True:
            with contextlib.suppress(aiohttp.ClientConnectionError):
                async with session.post(tool("count")) as response:
                    found = await last(response)
                if response.status == 200 and "result" in found:
                    return found
                assert response.status in (502, 503), found


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_the_old_bridge_goes_on_when_the_new_one_is_killed(start: Start, workers: str) -> None:
    bridge = await start("--workers", workers, servers=KEPT, SESSION_STORE="file")
    kept = await bridge.session()
    temporary = [await bridge.session() for _ in range(2)]
    for session in temporary:
        async with bridge.http.patch(
            f"{bridge.url}/api/v1/sessions/{session.id}", json={"persistent": False}
        ) as response:
            assert response.status == 200
    new = await bridge.restart()
    await until(lambda: new.is_running(), "it has gone")
    new.kill()
    await bridge.served.line_with("the new bridge has died")
    async with aiohttp.ClientSession() as http:
        for session in (*temporary, kept):
            assert (await answered(Session(http, session.url, session.id, {})))["result"]["count"] == 1
    assert (await (await bridge.session()).call("count"))["result"]["count"] == 1
    await bridge.end()


async def test_workers_that_do_not_listen_yet_end_with_their_parent(start: Start) -> None:
    bridge = await start("--workers", "2")
    bridge.look()
    before = set(bridge.seen)
    asking = asyncio.create_task(bridge.ask())

    def workers() -> list[psutil.Process]:
        return [each for parent in bridge.serving() if parent not in before for each in parent.children()]

    await until(lambda: len(workers()) == 2, "no new workers")
    bridge.first.suspend()  # so that nobody is told to listen
    await until(lambda: all(each.children() for each in workers()), "the new workers do not know who they are")
    coming = workers()
    coming[0].parent().kill()
    await until(lambda: not any(lives(each) for each in coming), "workers are left")
    bridge.first.resume()
    await asking
    assert (await (await bridge.session()).call("count"))["result"]["count"] == 1
    await bridge.end()


@pytest.mark.parametrize("variable", [VARIABLE, HEIR])
async def test_a_process_whose_bridge_ended_before_it_said_anything_ends_in_a_line(
    tmp_path: Path, variable: str
) -> None:
    said = await run(tmp_path, "serve", **{variable: "1"})
    assert said == (1, "", "mcp-bridge: the bridge that has started this process has ended\n")


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_the_new_bridge_goes_on_when_the_old_one_is_killed(start: Start, workers: str) -> None:
    bridge = await start("--workers", workers, servers=KEPT, SESSION_STORE="file")
    session = await bridge.session()
    waiting = asyncio.create_task(session.call("wait", key="k"))
    while "error" in await session.call("say", key="k", progress=1):
        pass
    new = await bridge.restart()
    bridge.served.process.kill()
    with pytest.raises((aiohttp.ClientError, AssertionError, KeyError)):
        (await waiting)["result"]
    async with aiohttp.ClientSession() as http:
        over = Session(http, session.url, session.id, {})
        assert (await answered(over))["result"]["count"] == 1
    new.terminate()
    await bridge.nothing_is_left()


async def test_the_manager_hears_who_counts(start: Start, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        loop = asyncio.get_running_loop()
        bridge = await start(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="200000", WATCHDOG_PID=str(-1))
        said = [(await loop.sock_recv(manager, 1000)).decode()]
        new = await bridge.restart()
        async with in_time():
            while said.count("WATCHDOG=1") < 2:
                said.append((await loop.sock_recv(manager, 1000)).decode())
        ready = f"READY=1\nSTATUS=listens on {bridge.url}"
        assert [line for line in said if line != "WATCHDOG=1"] == [ready, f"MAINPID={new.pid}", ready]
        # And it does not wait for the new one, as asyncio's ``wait`` may: stderr is a pipe that both have.
        await until(lambda: bridge.served.process.returncode is not None, "the old bridge lives")
        assert bridge.served.process.returncode == 0
        assert (await (await bridge.session()).call("count"))["result"]["count"] == 1
        os.kill(new.pid, signal.SIGTERM)
        await bridge.nothing_is_left()
