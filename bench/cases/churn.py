"""Sessions that come and go: open one with a process of its own, call once, close it."""

from __future__ import annotations

from bench import mcp
from bench.peers import QUIET_SUPERGATEWAY, SUPERGATEWAY
from bench.series import rate, ratio
from bench.servers import Server, bridge
from bench.suite import Contender, Suite, comparison

IN_FLIGHT = 8


def run(suite: Suite) -> None:
    """Compare."""
    with suite.serve(bridge(), *[peer.serve() for peer in suite.peers(SUPERGATEWAY, QUIET_SUPERGATEWAY)]) as servers:
        found = suite.compare([_contender(server) for server in servers])
    note = (
        f"{IN_FLIGHT} at a time: `initialize`, `notifications/initialized`, one call, DELETE. Both start a process for "
        "each session and end it, and answer DELETE without waiting for that: at any time about as many processes live "
        "as sessions, and none is left. The other peers share one process among all sessions."
    )
    suite.table(comparison("Sessions that come and go", note, found, "bridge", "sessions/s"))
    theirs = [found[name] for name in (SUPERGATEWAY.name, QUIET_SUPERGATEWAY.name) if name in found]
    if theirs:
        suite.see("churn.supergateway", min(ratio(found["bridge"], each, rate) for each in theirs))


def _contender(server: Server) -> Contender:
    return Contender(server.name, server, [mcp.visit(server.path)] * IN_FLIGHT)
