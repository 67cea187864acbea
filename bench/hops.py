"""What a hop costs: the same calls of the same session, over the worker that holds it and over the other one.

``python -m bench.hops [ROUNDS]``. Latency is the median of one call at a time; CPU is what both workers spend on a call
with 16 of them in flight. The two ways take turns, so that a machine which is busy is busy for both.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from bench import child

CALLS = 400
IN_FLIGHT = 16
INITIALIZE = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
HEADERS = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


def _message(method: str, **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()


CALL = _message("tools/call", name="echo", arguments={"text": "x" * 60})


class Way:
    """One worker as a client, for one session."""

    def __init__(self, socket: Path) -> None:
        self.http = aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket), limit=0), headers=HEADERS)
        self.session = ""

    async def post(self, body: bytes) -> str:
        headers = {"Mcp-Session-Id": self.session} if self.session else {}
        async with self.http.post("http://localhost/mcp/bench", data=body, headers=headers) as response:
            await response.read()
            assert response.status == 200, await response.text()
            return response.headers["Mcp-Session-Id"]


async def latencies(way: Way) -> list[float]:
    """Milliseconds of calls one after another."""
    found = []
    for _ in range(CALLS):
        begun = time.perf_counter()
        await way.post(CALL)
        found.append((time.perf_counter() - begun) * 1000)
    return found


async def cpu(way: Way, workers: list[psutil.Process]) -> float:
    """Microseconds of processor that the workers spend on a call."""
    before = _spent(workers)
    in_flight = asyncio.Semaphore(IN_FLIGHT)

    async def one() -> None:
        async with in_flight:
            await way.post(CALL)

    await asyncio.gather(*(one() for _ in range(CALLS * 5)))
    return (_spent(workers) - before) / (CALLS * 5) * 1e6


def _spent(workers: list[psutil.Process]) -> float:
    return sum(each.cpu_times().user + each.cpu_times().system for each in workers)


async def measure(w1: Path, w2: Path, parent: int, rounds: int) -> None:
    """Print what a call costs over either worker."""
    workers = [each for each in psutil.Process(parent).children() if "bridge" in each.cmdline()]
    here, there = Way(w1), Way(w2)
    while not here.session.startswith("w1."):
        here.session = ""
        here.session = await here.post(_message("initialize", **INITIALIZE))
    there.session = here.session
    times: dict[str, list[float]] = {"direct": [], "hop": []}
    costs: dict[str, list[float]] = {"direct": [], "hop": []}
    for _ in range(rounds):
        for name, way in (("direct", here), ("hop", there)):
            times[name] += await latencies(way)
            costs[name].append(await cpu(way, workers))
    for name in times:
        print(f"{name:7} {statistics.median(times[name]):.3f} ms  {statistics.median(costs[name]):.0f} us CPU")
    added = statistics.median(times["hop"]) - statistics.median(times["direct"])
    factor = statistics.median(costs["hop"]) / statistics.median(costs["direct"])
    print(f"a hop adds {added:.3f} ms and costs {factor:.2f} times the CPU")
    for way in (here, there):
        await way.http.close()


def main() -> None:
    """Start a bridge with two workers and measure it."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory(prefix="b", dir="/tmp") as folder:
        servers = {"bench": {"command": sys.executable, "args": ["-I", "-S", child.__file__]}}
        (Path(folder) / "servers.json").write_text(json.dumps(servers))
        process = subprocess.Popen(
            [sys.executable, "-m", "bridge", "serve", "--port", "0", "--workers", "2"],
            cwd=folder,
            env={"PYTHONPATH": str(Path(__file__).parent.parent), "TMPDIR": folder, "LOG_LEVEL": "INFO"},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        try:
            next(line for line in process.stderr if " listens on " in line)
            w1, w2 = (next(Path(folder).glob(f"*/{name}.*")) for name in ("w1", "w2"))
            asyncio.run(measure(w1, w2, process.pid, rounds))
        finally:
            process.terminate()
            process.communicate()


if __name__ == "__main__":
    main()
