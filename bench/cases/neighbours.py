"""What one client notices of another that floods the bridge, or that asks for much and never reads it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from bench import mcp
from bench.load import Load, LoadError, running
from bench.peers import SUPERGATEWAY
from bench.report import Table
from bench.series import number
from bench.servers import Server, ServerFailed, bridge
from bench.suite import Suite

#: Seconds between two calls of the client that is watched, over so many connections.
INTERVAL, CONNECTIONS = 0.005, 32
FLOODING = 64
#: What the stalling client asks for: 50 MB in notifications of 1 KB.
NOTES, NOTE_BYTES = 50_000, 1000

Trouble = Callable[[Server], AbstractContextManager[None]]


def run(suite: Suite) -> None:
    """Watch one client of each server, alone and with either neighbour."""
    note = (
        f"A client with a session of its own makes a call every {INTERVAL * 1000:g} ms, alone, beside {FLOODING} calls "
        "in flight of one other session, and beside a client that asks for 50 MB of notifications and reads none. "
        "Growth is of the bridge's resident memory while that client stalls."
    )
    header = ("", "alone p50 ms", "p99 ms", "flood p50 ms", "p99 ms", "stall p50 ms", "p99 ms", "growth MB")
    table = Table("Neighbours", note, header)
    peers = [peer.serve() for peer in suite.peers() if peer is not SUPERGATEWAY]
    with suite.serve(bridge(), *peers) as servers:
        for server in servers:
            suite.say(f"neighbours: {server.name}")
            try:
                table.rows.append((server.name, *_row(suite, server)))
            except (LoadError, ServerFailed, OSError) as problem:
                suite.note(f"neighbours on {server.name}: {problem}")
    suite.table(table)


def _row(suite: Suite, server: Server) -> list[str]:
    seconds = 1.0 if suite.quick else 4.0
    alone = _watch(server, seconds, _nobody)
    flooded = _watch(server, seconds, _flood)
    server.forget_peak()
    before = server.rss()
    stalled = _watch(server, seconds, _stall)
    growth = (server.peak() - before) / 1024 / 1024
    return [number(value) for each in (alone, flooded, stalled) for value in (each.p50, each.p99)] + [number(growth)]


def _watch(server: Server, seconds: float, trouble: Trouble) -> Load:
    """The latencies of a client beside trouble."""
    request = mcp.request(server.path, mcp.ECHO, server.session())
    with trouble(server), running(server.port, [[request]] * CONNECTIONS, seconds=seconds, interval=INTERVAL) as run:
        run.wait_counting()
        return run.result()


@contextlib.contextmanager
def _nobody(server: Server) -> Iterator[None]:
    yield


@contextlib.contextmanager
def _flood(server: Server) -> Iterator[None]:
    request = mcp.request(server.path, mcp.ECHO, server.session())
    with running(server.port, [[request]] * FLOODING, seconds=3600) as flood:
        flood.wait_counting()
        yield


@contextlib.contextmanager
def _stall(server: Server) -> Iterator[None]:
    notes = mcp.with_meta(mcp.call("notes", count=NOTES, bytes=NOTE_BYTES), {"progressToken": "stalls"})
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(mcp.request(server.path, notes, server.session()))
        yield
