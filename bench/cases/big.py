"""An answer of 50 MB: how long it takes, what it takes in memory, and what another session notices meanwhile."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from bench import mcp
from bench.load import LoadError, load, running
from bench.peers import SUPERGATEWAY
from bench.report import Table
from bench.series import number
from bench.servers import Server, ServerFailed, bridge
from bench.suite import Suite

MB = 1024 * 1024
SIZE = 50 * MB
#: Seconds between two calls of the other session, over so many connections.
INTERVAL, CONNECTIONS = 0.005, 32


@dataclass(frozen=True)
class Move:
    """One large answer: seconds, growth of resident memory in bytes, latencies of the other session in ms."""

    seconds: float
    growth: int
    p99: float
    worst: float


def run(suite: Suite) -> None:
    """Move it through each; the peers, which may take very long, once."""
    note = (
        f"One session fetches 50 MB while another makes a call every {INTERVAL * 1000:g} ms; those that should have "
        "begun while the bridge stood still count as late. Growth is the highest resident memory above that before."
    )
    table = Table("An answer of 50 MB", note, ("", "seconds", "growth MB", "other session p99 ms", "worst ms"))
    peers = [peer.serve() for peer in suite.peers() if peer is not SUPERGATEWAY]
    with suite.serve(bridge(), *peers) as servers:
        for server in servers:
            suite.say(f"big: {server.name}")
            moves = _moves(suite, server, suite.rounds if server.name == "bridge" else 1)
            if not moves:
                table.rows.append((server.name, "failed", "", "", ""))
                continue
            seconds = statistics.median(move.seconds for move in moves)
            growth = max(move.growth for move in moves)
            p99 = statistics.median(move.p99 for move in moves)
            worst = max(move.worst for move in moves)
            table.rows.append((server.name, *map(number, (seconds, growth / MB, p99, worst))))
            if server.name == "bridge":
                suite.see("big.time", seconds)
                suite.see("big.memory", growth / SIZE)
                suite.see("big.others", p99)
    suite.table(table)


def _moves(suite: Suite, server: Server, times: int) -> list[Move]:
    moves: list[Move] = []
    try:
        large = mcp.request(server.path, mcp.call("give", bytes=SIZE), server.session())
        small = mcp.request(server.path, mcp.ECHO, server.session())
        for _ in range(times):
            moves.append(_move(server, large, small))
    except (LoadError, ServerFailed, OSError) as problem:
        suite.note(f"an answer of 50 MB through {server.name}: {problem}")
    return moves


def _move(server: Server, large: bytes, small: bytes) -> Move:
    with running(server.port, [[small]] * CONNECTIONS, seconds=3600, warmup=0.1, interval=INTERVAL) as other:
        other.wait_counting()
        before = server.rss()
        server.forget_peak()
        moved = load(server.port, [[large]], seconds=0, least=SIZE)
        growth = server.peak() - before
        other.stop()
        noticed = other.result()
    return Move(moved.p50 / 1000, growth, noticed.p99, noticed.worst)
