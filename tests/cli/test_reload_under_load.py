"""The servers file is edited while many call: by verbs, by hand, broken in between. Nobody who calls a server that was
not edited notices; of the edited one no call is lost.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import psutil
import pytest

from tests.cli.conftest import Serve, Served, initialize, run
from tests.conftest import ACCEPT, PEERS, peer, tool

#: Answers that each worker must have had before, during and after each edit, so that all of it happens under load.
MEANWHILE = 5


class Load:
    """Workers that call without a pause. ``answers`` are counted by worker, ``failures`` are told in words,
    ``pids`` are those of the processes that have answered a worker.
    """

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self.pids: dict[str, set[int]] = {}
        self.last: dict[str, int] = {}
        self._answered = asyncio.Condition()

    async def of_a_session(self, name: str, server: str) -> None:
        """Call over one session, and never open another."""
        headers = await initialize(self._http, f"{self._url}/mcp/{server}")
        await self._call(name, f"/mcp/{server}", headers, lambda number: tool("pid", number))

    async def of_scripts(self, name: str, server: str) -> None:
        """Call as scripts do."""
        await self._call(name, f"/bridge/{server}", {}, lambda number: tool("pid", number))

    async def _call(self, name: str, path: str, headers: dict[str, str], body: Callable[[int], object]) -> None:
        number = 0
        while True:
            number += 1
            async with self._http.post(self._url + path, json=body(number), headers=headers) as response:
                text = await response.text()
            answer = json.loads(text) if response.content_type == "application/json" else {}
            if response.status == 200 and answer.get("id") == number and "pid" in answer.get("result", {}):
                self.last[name] = pid = answer["result"]["pid"]
                self.pids.setdefault(name, set()).add(pid)
            else:
                self.failures.append(f"{name}, call {number}: {response.status} {text[:300]}")
            async with self._answered:
                self.answers[name] += 1
                self._answered.notify_all()

    async def meanwhile(self) -> None:
        """Wait until each worker has had some more answers."""
        wanted = {name: count + MEANWHILE for name, count in self.answers.items()}
        async with self._answered:
            await self._answered.wait_for(lambda: all(self.answers[name] >= count for name, count in wanted.items()))


@pytest.fixture
async def load(serve: Serve) -> AsyncIterator[tuple[Served, Load]]:
    bridge = await serve("--watch", servers={"a": peer(), "b": peer(sharing="shared"), "edited": peer()})
    async with aiohttp.ClientSession(headers={"Accept": ACCEPT}) as http, asyncio.TaskGroup() as group:
        load = Load(http, bridge.url)
        workers = [
            *(load.of_a_session(f"a{number}", "a") for number in range(3)),
            *(load.of_a_session(f"b{number}", "b") for number in range(2)),
            *(load.of_scripts(f"script {server}", server) for server in ("a", "b")),
            load.of_a_session("edited", "edited"),
            load.of_scripts("script edited", "edited"),
        ]
        tasks = [group.create_task(work) for work in workers]
        async with load._answered:
            await load._answered.wait_for(lambda: len(load.answers) == len(workers))
        yield bridge, load
        for task in tasks:
            task.cancel()


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_no_call_fails_while_the_file_is_edited(tmp_path: Path, load: tuple[Served, Load]) -> None:
    bridge, calls = load
    port = bridge.url.rpartition(":")[2]
    file = tmp_path / "servers.json"
    peer_command = (sys.executable, "-I", "-S", str(PEERS / "peer.py"))

    async def said(words: str) -> None:
        await bridge.line_with(words)
        await calls.meanwhile()

    await calls.meanwhile()
    assert (await run(tmp_path, "add", "new", "--", *peer_command))[0] == 0
    await said("configuration read again: added new")
    good = json.loads(file.read_text())
    for mark in ("one", "two"):
        before = len(calls.pids["edited"])
        file.write_text(file.read_text()[: len(file.read_text()) // 2])  # as an editor may leave it
        await said("configuration not taken, the old one stays")
        good["mcpServers"]["edited"]["env"] = {"MARK": mark}
        file.write_text(json.dumps(good))
        await said("configuration read again: restarted edited")
        while len(calls.pids["edited"]) == before:  # its session goes on with another process
            await calls.meanwhile()
    del good["mcpServers"]["new"]["args"]
    good["mcpServers"]["new"]["command"] = 7
    file.write_text(json.dumps(good))
    await said("the server stays as it was")
    assert (await run(tmp_path, "remove", "new"))[0] == 0
    await said("removed new")
    bridge.process.send_signal(signal.SIGHUP)
    await said("configuration read again: nothing has changed")
    code, out, _ = await run(tmp_path, "servers", "reload", "--port", port)
    assert (code, "nothing" in out) == (0, True)
    await calls.meanwhile()

    assert calls.failures == []
    assert min(calls.answers.values()) > 9 * MEANWHILE
    untouched = {name: pids for name, pids in calls.pids.items() if "edited" not in name}
    assert {name: len(pids) for name, pids in untouched.items()} == dict.fromkeys(untouched, 1)
    assert len(calls.pids["edited"]) == len(calls.pids["script edited"]) == 3
    before = calls.pids["edited"] - {calls.last["edited"]}
    _, left = psutil.wait_procs([psutil.Process(pid) for pid in before if psutil.pid_exists(pid)], timeout=10)
    assert left == []
