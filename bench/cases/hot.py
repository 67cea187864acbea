"""A small call, 1, 8 and 64 in flight: beside aiohttp alone and beside other bridges."""

from __future__ import annotations

from bench import mcp
from bench.peers import FASTMCP, NODE, PEERS, PYTHON, SUPERGATEWAY
from bench.report import Table
from bench.series import Series, difference, loader_cpu, number, p50, p99, rate, ratio, spread
from bench.servers import Server, bare, bridge
from bench.suite import Contender, Suite, comparison, unchecked

BARE = "aiohttp web.Server"
IN_FLIGHT = (1, 8, 64)
#: Which ratio answers which target.
AGAINST = {NODE.name: "node", SUPERGATEWAY.name: "supergateway", PYTHON.name: "python", FASTMCP.name: "fastmcp"}


def run(suite: Suite) -> None:
    """Compare."""
    peers = [peer.serve() for peer in suite.peers()]
    with suite.serve(bare("server", BARE), bare("application", "aiohttp web.Application"), bridge(), *peers) as servers:
        requests = [_request(server) for server in servers]
        for in_flight in IN_FLIGHT:
            suite.say(f"hot: {in_flight} in flight")
            contenders = [
                Contender.of(server, [request] * in_flight) for server, request in zip(servers, requests, strict=True)
            ]
            found = suite.compare(contenders)
            note = (
                f"One session, {in_flight} in flight, 100 bytes there and back."
                if in_flight > 1
                else ("One session, one call after the other: what a client waits for.")
            )
            suite.table(comparison(f"A small call, {in_flight} in flight", note, found, "bridge"))
            _judge(suite, in_flight, found)
    _ceiling(suite)


def _request(server: Server) -> bytes:
    if server.name.startswith("aiohttp"):
        return mcp.request(server.path, unchecked(mcp.ECHO))
    return mcp.request(server.path, mcp.ECHO, server.session())


def _judge(suite: Suite, in_flight: int, found: dict[str, Series]) -> None:
    ours = found["bridge"]
    peers = [found[peer.name] for peer in PEERS if peer.name in found]
    if in_flight == 1:
        suite.see("hot.added", difference(ours, found[BARE], p50))
        if peers:
            best = min(difference(peer, found[BARE], p50) for peer in peers)
            suite.note(f"1 in flight: the best peer adds {number(best)} ms to aiohttp's own POST")
    if in_flight == 64:
        suite.results.bars = [(name, series.median(rate)) for name, series in found.items()]
        suite.see("hot.bare", ratio(ours, found[BARE], rate))
        for peer in peers:
            if peer.name in AGAINST:
                suite.see(f"hot.{AGAINST[peer.name]}", ratio(ours, peer, rate))
        if peers:
            suite.see("hot.p99", max(ratio(ours, peer, p99) for peer in peers))


def _ceiling(suite: Suite) -> None:
    """What the load generator itself can do: it must be well above everything that is measured with it."""
    with suite.serve(bare("raw", "a socket that always answers"), bare("server", BARE)) as servers:
        contenders = [Contender.of(each, [mcp.request(each.path, unchecked(mcp.ECHO))] * 64) for each in servers]
        found = suite.compare(contenders)
    table = Table(
        "The load generator itself",
        "64 in flight. Behind the socket is no HTTP server at all, so that this is the load generator's own limit; its "
        "processor time per call is what it takes from the machine while it measures.",
        ("", "calls/s", "spread", "CPU of the generator us/call"),
    )
    for name, series in found.items():
        shown = (number(series.median(rate)), spread(series.values(rate)), number(series.median(loader_cpu)))
        table.rows.append((name, *shown))
    suite.table(table)
