"""How long a session waits for mcp-server-time: started cold, forked from a zygote (``preload``), or kept warm.

Run it by ``python -m bench.start``. The ways are taken in turns, so that they have the same machine; the ratios of one
run mean something.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import sys
import tempfile
import time

import aiohttp
import psutil

SERVER = {"command": sys.executable, "args": ["-m", "mcp_server_time"]}
WAYS: dict[str, dict[str, object]] = {"cold": {}, "preload": {"preload": True}, "warm": {"warm": 1}}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}},
}
ACCEPT = {"Accept": "application/json, text/event-stream"}


class Bridge:
    """A running bridge and one client of it."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self._url = url
        self._http = http

    async def session(self, way: str) -> tuple[str, float]:
        """Open a session; return its id, and the seconds until ``initialize`` was answered."""
        begun = time.perf_counter()
        async with self._http.post(f"{self._url}/mcp/{way}", json=INITIALIZE) as response:
            await response.read()
            return response.headers["Mcp-Session-Id"], time.perf_counter() - begun

    async def end(self, way: str, session: str) -> None:
        """DELETE it."""
        async with self._http.delete(f"{self._url}/mcp/{way}", headers={"Mcp-Session-Id": session}):
            pass

    async def child(self, way: str) -> psutil.Process:
        """The newest child of a server."""
        async with self._http.get(f"{self._url}/children") as response:
            return psutil.Process(max(child["pid"] for child in await response.json() if child["server"] == way))


async def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--at-once", type=int, default=20, help="sessions that arrive together")
    options = parser.parse_args()
    servers = json.dumps({name: {**SERVER, **way} for name, way in WAYS.items()})
    with tempfile.TemporaryDirectory() as folder:
        argv = (sys.executable, "-m", "bridge", "serve", "--port", "0")
        env = {**os.environ, "MCP_SERVERS": servers}
        process = await asyncio.create_subprocess_exec(*argv, cwd=folder, env=env, stderr=asyncio.subprocess.PIPE)
        try:
            await _measure(process, options)
        finally:
            process.terminate()
            await process.wait()


async def _measure(process: asyncio.subprocess.Process, options: argparse.Namespace) -> None:
    assert process.stderr is not None
    found = None
    while found is None:
        line = (await process.stderr.readline()).decode()
        found = re.search(r"listens on (\S+)", line)
    reading = asyncio.create_task(process.stderr.read())
    async with aiohttp.ClientSession(headers=ACCEPT) as http:
        bridge = Bridge(found[1], http)
        await asyncio.sleep(5)  # the zygote imports, the warm child starts
        times: dict[str, list[float]] = {way: [] for way in WAYS}
        own: dict[str, int] = {}
        for _ in range(options.rounds):
            for way, taken in times.items():
                session, seconds = await bridge.session(way)
                taken.append(seconds)
                own[way] = (await bridge.child(way)).memory_full_info().uss
                await bridge.end(way, session)
                await asyncio.sleep(2)  # its replacement starts
        _print(times, own)
        for way in ("cold", "preload"):
            await _crowd(bridge, way, options.at_once)
    reading.cancel()


async def _crowd(bridge: Bridge, way: str, number: int) -> None:
    opened = await asyncio.gather(*(bridge.session(way) for _ in range(number)))
    times = sorted(seconds * 1000 for _, seconds in opened)
    print(f"{number} at once, {way:8} median {statistics.median(times):7.0f} ms, last {times[-1]:7.0f} ms")
    await asyncio.gather(*(bridge.end(way, session) for session, _ in opened))


def _print(times: dict[str, list[float]], own: dict[str, int]) -> None:
    cold = statistics.median(times["cold"])
    print(f"{'':8}{'median ms':>10}{'min':>8}{'max':>8}{'x faster':>10}{'own MB':>8}")
    for way, taken in times.items():
        median = statistics.median(taken)
        print(
            f"{way:8}{median * 1000:10.1f}{min(taken) * 1000:8.1f}{max(taken) * 1000:8.1f}"
            f"{cold / median:10.1f}{own[way] / 1e6:8.1f}"
        )


if __name__ == "__main__":
    asyncio.run(main())
