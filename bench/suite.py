"""What a case gets: contenders that take turns, peers that could be had, and a place for what it finds."""

from __future__ import annotations

import contextlib
import html
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import psutil

from bench import mcp
from bench.load import LoadError, Script, running
from bench.peers import PEERS, NotInstalled, Peer
from bench.programs import ROOT
from bench.report import Results, Table
from bench.series import Round, Series, cpu, number, p50, p99, rate, ratio, spread
from bench.servers import Server, ServerFailed

#: Longest note in characters: servers say a lot when they fail.
NOTE = 160


@dataclass(frozen=True)
class Contender:
    """A server and what it is asked: one script per connection. Bodies have at least ``least`` bytes."""

    name: str
    server: Server
    scripts: Sequence[Script]
    least: int = 0

    @classmethod
    def of(cls, server: Server, requests: Sequence[bytes], least: int = 0, name: str = "") -> Contender:
        """One request per connection, again and again."""
        return cls(name or server.name, server, [[request] for request in requests], least)


class Suite:
    """A run. ``rounds`` and ``seconds`` say how long contenders are compared; ``quick`` that numbers may be rough."""

    def __init__(self, rounds: int, seconds: float, quick: bool) -> None:
        self.rounds = rounds
        self.seconds = seconds
        self.quick = quick
        self.results = Results()
        self._begun = time.monotonic()
        self._unavailable: dict[str, str] = {}

    def say(self, text: str) -> None:
        """A line for who waits."""
        print(f"[{time.monotonic() - self._begun:6.1f} s] {text}", file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Say something that belongs on the page, in one line and without paths of this machine."""
        text = html.unescape(re.sub(r"<[^>]*>", " ", text.replace(str(ROOT), "")))  # errors of HTTP servers are pages
        text = " ".join(text.split())[:NOTE]
        self.say(text)
        self.results.notes.append(text)

    def table(self, table: Table) -> None:
        """Keep a table, and show it to who waits."""
        self.results.tables.append(table)
        print(f"\n{table.title}\n{table.text()}\n", flush=True)

    def see(self, key: str, value: float) -> None:
        """Report what was seen for a target."""
        self.results.seen[key] = value

    def peers(self, *wanted: Peer) -> list[Peer]:
        """Those peers, by default all, that can be installed here; each failure is said once."""
        found = []
        for peer in wanted or PEERS:
            if peer.name in self._unavailable:
                continue
            try:
                peer.install()
                found.append(peer)
            except NotInstalled as problem:
                self._unavailable[peer.name] = str(problem)
                self.note(f"{peer.name} cannot be installed and is left out: {problem}")
        return found

    @contextlib.contextmanager
    def serve(self, *servers: AbstractContextManager[Server]) -> Iterator[list[Server]]:
        """Run servers side by side; one that does not start is said and left out."""
        with contextlib.ExitStack() as stack:
            up = []
            for server in servers:
                try:
                    up.append(stack.enter_context(server))
                except ServerFailed as problem:
                    self.note(f"a server is left out: {problem}")
            yield up

    def compare(self, contenders: Sequence[Contender], *, warmup: float = 1.0) -> dict[str, Series]:
        """Let contenders take turns; return the rounds of each by name. One that fails is said and left out then."""
        found = {each.name: Series(each.name) for each in contenders}
        self._take_turns(contenders, found, 0.1 if self.quick else warmup)
        for series in found.values():
            series.rounds.clear()  # that was the warm-up of caches and compilers
        for _ in range(self.rounds):
            self._take_turns(contenders, found, self.seconds)
        return {name: series for name, series in found.items() if series.rounds}

    def _take_turns(self, contenders: Sequence[Contender], found: dict[str, Series], seconds: float) -> None:
        for contender in contenders:
            series = found[contender.name]
            if series.failure is not None:
                continue
            try:
                series.rounds.append(self._round(contender, seconds))
            except (LoadError, ServerFailed, psutil.NoSuchProcess) as problem:
                series.failure = str(problem)
                self.note(f"{contender.name} failed: {problem}")

    def _round(self, contender: Contender, seconds: float) -> Round:
        server = contender.server
        with running(server.port, contender.scripts, seconds=seconds, warmup=0.1, least=contender.least) as run:
            run.wait_counting()
            before = server.cpu()
            load = run.result()
            spent = server.cpu() - before
        return Round(load.rate, load.p50, load.p99, spent / load.calls * 1e6, load.cpu / load.calls * 1e6)


def comparison(title: str, note: str, found: dict[str, Series], ours: str, unit: str = "calls/s") -> Table:
    """A table of contenders; the ratio says how many times as many calls per second ``ours`` makes."""
    table = Table(title, note, ("", unit, "spread", f"{ours} is", "CPU us/call", "p50 ms", "p99 ms"))
    for name, series in found.items():
        times = f"{number(ratio(found[ours], series, rate))}x" if ours in found and name != ours else ""
        shown = [number(series.median(of)) for of in (cpu, p50, p99)]
        table.rows.append((name, number(series.median(rate)), spread(series.values(rate)), times, *shown))
    return table


def unchecked(message: mcp.Message) -> mcp.Message:
    """A request whose answer has no id of its own: aiohttp alone always says the same."""
    return {**message, "id": 1}
