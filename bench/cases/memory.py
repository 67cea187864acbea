"""Resident memory and idle cost: at rest, with 50 and 1 000 live sessions, with sessions that are only kept."""

from __future__ import annotations

import contextlib
import itertools
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from bench import mcp
from bench.peers import SUPERGATEWAY
from bench.report import Table
from bench.series import number
from bench.servers import Server, bridge, entry
from bench.suite import Suite

KB, MB = 1024, 1024 * 1024
FEW, MANY = 50, 1000
#: Kept sessions, and how many of them are opened at a time.
KEPT, WAVE = 2000, 100
#: Descriptors that MANY sessions need: pipes, pidfd and a stream each, and some.
DESCRIPTORS = MANY * 6 + 500
#: What ``mcp-bridge serve`` imports.
IMPORTED = "import bridge.cli.main, bridge.cli.serve"
#: What of that is not ours.
LIBRARIES = "import aiohttp.web, msgspec, psutil, uvloop"


def run(suite: Suite) -> None:
    """Measure the bridge in each state, and peers where they have it."""
    _raise_limit()
    _import_time(suite)
    table = Table(
        "Memory",
        "Resident memory of the bridge's own process in MB; each session has a process of its own in the bridge and in "
        "supergateway, and shares one in the others.",
        ("", "at rest", f"{FEW} sessions"),
    )
    peers = [peer.serve() for peer in suite.peers() if peer is not SUPERGATEWAY]
    with suite.serve(bridge(env={"MAX_CHILDREN": str(MANY + 100)}), *peers) as servers:
        time.sleep(1)
        for server in servers:
            rest = server.rss()
            sessions = [_used_session(server) for _ in range(FEW)]
            table.rows.append((server.name, number(rest / MB), number(server.rss() / MB)))
            if server.name == "bridge":
                suite.see("memory.rest", rest / MB)
                suite.see("memory.50", server.rss() / MB)
                _many(suite, server, sessions)
    suite.table(table)
    _kept(suite)


def _raise_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < DESCRIPTORS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS, hard), hard))


def _used_session(server: Server) -> dict[str, str]:
    """A session in which a call has been made."""
    session = server.session()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(mcp.request(server.path, mcp.ECHO, session))
        connection.recv(65536)
    return session


def _import_time(suite: Suite) -> None:
    def once(code: str) -> float:
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - begun

    def median(code: str) -> float:
        return statistics.median(once(code) - once("pass") for _ in range(3 if suite.quick else 15))

    once(IMPORTED)
    suite.see("import.time", median(IMPORTED))
    suite.note(f"importing aiohttp, msgspec, psutil and uvloop alone takes {median(LIBRARIES):.2f} s")


def _many(suite: Suite, server: Server, sessions: list[dict[str, str]]) -> None:
    suite.say(f"memory: {MANY} sessions")
    few = server.rss()
    sessions += [_used_session(server) for _ in range(MANY - FEW)]
    many = server.rss()
    seconds = 3.0 if suite.quick else 20.0
    idle = _cpu_share(server, seconds)
    with _streams(server, sessions):
        streaming = server.rss()
        idle_streaming = _cpu_share(server, seconds)
    suite.see("memory.live", (many - few) / (MANY - FEW) / KB)
    table = Table(
        f"{MANY} live sessions",
        f"Each with a process of its own and one call behind it, idle for {seconds:g} s; then each with an open GET "
        "stream as well, which gets a comment every 15 s.",
        ("", "memory MB", "per session KB", "processor %"),
    )
    for name, memory, cpu in (("sessions", many, idle), ("sessions with a stream", streaming, idle_streaming)):
        table.rows.append((name, number(memory / MB), number((memory - few) / (MANY - FEW) / KB), number(cpu)))
    suite.table(table)


def _cpu_share(server: Server, seconds: float) -> float:
    before = server.cpu()
    time.sleep(seconds)
    return (server.cpu() - before) / seconds * 100


@contextlib.contextmanager
def _streams(server: Server, sessions: Sequence[dict[str, str]]) -> Iterator[None]:
    """Hold a GET stream open for each session."""
    with contextlib.ExitStack() as stack:
        for session in sessions:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            connection.sendall(mcp.request(server.path, None, session, "GET"))
            head = connection.recv(4096)
            if b" 200 " not in head[:20]:
                raise RuntimeError(f"a GET stream was refused: {head[:200]!r}")
        yield


def _kept(suite: Suite) -> None:
    suite.say(f"memory: {KEPT} kept sessions without a child")
    env = {"MAX_CHILDREN": str(2 * WAVE), "MAX_SESSIONS": str(KEPT + 100)}
    with bridge(servers={"bench": entry(idleStopMs=200)}, env=env) as server:
        seen = []
        for _ in range(KEPT // WAVE):
            for _ in range(WAVE):
                _used_session(server)
            _wait_childless(server)
            seen.append(server.rss())
    half = len(seen) // 2  # the first half also pays for what many children need at once
    per_kept = (seen[-1] - seen[half - 1]) / (WAVE * (len(seen) - half))
    table = Table("Kept sessions", "Idle sessions whose process has been stopped.", ("", "memory MB", "per session KB"))
    table.rows.append((f"{KEPT} kept sessions", number(seen[-1] / MB), number(per_kept / KB)))
    suite.table(table)
    suite.see("memory.kept", per_kept / KB)


def _wait_childless(server: Server, patience: float = 60.0) -> None:
    for _ in itertools.takewhile(lambda waited: waited < patience, itertools.count(0.0, 0.05)):
        if not server.listed():
            return
        time.sleep(0.05)
    raise RuntimeError("children of idle sessions are not stopped")
