"""Answers as event streams: a progress notification comes before each."""

from __future__ import annotations

from bench import mcp
from bench.peers import PEERS
from bench.series import rate, ratio
from bench.servers import Server, bridge
from bench.suite import Contender, Suite, comparison

IN_FLIGHT = 64
#: Bytes of the two events of an answer; a peer below it has lost the notification.
BOTH = 250


def run(suite: Suite) -> None:
    """Compare."""
    with suite.serve(bridge(), *[peer.serve() for peer in suite.peers()]) as servers:
        found = suite.compare([_contender(server) for server in servers])
    note = (
        "64 in flight; each call has a progress token and its tool sends one notification before it answers. Peers "
        "that lose the notification answer all the same and count."
    )
    suite.table(comparison("Answers as event streams", note, found, "bridge"))
    peers = [found[peer.name] for peer in PEERS if peer.name in found]
    if peers:
        suite.see("events.best", min(ratio(found["bridge"], peer, rate) for peer in peers))


def _contender(server: Server) -> Contender:
    session = server.session()
    noted = mcp.call("notes", count=1, bytes=20)
    requests = [
        mcp.request(server.path, mcp.with_meta(noted, {"progressToken": f"token-{i}"}), session)
        for i in range(IN_FLIGHT)
    ]
    return Contender.of(server, requests, BOTH if server.name == "bridge" else 0)
