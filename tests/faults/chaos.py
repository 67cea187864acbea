"""A seeded random run: a real bridge, clients and faults at random, and one promise.

Every request ends exactly once, with its own bytes or a clear error, or because its own client cut the connection; and
when all sessions have been deleted, nothing of them is left. The same seed makes the same decisions in the same order;
what a failing run did last is printed with its seed.

    make chaos SEED=7 MINUTES=2
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import itertools
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.conftest import PEERS, peer
from tests.faults.chaos_clients import BOUND, Client, Violation
from tests.faults.chaos_faces import FACES
from tests.faults.glass import Bridge, Holds, configure, served

CLIENTS = 32
AT_ONCE = 24
#: How often which action comes, of the sum of all.
WEIGHTS = {
    "echo": 30, "equal": 10, "progress": 6, "big": 4, "cancel": 3, "hang_up": 6, "listen": 6, "log": 4, "die": 2,
    "grandchild": 1, "delete": 6, "manage": 4, "bridge": 8, "modern": 8, "nonsense": 4, "stranger": 2,
    "sse": 4, "rest": 4, "ask": 3, "reply": 3, "resume": 4, "tear": 2,
    "kill": 2, "freeze": 1, "start": 4, "restart": 1, "reload": 1, "half_open": 2,
}  # fmt: skip
ON_A_SERVER = frozenset({"kill", "freeze", "start", "restart", "reload", "half_open"})
#: ``requestTimeout`` ends what a child never answers; a crash loop is waited for, but not long.
USUAL = {"requestTimeout": 2000, "restartDelay": 100}
LISTED = {**peer(), "args": [*peer()["args"], "--tools"], **USUAL}
MODERN = {"command": sys.executable, "args": ["-I", "-S", str(PEERS / "modern_peer.py")], **USUAL}
SERVERS: dict[str, dict[str, Any]] = {
    "plain": LISTED,
    "shared": {**LISTED, "sharing": "shared"},
    "pooled": {**LISTED, "sharing": {"holders": 1, "hold": "exchange", "warm": 0, "limit": 4}},
    "modern": MODERN,
    "kept": {**LISTED, "persistent": True, "idleStopMs": 500},
    "idle": {**LISTED, "idleStopMs": 300},
    "far": {"url": "{far}/mcp/plain", **USUAL},
    "far-modern": {"url": "{far}/mcp/modern", **USUAL},
    "crashing": LISTED,
}
#: What another bridge has, in front of which this one is, by the name that its servers have here.
FAR = {"far": ("plain", LISTED), "far-modern": ("modern", MODERN)}
SETTINGS = {
    "SESSION_STORE": "file",
    "BRIDGE_SESSION_TTL_MS": "2000",
    "STREAM_SESSION_TTL_MS": "600000",
    "LOG_LEVEL": "INFO",
}
#: A farewell that a busy machine does not take in time is lost between two bridges; then time ends the session.
FAR_SETTINGS = {**SETTINGS, "STREAM_SESSION_TTL_MS": "20000"}
#: What must not be in the log of a bridge, whatever happens to it; last a request that failed without being told why.
UNWANTED = re.compile(
    r"\nTraceback|never retrieved|never awaited|Task was destroyed|Unclosed|\[ERROR\] [A-Z]+ \S+ failed\n"
)
#: How much more a bridge may hold in the end than before the run, when it had done a little of everything once.
MORE = {
    "descriptors": 10,
    "resident": 80 * 2**20,  # 32 MiB are kept, and the rest goes back once it is 24 MiB (bridge/process/memory.py)
    "below": 0,
}
#: How many more objects of one class of the bridge there may be than after the first part: no session, call or child is
#: left. Not counted is what lies in a table that has a bound and fills up slowly: how long requests took, by server,
#: method and code, of which there are more the longer it runs.
MORE_OURS = 100
BOUNDED = {"bridge.children.traffic.Durations"}
#: How many parts a run has. After each the bridge comes to rest.
PARTS = 3
#: What leaks grows in every part after the first, by more than this; tables that have a bound fill up and come to rest.
GROWTH = {"in_use": 2**20, "blocks": 10_000}
#: Seconds that a bridge gets for its end: SHUTDOWN_TIMEOUT_MS and a little.
END = 15.0
#: Seconds until the clients' idle connections have been closed, and what hangs on them has gone.
SETTLING = 45.0


@dataclass(frozen=True)
class Action:
    """One decision: ``what`` whom does, and the generator of what else has to be decided meanwhile."""

    number: int
    what: str
    whom: int
    seed: int

    def __str__(self) -> str:
        return f"{self.number}: {self.what} by {self.whom} ({self.seed})"


def decisions(seed: int) -> Iterator[Action]:
    """All that a run of this seed does, in order and without end."""
    rng = random.Random(seed)
    names, weights, servers = list(WEIGHTS), list(WEIGHTS.values()), list(SERVERS)
    crashing = range(servers.index("crashing"), CLIENTS, len(servers))
    for number in itertools.count():
        [what] = rng.choices(names, weights)
        among = range(len(servers)) if what in ON_A_SERVER else crashing if what == "die" else range(CLIENTS)
        yield Action(number, what, rng.choice(among), rng.getrandbits(32))


def placed(far: Bridge) -> dict[str, dict[str, Any]]:
    """All servers, with where the other bridge is."""
    return {
        name: {**entry, "url": entry["url"].format(far=far.url)} if "url" in entry else entry
        for name, entry in SERVERS.items()
    }


class Run:
    """One run against one bridge process."""

    def __init__(self, seed: int, bridge: Bridge, far: Bridge, http: aiohttp.ClientSession) -> None:
        self.seed = seed
        self.decisions = decisions(seed)
        self.bridge = bridge
        self.far = far
        self.servers = placed(far)
        #: How often each server has begun to change, and how many changes have not been taken back yet.
        self.changes: collections.Counter[str] = collections.Counter()
        self.changing: collections.Counter[str] = collections.Counter()
        self.url = bridge.url
        self.http = http
        self.counts: collections.Counter[str] = collections.Counter()
        self.done: collections.deque[str] = collections.deque(maxlen=50)
        names = list(SERVERS)
        self.clients = [Client(http, bridge.url, names[n % len(names)], self.counts) for n in range(CLIENTS)]
        self.broken: list[str] = []

    async def go(self, seconds: float) -> None:
        """Act for so long, and wait until everything has ended."""
        until = time.monotonic() + seconds
        permits = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as actions:
            while True:
                await permits.acquire()
                if time.monotonic() >= until or self.broken:
                    break
                action = next(self.decisions)
                self.done.append(str(action))
                actions.create_task(self._act(action)).add_done_callback(lambda _: permits.release())

    async def _act(self, action: Action) -> None:
        rng = random.Random(action.seed)
        try:
            if action.what in ON_A_SERVER:
                await getattr(self, action.what)(rng, list(SERVERS)[action.whom])
            else:
                await self.do(self.clients[action.whom], action.what, rng)
            self.counts["actions"] += 1
        except TimeoutError:
            self.broken.append(f"{action}: no end within {BOUND:.0f} s")
        except Exception as error:
            self.broken.append(f"{action}: {type(error).__name__}: {error}")

    async def do(self, client: Client, what: str, rng: random.Random) -> None:
        """One client does one thing."""
        await (FACES[what](client, rng) if what in FACES else getattr(client, what)(rng))

    async def get(self, path: str, url: str = "") -> Any:
        async with self.http.get((url or self.url) + path) as response:
            if response.status != 200:
                raise Violation(f"GET {path}: {response.status}")
            return await response.json()

    async def _pid(self, rng: random.Random, server: str) -> int | None:
        name, url = (FAR[server][0], self.far.url) if server in FAR else (server, self.url)
        pids = [row["pid"] for row in await self.get("/children", url) if row["server"] == name and row["pid"]]
        return rng.choice(pids) if pids else None

    async def kill(self, rng: random.Random, server: str) -> None:
        """A child is killed."""
        if (pid := await self._pid(rng, server)) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self.counts["killed"] += 1

    async def freeze(self, rng: random.Random, server: str) -> None:
        """A child stands still, and goes on."""
        if (pid := await self._pid(rng, server)) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                try:
                    await asyncio.sleep(rng.random() * 2)
                finally:
                    os.kill(pid, signal.SIGCONT)

    async def start(self, rng: random.Random, server: str) -> None:
        """An operator says that a server works again."""
        await self._operate(server, "start")

    async def restart(self, rng: random.Random, server: str) -> None:
        """An operator restarts a server."""
        await self._operate(server, "restart")

    async def _operate(self, server: str, what: str) -> None:
        changing, changes = self.changing[server], self.changes[server]
        async with self.http.post(f"{self.url}/api/v1/servers/{server}/{what}") as response:
            is_there = not changing and changes == self.changes[server]
            if response.status != 200 and (response.status != 404 or is_there):
                raise Violation(f"{what} {server}: {response.status} {await response.text():.300}")

    async def reload(self, rng: random.Random, server: str) -> None:
        """The configuration of a server changes: a little, so much that it starts anew, or it goes and comes back."""
        entry = placed(self.far)[server]
        self.servers[server] = {
            "adjusted": {**entry, "requestTimeout": 2500},
            "restarted": {**entry, "sharing": "session"},
            "replaced": {**entry, "headers" if "url" in entry else "env": {"ROUND": str(rng.random())}},
        }.get(how := rng.choice(("adjusted", "restarted", "replaced", "removed")), {})
        if how == "removed":
            del self.servers[server]
        self.changes[server] += 1
        self.changing[server] += 1
        await self._reload()
        await asyncio.sleep(rng.random())
        self.servers[server] = entry
        await self._reload()
        self.changing[server] -= 1
        self.counts["reloaded"] += 1

    async def _reload(self) -> None:
        configure(self.bridge.folder, self.servers)
        async with self.http.post(f"{self.url}/api/v1/reload") as response:
            if response.status != 200:
                raise Violation(f"reload: {response.status} {await response.text():.300}")

    async def half_open(self, rng: random.Random, server: str) -> None:
        """A client that never finishes what it says."""
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        heads = f"POST /mcp/{server} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
        writer.write((heads + rng.choice(("", "Content-Length: 900\r\n\r\n{"))).encode())
        await asyncio.sleep(rng.random())
        writer.transport.abort()

    async def end(self) -> None:
        """Delete every session, and wait until all counts are what they have to be."""
        for client in self.clients:
            await client.delete(random.Random(0))
        for server in SERVERS:  # children that are lent per call linger for half a minute, parked calls much longer
            for what in ("stop", "start"):
                await self._operate(server, what)
        for server, _ in FAR.values():
            for what in ("stop", "start"):
                async with self.http.post(f"{self.far.url}/api/v1/servers/{server}/{what}") as response:
                    response.raise_for_status()
        for url in (self.url, self.far.url):
            await self._nothing_left(url)

    async def _nothing_left(self, url: str) -> None:
        deadline = time.monotonic() + BOUND
        while True:
            health, children, sessions = [await self.get(path, url) for path in ("/health", "/children", "/sessions")]
            left = {**health["sessions"], "children": len(children), "listed": len(sessions)}
            if not any(left.values()):
                return
            if time.monotonic() > deadline:
                raise Violation(f"left at {url} when all sessions were deleted: {left} {children} {sessions}")
            await asyncio.sleep(0.1)


async def chaos(seed: int, seconds: float, folder: Path) -> dict[str, Any]:
    """Run; return what there is to tell. Raises :class:`Violation`, which names the seed and the last actions."""
    (beyond := folder / "far").mkdir()
    async with (
        served(beyond, dict(FAR.values()), **FAR_SETTINGS) as far,
        served(folder, placed(far), **SETTINGS) as bridge,
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=1), timeout=aiohttp.ClientTimeout(BOUND)
        ) as http,
    ):
        run = Run(seed, bridge, far, http)
        try:
            return await _run(run, seconds)
        except Violation as violation:
            actions = "\n  ".join(run.done)
            raise Violation(f"SEED={seed}: {violation}\nthe last {len(run.done)} actions:\n  {actions}") from None


async def _run(run: Run, seconds: float) -> dict[str, Any]:
    for client in run.clients:  # what every bridge has once it has worked is no growth
        for what in WARMING:
            await run.do(client, what, random.Random(1))
    await run.end()
    before = await _settled(run.bridge, None)
    held = []
    for _ in range(PARTS):
        await run.go(seconds / PARTS)
        if run.broken:
            raise Violation("\n".join(run.broken[:5]))
        await run.end()
        held.append(await _settled(run.bridge, before))
    if more := _more(before, held[-1]) + _grows(held):
        parts = "\n".join(f"after part {number} {each}" for number, each in enumerate(held, 1))
        raise Violation(f"more than before: {', '.join(more)}\nbefore {before}\n{parts}")
    await _stop(run)
    for said in (run.bridge.said, run.far.said):
        if found := UNWANTED.search(said):
            raise Violation(f"{found[0]!r} in the log: {said[max(0, found.start() - 300) : found.start() + 1500]}")
    return {"seed": run.seed, "before": before, "parts": held, **run.counts}


#: What each client does once before anything is counted.
WARMING = ("echo", "bridge", "modern", "big", "progress", "manage", "log", "listen", "sse", "rest", "resume")


def _more(before: Holds, after: Holds) -> list[str]:
    """What there is more of than there may be."""
    more = [name for name, room in MORE.items() if getattr(after, name) > getattr(before, name) + room]
    return more + (["tasks"] if len(after.tasks) > len(before.tasks) else [])


def _grows(held: list[Holds]) -> list[str]:
    """What has grown in every part after the first."""
    pairs = list(itertools.pairwise(held))
    grown = [
        name
        for name, room in GROWTH.items()
        if all(getattr(after, name) > getattr(before, name) + room for before, after in pairs)
    ]
    first, last = held[0].ours, held[-1].ours
    more = {name: count - first.get(name, 0) for name, count in last.items()}
    return grown + [f"{count} {name}" for name, count in more.items() if count > MORE_OURS and name not in BOUNDED]


async def _settled(bridge: Bridge, before: Holds | None) -> Holds:
    """What it holds when it has come to rest, or after so long."""
    deadline = time.monotonic() + SETTLING
    while True:
        await asyncio.sleep(1.5)  # nothing tells when it has closed the last of its idle connections
        held = await Holds.of(bridge)
        if before is not None and not _more(before, held):
            return held
        if before is None and held.below == 0:
            return held
        if time.monotonic() > deadline:
            return held


async def _stop(run: Run) -> None:
    """SIGTERM in the middle of calls: each gets its answer, or an error that says why; then nothing is left."""
    calls = [asyncio.create_task(client.last_call(n)) for n, client in enumerate(run.clients)]
    while True:
        under_way = sum(not call.done() for call in calls)
        if sum(row["open_calls"] for row in await run.get("/children")) >= under_way:
            break
    run.counts["calls at the end"] = under_way
    stopping = asyncio.create_task(run.bridge.stop(END))
    for call in calls:
        await call  # a connection that is cut is an error here
    if wrong := await stopping:
        raise Violation("; ".join(wrong))


def main() -> int:
    """Run as the command line says; return the exit code."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="what decides (default: one at random)")
    parser.add_argument("--minutes", type=float, default=2.0, help="how long (default: 2)")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if given.seed is None else given.seed
    print(f"SEED={seed} MINUTES={given.minutes:g}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    try:
        told = asyncio.run(chaos(seed, given.minutes * 60, folder))
    except Violation as violation:
        print(f"{violation}\nthe log of the bridge: {folder / 'stderr'}", file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    for name, value in told.items():
        print(f"{name}: {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
