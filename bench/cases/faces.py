"""The same call on each face of the bridge: a session, the modern era, /bridge, and with a token to check."""

from __future__ import annotations

from bench import mcp
from bench.cases.hot import BARE
from bench.servers import Server, bare, bridge
from bench.suite import Contender, Suite, comparison, unchecked

TOKEN = "a-token-of-usual-length-0123456789"
PAGE = "http://localhost:3000"


def run(suite: Suite) -> None:
    """Compare."""
    with (
        bare("server", BARE) as alone,
        bridge() as plain,
        bridge(env={"ACCESS_TOKEN": TOKEN, "ALLOWED_ORIGINS": PAGE}) as guarded,
    ):
        authorization = {"Authorization": f"Bearer {TOKEN}", "Origin": PAGE}
        message, headers = mcp.modern(mcp.ECHO)
        found = suite.compare(
            [
                _sixty_four(alone, mcp.request(alone.path, unchecked(mcp.ECHO)), BARE),
                _sixty_four(plain, mcp.request(plain.path, mcp.ECHO, plain.session()), "session"),
                _sixty_four(
                    guarded,
                    mcp.request(guarded.path, mcp.ECHO, guarded.session(headers=authorization)),
                    "session, token and Origin",
                ),
                _sixty_four(plain, mcp.request(plain.path, message, headers), "modern"),
                _sixty_four(plain, mcp.request("/bridge/bench", {**mcp.bare(mcp.ECHO), "id": mcp.ID}), "/bridge"),
                _sixty_four(plain, mcp.request("/bridge/bench", mcp.bare(mcp.ECHO)), "/bridge, no id"),
            ]
        )
    note = (
        "64 in flight, 100 bytes. `session` has Host checked, as every request has; `token and Origin` has "
        "`ACCESS_TOKEN` set and sends an Origin as well. `modern` is 2026-07-28: no session, an envelope per request. "
        "`no id` is how scripts write it; they get the result alone, whose id cannot be checked."
    )
    suite.table(comparison("The faces of the bridge", note, found, "session"))


def _sixty_four(server: Server, request: bytes, name: str) -> Contender:
    return Contender.of(server, [request] * 64, name=name)
