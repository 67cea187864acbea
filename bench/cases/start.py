"""How long `initialize` of mcp-server-time takes: cold, warm, and from a zygote."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil

from bench import mcp
from bench.load import load
from bench.report import Table
from bench.series import number, spread
from bench.servers import Server, bridge
from bench.suite import Suite

PROGRAM = ["-m", "mcp_server_time"]
TIME = {"command": "${BRIDGE_PYTHON}", "args": PROGRAM, "maxChildren": 200}
#: How each way to start is written in servers.json.
WAYS: dict[str, dict[str, Any]] = {"cold": {}, "warm": {"warm": 2}, "zygote": {"preload": True}}
#: Seconds without processor time after which a child has nothing left to import.
SETTLED = 0.4
#: Sessions that are asked for in one moment.
CROWD = 20
MB = 1024 * 1024


def run(suite: Suite) -> None:
    """Open sessions in each way, in turns; beside them the program is asked without a bridge."""
    times: dict[str, list[float]] = {way: [] for way in (*WAYS, "no bridge, cold", "no bridge, warm")}
    memory: dict[str, list[int]] = {way: [] for way in WAYS}
    rounds = 3 if suite.quick else 12
    with bridge(servers={way: {**TIME, **keys} for way, keys in WAYS.items()}) as server:
        for i in range(rounds + 1):
            found = {way: _start(server, way) for way in WAYS}
            alone = {"no bridge, cold": _alone(warm=False), "no bridge, warm": _alone(warm=True)}
            if i:  # the first of each way pays for what is done once: cold files, and starting the zygote
                for way, milliseconds in ({way: taken for way, (taken, _) in found.items()} | alone).items():
                    times[way].append(milliseconds)
                for way, (_, own) in found.items():
                    memory[way].append(own)
        suite.say(f"start: {CROWD} at once")
        crowds = {way: _crowd(server, way) for way in WAYS if way != "warm"}
    note = (
        "From the POST to its answer, as a client sees it; *no bridge* is the program itself, asked over its pipes. "
        "A *warm* child has heard ahead what its client says, because the clients before have said the same. "
        "Memory is what the new process has for itself alone (USS), once it has been greeted."
    )
    table = Table("Starting a server", note, ("", "initialize ms", "spread", "faster than cold", "own memory MB"))
    cold = statistics.median(times["cold"])
    for way, taken in times.items():
        median = statistics.median(taken)
        faster = f"{number(cold / median)}x" if way != "cold" else ""
        own_memory = number(statistics.median(memory[way]) / MB) if way in memory else ""
        table.rows.append((way, number(median), spread(taken), faster, own_memory))
        suite.see(f"start.{way}", cold / median)
    suite.table(table)
    table = Table(
        f"{CROWD} sessions at once", "All ask for a session in one moment.", ("", "half open ms", "all open ms")
    )
    for way, waited in crowds.items():
        table.rows.append((way, number(statistics.median(waited)), number(waited[-1])))
    suite.table(table)


def _start(server: Server, way: str) -> tuple[float, int]:
    """Open one session; return milliseconds, and bytes of its child's own memory."""
    _wait_settled(lambda: server.children(recursive=True))
    before = _held(server, way)
    found = load(server.port, [_opening(way)], seconds=0)
    _wait_settled(lambda: server.children(recursive=True))
    [pid] = _held(server, way) - before
    return found.p50, psutil.Process(pid).memory_full_info().uss


def _opening(way: str) -> list[bytes]:
    return [mcp.request(f"/mcp/{way}", mcp.INITIALIZE)]


def _held(server: Server, way: str) -> set[int]:
    """Process ids of the children that sessions hold: those that only wait are not among them."""
    return {row["pid"] for row in server.listed() if row["server"] == way and row["holders"]}


def _crowd(server: Server, way: str) -> list[float]:
    """Open many sessions at once; return the milliseconds that each has waited, the shortest first."""

    def visit(_: int) -> float:
        begun = time.perf_counter()
        server.session(f"/mcp/{way}")
        return (time.perf_counter() - begun) * 1000

    _wait_settled(lambda: server.children(recursive=True))
    with ThreadPoolExecutor(CROWD) as pool:
        return sorted(pool.map(visit, range(CROWD)))


def _alone(warm: bool) -> float:
    """Start the program and greet it; return milliseconds, ``warm`` from when it has nothing left to import."""
    begun = time.perf_counter()
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, *PROGRAM], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if warm:
            _wait_settled(lambda: [psutil.Process(process.pid)])
            begun = time.perf_counter()
        process.stdin.write(json.dumps(mcp.INITIALIZE).encode() + b"\n")
        process.stdin.flush()
        process.stdout.readline()
        return (time.perf_counter() - begun) * 1000


def _wait_settled(processes: Callable[[], Iterable[psutil.Process]]) -> None:
    """Return when none of them computes any longer."""
    used, since = -1.0, time.monotonic()
    while time.monotonic() - since < SETTLED:
        now = sum(sum(each.cpu_times()[:2]) for each in processes())
        if now != used:
            used, since = now, time.monotonic()
        time.sleep(0.02)
