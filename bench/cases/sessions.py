"""Fifty sessions with a process each, against one session, with as much in flight."""

from __future__ import annotations

import itertools

from bench import mcp
from bench.peers import QUIET_SUPERGATEWAY
from bench.series import rate, ratio
from bench.servers import Server, bridge
from bench.suite import Contender, Suite, comparison

SESSIONS = 50
IN_FLIGHT = 64


def run(suite: Suite) -> None:
    """Compare."""
    peers = [peer.serve() for peer in suite.peers(QUIET_SUPERGATEWAY)]
    with suite.serve(bridge(), *peers) as servers:
        contenders = [_over(server, sessions) for server in servers for sessions in (1, SESSIONS)]
        found = suite.compare(contenders)
    note = "64 in flight over one session, and over 50 sessions with a process of their own each."
    suite.table(comparison("Fifty sessions", note, found, "bridge, 50 sessions"))
    suite.see("sessions.50", ratio(found["bridge, 50 sessions"], found["bridge, 1 session"], rate))


def _over(server: Server, sessions: int) -> Contender:
    requests = [mcp.request(server.path, mcp.ECHO, server.session()) for _ in range(sessions)]
    name = f"{server.name}, {sessions} session{'s' if sessions > 1 else ''}"
    return Contender.of(server, list(itertools.islice(itertools.cycle(requests), IN_FLIGHT)), name=name)
