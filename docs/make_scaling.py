"""How many nodes one Redis bears: measures what each thing that nodes do costs a real redis-server, and adds it up.

    python docs/make_scaling.py

prints the table of docs/scaling.md. What is measured is CPU time of the redis-server process, so that a busy machine
makes it slower and not wrong; what is added up are the intervals of the bridge's own code. One Redis has one core.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import msgspec
import psutil

from bridge.cluster.beat import About, Beats
from bridge.cluster.ids import Birth
from bridge.cluster.lease import LEASE, NAMES_PER_BEAT
from bridge.config.redis_address import RedisAddress
from bridge.sessions.timing import LONGEST_UPKEEP
from bridge.stores.record import Save, SessionRecord
from bridge.stores.redis_link import RedisLink
from bridge.stores.redis_owned import OwnedRedisStore

PREFIX = "s:"
NODES = (3, 10, 100, 300, 1000, 3000, 10_000)
HEAD = (
    "| nodes | sessions in use | beats/s | saves/s | of one core | MB/s | all names are read in | taking over a node |"
)
MEASURED_NAMES = 200
#: A lease as it lies in Redis, with key and protocol around it.
LEASE_BYTES = 110
#: Bytes of a record with its initialize.
RECORD_BYTES = 700


@dataclass(frozen=True)
class Costs:
    """Seconds of CPU of Redis: of a beat that names nobody, of each name, of saving a session, of taking one."""

    beat: float
    name: float
    save: float
    take: float


async def measure(rounds: int) -> Costs:
    """Return what one of each costs here."""
    async with _redis() as (process, address):
        link = RedisLink(address)
        link.open()

        async def per_call(times: int, call: Callable[[int], Awaitable[object]]) -> float:
            before = sum(process.cpu_times()[:2])
            for number in range(times):
                await call(number)
            return (sum(process.cpu_times()[:2]) - before) / times

        beats = Beats(PREFIX, Birth("n", 1), LEASE)

        about = About("http://10.0.0.1:3000", 30)

        async def beat(names_all: bool) -> None:
            await link.ask(functools.partial(beats.beat, about=about, names_all=names_all))

        silent = await per_call(rounds, lambda _: beat(False))
        for number in range(MEASURED_NAMES):
            other = Beats(PREFIX, Birth(f"bridge-{number}", 1), 1e6)
            await link.ask(functools.partial(other.beat, about=about, names_all=False))
        naming = await per_call(rounds // 4, lambda _: beat(True))
        store = OwnedRedisStore(address, PREFIX, "a.1")
        await store.open()
        other_node = OwnedRedisStore(address, PREFIX, "b.1")
        await other_node.open()
        batch = 200
        save = await per_call(
            rounds // 50, lambda number: store.write([Save(_record(f"{number}.{each}")) for each in range(batch)])
        )
        take = await per_call(min(rounds, rounds // 50 * batch), lambda number: other_node.take(f"0.{number % batch}"))
        for each in (store, other_node, link):
            await each.close()
    return Costs(silent, max(0.0, naming - silent) / MEASURED_NAMES, save / batch, take)


def row(nodes: int, sessions: int, costs: Costs) -> str:
    """Return a row of the table: so many nodes, each with so many kept sessions in use."""
    beats = nodes * 3 / LEASE
    named = nodes / (1 + (nodes - 1) // NAMES_PER_BEAT)  # on average, with each beat
    saves = nodes * sessions / LONGEST_UPKEEP
    cores = beats * (costs.beat + named * costs.name) + saves * costs.save
    megabytes = (beats * (named * LEASE_BYTES + 300) + saves * RECORD_BYTES) / 1e6
    heard = LEASE / 3 * (1 + (nodes - 1) // NAMES_PER_BEAT)
    lost = sessions * costs.take
    return (
        f"| {nodes} | {nodes * sessions} | {beats:.0f} | {saves:.0f} | {cores:.1%} | {megabytes:.1f} | {heard:.0f} s | "
        f"{lost * 1000:.0f} ms |"
    )


def _record(id: str) -> SessionRecord:
    now = time.time()
    initialize = msgspec.Raw(b'{"protocolVersion":"2025-06-18","capabilities":{},"x":"%b"}' % (b"x" * 300))
    return SessionRecord(
        id=id,
        server="files",
        config="c0ffee",
        version="2025-06-18",
        initialize=initialize,
        initialized=True,
        level=None,
        subscriptions=[],
        owner="0wn3r",
        created=now,
        touched=now,
        ttl=None,
        metadata={},
    )


@contextlib.asynccontextmanager
async def _redis() -> AsyncIterator[tuple[psutil.Process, RedisAddress]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen(  # noqa: ASYNC220 - once, before anything else runs
        ["redis-server", "--port", str(port), "--save", "", "--appendonly", "no"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "Ready to accept connections" in line:
                break
        try:
            yield psutil.Process(process.pid), RedisAddress(hosts=(("127.0.0.1", port),))
        finally:
            process.kill()


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4000, help="calls of each kind (default: %(default)s)")
    parser.add_argument(
        "--sessions", type=int, default=100, help="kept sessions in use per node (default: %(default)s)"
    )
    options = parser.parse_args()
    costs = asyncio.run(measure(options.rounds))
    lines = [
        f"CPU of Redis: {costs.beat * 1e6:.0f} us a beat, {costs.name * 1e6:.2f} us each name in it, "
        f"{costs.save * 1e6:.1f} us a session saved, {costs.take * 1e6:.0f} us one taken over",
        "",
        HEAD,
        "|---|---|---|---|---|---|---|---|",
        *(row(nodes, options.sessions, costs) for nodes in NODES),
        "",
    ]
    sys.stdout.write("\n".join(lines))


if __name__ == "__main__":
    main()
