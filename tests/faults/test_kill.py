"""``kill -9`` of the bridge: nothing of it is left soon after, whatever its children ignore."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterable
from typing import Any

import aiohttp
import psutil
import pytest

from bridge.process.watchdog import MARK
from tests.cli.conftest import Serve, Served, http, initialize, serve  # noqa: F401 - fixtures
from tests.conftest import PATIENCE, PEERS, last, peer, tool

STUBBORN = {
    "stubborn": {"command": sys.executable, "args": ["-I", "-S", str(PEERS / "stubborn.py")]},
    "forked": {"command": sys.executable, "args": ["-I", "-S", str(PEERS / "stubborn.py"), "--fork"]},
    "peer": peer(),
}


def marked(by: int) -> list[psutil.Process]:
    """What carries the mark of a bridge, wherever it is now."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK, "").startswith(f"{by}.") and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def living(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    found = []
    for process in processes:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


async def test_kill_9_leaves_nothing(serve: Serve, http: aiohttp.ClientSession) -> None:  # noqa: F811
    served = await serve(servers=STUBBORN)
    for server in STUBBORN:
        await initialize(http, f"{served.url}/mcp/{server}")
    below = psutil.Process(served.process.pid).children(recursive=True)
    everything = {*below, *marked(served.process.pid)}
    assert len(marked(served.process.pid)) == 8  # three children, and five that two of them have started
    served.process.send_signal(signal.SIGKILL)
    await served.process.wait()
    _, left = await asyncio.to_thread(psutil.wait_procs, everything, PATIENCE)  # the watchdog too
    assert living(left) == []
    assert marked(served.process.pid) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_orderly_end_leaves_nothing_of_stubborn_children_and_ends_calls_and_streams(
    serve: Serve,  # noqa: F811
    http: aiohttp.ClientSession,  # noqa: F811
    number: signal.Signals,
) -> None:
    served = await serve(servers=STUBBORN, SHUTDOWN_TIMEOUT_MS="100")
    sessions = {server: await initialize(http, f"{served.url}/mcp/{server}") for server in STUBBORN}
    everything = {*psutil.Process(served.process.pid).children(recursive=True), *marked(served.process.pid)}
    async with http.get(f"{served.url}/mcp/peer", headers=sessions["peer"]) as stream:
        calls = [
            asyncio.create_task(_answer(http, f"{served.url}/mcp/{server}", sessions[server])) for server in STUBBORN
        ]
        while await _open_calls(http, served) < len(calls):
            pass
        assert await served.stop(number) == 0
        assert [(await call)["id"] for call in calls] == ["mine"] * len(calls)
        await stream.content.read()  # to its end
    assert living(everything) == []
    assert marked(served.process.pid) == []
    assert "Traceback" not in "".join(served.lines)


async def _open_calls(http: aiohttp.ClientSession, served: Served) -> int:  # noqa: F811
    async with http.get(f"{served.url}/children") as response:
        return sum(row["open_calls"] for row in await response.json())


async def _answer(http: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> dict[str, Any]:  # noqa: F811
    async with http.post(url, json=tool("never", "mine"), headers=headers) as response:
        answer = await last(response)
        assert "error" in answer
        return answer


async def test_an_orderly_end_leaves_no_watchdog(serve: Serve, http: aiohttp.ClientSession) -> None:  # noqa: F811
    served = await serve(servers={"peer": peer()})
    await initialize(http, f"{served.url}/mcp/peer")
    below = psutil.Process(served.process.pid).children(recursive=True)
    assert len(below) == 2
    assert await served.stop() == 0
    assert living(below) == []


async def test_ctrl_c_does_not_reach_the_watchdog(serve: Serve) -> None:  # noqa: F811
    served = await serve(servers={"peer": peer()})
    [watchdog] = psutil.Process(served.process.pid).children()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        watchdog.send_signal(number)
    assert living([watchdog]) == [watchdog]


async def test_a_start_ends_what_an_earlier_bridge_left(serve: Serve, http: aiohttp.ClientSession) -> None:  # noqa: F811
    """What is left when a bridge and its watchdog are killed together, and nothing else."""
    for _ in range(5):  # any bridge that is started on this machine meanwhile ends them as well, and tells it elsewhere
        first = await serve(servers=STUBBORN)
        await initialize(http, f"{first.url}/mcp/stubborn")
        other = await serve()
        await initialize(http, f"{other.url}/mcp/peer")
        left, neighbours = marked(first.process.pid), marked(other.process.pid)
        assert (len(left), len(neighbours)) == (3, 1)
        for process in psutil.Process(first.process.pid).children():
            if process not in left:
                process.kill()
        first.process.send_signal(signal.SIGKILL)
        await first.process.wait()
        third = await serve()
        assert living(left) == []
        assert living(neighbours) == neighbours
        if "ended 3 process(es) that an earlier bridge had left behind" in "".join(third.lines):
            return
    pytest.fail("no start has told that it ended what was left")
