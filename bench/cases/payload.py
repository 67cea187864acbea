"""Larger messages: an answer of 10 KB and of 1 MB, and a request of 1 MB."""

from __future__ import annotations

from bench import mcp
from bench.cases.hot import BARE
from bench.peers import PEERS
from bench.series import Series, rate, ratio
from bench.servers import Server, bare, bridge
from bench.suite import Contender, Suite, comparison, unchecked

#: Decimal, because some servers refuse bodies over 2 ** 20 bytes.
KB, MB = 1000, 1000 * 1000
IN_FLIGHT = 8


def run(suite: Suite) -> None:
    """Compare."""
    with suite.serve(bare("server", BARE), bridge(), *[peer.serve() for peer in suite.peers()]) as servers:
        sessions = {server.name: {} if server.name == BARE else server.session() for server in servers}

        def compare(title: str, least: int, message: mcp.Message, key: str | None) -> None:
            suite.say(f"payload: {title}")
            found = suite.compare([_contender(server, sessions[server.name], message, least) for server in servers])
            note = f"{IN_FLIGHT} in flight, one session."
            suite.table(comparison(title, note, found, "bridge"))
            if key is not None:
                _judge(suite, key, found)

        compare("An answer of 10 KB", 10 * KB, mcp.call("give", bytes=10 * KB), None)
        compare("An answer of 1 MB", MB, mcp.call("give", bytes=MB), "payload.answer")
        compare("A request of 1 MB", 0, mcp.call("echo", text=filler(MB)), "payload.request")


def _contender(server: Server, session: dict[str, str], message: mcp.Message, least: int) -> Contender:
    if server.name == BARE:
        return Contender.of(server, [mcp.request(f"/{least or 'mcp'}", unchecked(message))] * IN_FLIGHT, least)
    return Contender.of(server, [mcp.request(server.path, message, session)] * IN_FLIGHT, least)


def filler(size: int) -> str:
    """Text of about ``size`` bytes of JSON, with a newline every 80."""
    line = "abcdefghijklmnopqrstuvwxyz" * 3 + "\n"
    return line * (size // (len(line) + 1))


def _judge(suite: Suite, key: str, found: dict[str, Series]) -> None:
    peers = [found[peer.name] for peer in PEERS if peer.name in found]
    if peers:
        suite.see(key, min(ratio(found["bridge"], peer, rate) for peer in peers))
