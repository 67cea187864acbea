"""Many of the same: what one fault does, a thousand times over, counted.

    make endurance                # in full: some minutes
    make endurance ARGS="deaths --scale 0.1"

Each part runs a bridge process of its own, and returns its numbers or raises :class:`Violation`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import psutil
import uvloop

from bench.load import Load, running
from tests.conftest import INITIALIZE, message, peer, tool
from tests.faults.conftest import babbler
from tests.faults.glass import Bridge, Holds, served

#: Seconds after which a request is one without an end.
NO_END = 30.0
#: Seconds from the death of a child within which its requests have to end.
DEATH_KNOWN = 1.0
#: Milliseconds within which 99 of 100 calls of a session beside trouble have to end.
P99 = 100.0
MORE_DESCRIPTORS = 10
MORE_RESIDENT = 20 * 2**20
MORE_IN_USE = 2 * 2**20

SETTINGS = {"STREAM_SESSION_TTL_MS": "never", "LOG_LEVEL": "INFO"}
Numbers = dict[str, float]


class Violation(AssertionError):
    """The bridge has broken its promise."""


class Wire(asyncio.Protocol):
    """One connection to a bridge, with one request at a time; the cheapest client that there can be in Python."""

    _length = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
    _session = re.compile(rb"\r\nmcp-session-id: *([^\r ]+)", re.IGNORECASE)

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._waiter: asyncio.Future[None] | None = None
        self.session = ""

    @classmethod
    async def open(cls, bridge: Bridge) -> Wire:
        host, _, port = bridge.url.removeprefix("http://").rpartition(":")
        _, wire = await asyncio.get_running_loop().create_connection(cls, host, int(port))
        return wire

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ConnectionError("the bridge has closed the connection"))

    async def ask(
        self, path: str, body: Any = None, method: str = "POST", seconds: float = NO_END
    ) -> tuple[int, bytes]:
        """Send one request; return the status and the body of the answer. Raises :class:`TimeoutError`."""
        content = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\nAccept: application/json, text/event-stream\r\n"
        )
        if self.session:
            head += f"Mcp-Session-Id: {self.session}\r\n"
        self._transport.write(head.encode() + b"\r\n" + content)
        async with asyncio.timeout(seconds):
            while (answer := self._answer()) is None:
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
        return answer

    def _answer(self) -> tuple[int, bytes] | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = bytes(self._buffer[: end + 2])
        length = self._length.search(head)
        if length is not None:
            start, size, after = end + 4, int(length[1]), 0
        else:  # an event stream, in chunks, or no body
            chunked = b"chunked" in head
            last = self._buffer.find(b"\r\n0\r\n\r\n", end) if chunked else end + 4
            if last < 0:
                return None
            start, size, after = end + 4, last - end - 4, 7 * chunked
        if len(self._buffer) < start + size + after:
            return None
        content = bytes(self._buffer[start : start + size])
        del self._buffer[: start + size + after]
        if found := self._session.search(head):
            self.session = found[1].decode()
        return int(head[9:12]), content

    async def initialize(self, server: str) -> bool:
        """Open a session; whether there is one now."""
        self.session = ""
        status, content = await self.ask(f"/mcp/{server}", message("initialize", 0, **INITIALIZE))
        if status != 200 or b'"result"' not in content or not self.session:
            return False
        await self.ask(f"/mcp/{server}", message("notifications/initialized"))
        return True

    def close(self) -> None:
        self._transport.abort()


# Deaths


async def deaths(folder: Path, scale: float, most: float = DEATH_KNOWN) -> Numbers:
    """1 000 children are killed under 100 000 requests. ``most``: seconds from a death to the last of its errors."""
    requests, kills, sessions, at_once = int(100_000 * scale), int(1_000 * scale), 20, 5
    counts: Counter[str] = Counter()
    slow: list[float] = []
    killed_at: dict[str, float] = {}
    numbers = itertools.count(1)
    async with served(folder, {"peer": peer(restartDelay=10)}, **SETTINGS) as bridge:

        async def one(session: Session) -> None:
            wire = await Wire.open(bridge)
            while (number := next(numbers)) <= requests:
                wire.session = await session.id()
                sent = time.monotonic()
                try:
                    status, content = await wire.ask("/mcp/peer", tool("echo", number, n=number))
                except (TimeoutError, ConnectionError) as error:
                    raise Violation(f"request {number}: {type(error).__name__} {error}") from None
                if status == 200 and json.loads(content) == {"jsonrpc": "2.0", "id": number, "result": {"n": number}}:
                    counts["answers"] += 1
                    continue
                error = json.loads(content)["error"]
                if "internal error" in error["message"] or (status == 200 and json.loads(content)["id"] != number):
                    raise Violation(f"request {number}: {content!r}")
                counts["errors"] += 1
                slow.append(time.monotonic() - max(sent, killed_at.get(wire.session, sent)))
                session.lost(wire.session)
            wire.close()

        async def kill() -> None:
            control = await Wire.open(bridge)
            while counts["kills"] < kills and counts["answers"] + counts["errors"] < requests:
                due = (counts["answers"] + counts["errors"]) * kills // requests
                if counts["kills"] > due:
                    await asyncio.sleep(0.001)
                    continue
                _, content = await control.ask("/sessions", method="GET")
                live = [row for row in json.loads(content) if row["pid"] and row["session_id"] not in killed_at]
                if live:
                    row = live[counts["kills"] % len(live)]
                    killed_at[row["session_id"]] = time.monotonic()
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(row["pid"], signal.SIGKILL)
                        counts["kills"] += 1
            control.close()

        owners = [Session(bridge, "peer") for _ in range(sessions)]
        began = time.monotonic()
        killing = asyncio.create_task(kill())
        await asyncio.gather(*(one(owner) for owner in owners for _ in range(at_once)))
        await killing
        seconds = time.monotonic() - began
        slow.sort()
        slowest, p99 = slow[-1], slow[len(slow) * 99 // 100]
        if counts["answers"] + counts["errors"] != requests or slowest > most:
            raise Violation(f"{counts}, errors {p99:.2f} s after the death (p99), {slowest:.2f} s (the slowest)")
        if wrong := await bridge.stop(15):
            raise Violation("; ".join(wrong))
    return {
        **counts,
        "without an end": 0,
        "error p99 s": round(p99, 3),
        "slowest error s": round(slowest, 3),
        "seconds": round(seconds, 1),
    }


class Session:
    """A session that is opened anew by whoever needs it next."""

    def __init__(self, bridge: Bridge, server: str) -> None:
        self._bridge = bridge
        self._server = server
        self._id = ""
        self._opening = asyncio.Lock()

    async def id(self) -> str:
        async with self._opening:
            while not self._id:
                wire = await Wire.open(self._bridge)
                if await wire.initialize(self._server):
                    self._id = wire.session
                else:  # it failed too often lately; an operator says that it works again
                    wire.session = ""
                    await wire.ask(f"/api/v1/servers/{self._server}/start")
                wire.close()
        return self._id

    def lost(self, id_: str) -> None:
        if self._id == id_:
            self._id = ""


# Equal ids


async def equal_ids(folder: Path, scale: float) -> Numbers:
    """1 000 000 requests with one id, from 50 sessions, four at once in each."""
    requests, sessions, at_once = int(1_000_000 * scale), 50, 4
    done = 0
    async with served(folder, {"peer": peer()}, **SETTINGS) as bridge:

        async def one(number: int, session: str) -> None:
            nonlocal done
            wire = await Wire.open(bridge)
            wire.session = session
            for turn in range(requests // (sessions * at_once)):
                mine = f"{number}-{turn}"
                status, content = await wire.ask("/mcp/peer", tool("echo", 7, "p", mine=mine))
                if status != 200 or content != b'{"jsonrpc":"2.0","id":7,"result":{"mine": "%b"}}' % mine.encode():
                    raise Violation(f"{mine} was answered {status} {content!r}")
                done += 1
            wire.close()

        began = time.monotonic()
        opened = []
        for _ in range(sessions):
            wire = await Wire.open(bridge)
            if not await wire.initialize("peer"):
                raise Violation("no session")
            opened.append(wire)
        callers = [(n * at_once + k, wire.session) for n, wire in enumerate(opened) for k in range(at_once)]
        await asyncio.gather(*(one(number, session) for number, session in callers))
        seconds = time.monotonic() - began
    return {"requests": done, "sessions": sessions, "crossed": 0, "seconds": round(seconds, 1)}


# Sessions that come and go


async def churn(folder: Path, scale: float) -> Numbers:
    """1 000 sessions are opened, called and deleted; a bridge holds as much afterwards as before."""
    visits = itertools.count()
    async with served(folder, {"peer": peer()}, **SETTINGS) as bridge:

        async def some(most: int) -> None:
            wire = await Wire.open(bridge)
            while next(visits) < most:
                if not await wire.initialize("peer"):
                    raise Violation("no session")
                status, _ = await wire.ask("/mcp/peer", tool("echo", 7, n=1))
                deleted, _ = await wire.ask("/mcp/peer", method="DELETE")
                if (status, deleted) != (200, 204):
                    raise Violation(f"call {status}, DELETE {deleted}")
            wire.close()

        async def visit(most: int, tasks: int) -> Holds:
            await asyncio.gather(*(some(most) for _ in range(8)))
            deadline = time.monotonic() + 10
            held = await Holds.of(bridge)
            while (held.below or len(held.tasks) > tasks) and time.monotonic() < deadline:
                held = await Holds.of(bridge)
            return held

        idle = len((await Holds.of(bridge)).tasks)
        before = await visit(30, idle)
        began = time.monotonic()
        after = await visit(30 + int(1_000 * scale), len(before.tasks))
        seconds = time.monotonic() - began
        zombies = sum(1 for each in psutil.Process(bridge.pid).children(True) if each.status() == psutil.STATUS_ZOMBIE)
    numbers = {
        "sessions": int(1_000 * scale),
        "descriptors": after.descriptors - before.descriptors,
        "resident bytes": after.resident - before.resident,
        "tasks": len(after.tasks) - len(before.tasks),
        "processes": after.below,
        "zombies": zombies,
        "seconds": round(seconds, 1),
    }
    if abs(numbers["descriptors"]) > MORE_DESCRIPTORS or numbers["resident bytes"] > MORE_RESIDENT:
        raise Violation(str(numbers))
    if zombies or after.below or numbers["tasks"] > 0:
        raise Violation(str(numbers))
    return numbers


async def abandoned(folder: Path, scale: float) -> Numbers:
    """10 000 sessions are opened and left: the longest idle make room, one with a call stays, time ends the others."""
    most, room = int(10_000 * scale), max(int(1_000 * scale), 20)
    ttl = max(int(30_000 * scale), 3000)  # so many are there at once before the first has to go
    settings = {**SETTINGS, "STREAM_SESSION_TTL_MS": str(ttl), "MAX_SESSIONS_PER_USER": str(room)}
    async with served(folder, {"shared": peer(sharing="shared")}, **settings) as bridge:
        wire, used = await Wire.open(bridge), await Wire.open(bridge)

        async def visit(count: int, left: int, tasks: int = 1000) -> Holds:
            for _ in range(count):
                if not await wire.initialize("shared"):
                    raise Violation("no session")
            deadline = time.monotonic() + NO_END + ttl / 1000
            while (there := len(json.loads((await wire.ask("/sessions", method="GET"))[1]))) > left:
                if there > room or time.monotonic() > deadline:
                    raise Violation(f"{there} sessions, of {room} that there may be")
                await asyncio.sleep(0.1)
            held = await Holds.of(bridge)
            # The child of the last one ends behind it, and so do the connections that look.
            while not left and (held.below or len(held.tasks) > tasks) and time.monotonic() < deadline:
                held = await Holds.of(bridge)
            return held

        await used.ask("/livez", method="GET")  # a connection has a task from its first request on
        before = await visit(room, left=0)
        await used.initialize("shared")
        session = used.session
        call = asyncio.create_task(used.ask("/mcp/shared", tool("never", 7), seconds=10 * NO_END))
        began = time.monotonic()
        await visit(most, left=1)
        seconds = time.monotonic() - began
        if call.done():
            raise Violation("a session with a call has ended")
        wire.session = session
        await wire.ask("/mcp/shared", method="DELETE")
        status, content = await call
        if status != 200 or b"the client deleted it" not in content:
            raise Violation(f"its call ended with {status} {content[:200]!r}")
        after = await visit(0, left=0, tasks=len(before.tasks))
    numbers = {
        "sessions": most,
        "at once": room,
        "descriptors": after.descriptors - before.descriptors,
        "heap bytes": after.in_use - before.in_use,
        "tasks": len(after.tasks) - len(before.tasks),
        "seconds": round(seconds, 1),
    }
    if abs(numbers["descriptors"]) > MORE_DESCRIPTORS or numbers["heap bytes"] > MORE_IN_USE or numbers["tasks"] > 0:
        raise Violation(str(numbers))
    return numbers


# Neighbours


async def neighbours(folder: Path, scale: float, most: float = P99) -> Numbers:
    """What a session notices of another one that floods, gets a line of 50 MB, or does not read.

    ``most``: milliseconds within which 99 of 100 of its calls have to end.
    """
    numbers: Numbers = {}
    async with served(folder, {"peer": peer(), "babbler": babbler()}, **SETTINGS) as bridge:
        for name, trouble in {
            "nothing": _nothing,
            "flood": _flood,
            "50 MB line": _big,
            "stalled reader": _stall,
        }.items():
            watched, troubled = await Wire.open(bridge), await Wire.open(bridge)
            if not (await watched.initialize("peer") and await troubled.initialize("babbler")):
                raise Violation("no session")
            beside = asyncio.create_task(trouble(bridge, troubled))
            seen = await asyncio.to_thread(_watch, bridge, watched.session, 10 * max(scale, 0.2))
            beside.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await beside
            troubled.close()
            watched.close()
            numbers[f"{name}: p50 ms"], numbers[f"{name}: p99 ms"] = round(seen.p50, 1), round(seen.p99, 1)
            numbers[f"{name}: worst ms"] = round(seen.worst, 1)
    if slow := {name: value for name, value in numbers.items() if "p99" in name and value > most}:
        raise Violation(f"{slow} is over {most:g} ms: {numbers}")
    return numbers


def _watch(bridge: Bridge, session: str, seconds: float) -> Load:
    content = json.dumps(tool("echo", 1000000000, text="hello")).encode()
    head = (
        f"POST /mcp/peer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nMcp-Session-Id: {session}\r\n"
        f"Accept: application/json, text/event-stream\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    port = int(bridge.url.rpartition(":")[2])
    with running(port, [[head.encode() + content]] * 16, seconds=seconds, interval=0.01) as run:
        run.wait_counting()
        return run.result()


async def _nothing(bridge: Bridge, wire: Wire) -> None:
    await asyncio.sleep(NO_END)


FLOOD = {"method": "notifications/progress", "params": {"progressToken": "@TOKEN@"}, "times": 100_000, "size": 1000}


async def _flood(bridge: Bridge, wire: Wire) -> None:
    """One 100 MB of progress after the other, read as fast as it comes."""
    while True:
        await _drain(bridge, wire.session, tool("flood", 7, "t", flood=FLOOD), reads=True)


async def _stall(bridge: Bridge, wire: Wire) -> None:
    """The same, and nobody reads it."""
    await _drain(bridge, wire.session, tool("flood", 7, "t", flood=FLOOD), reads=False)


async def _big(bridge: Bridge, wire: Wire) -> None:
    """One line of 50 MB after the other."""
    while True:
        await _drain(bridge, wire.session, tool("big", 7, big={"size": 50 * 2**20, "id_last": False}), reads=True)


async def _drain(bridge: Bridge, session: str, body: Any, *, reads: bool) -> None:
    """Read an answer and throw it away, in a process that has nothing else to do: curl costs next to nothing."""
    command = [
        "curl",
        "-sN",
        "-o",
        os.devnull,
        "-H",
        "Content-Type: application/json",
        "-H",
        f"Mcp-Session-Id: {session}",
    ]
    command += [
        "-H",
        "Accept: application/json, text/event-stream",
        "-d",
        json.dumps(body),
        f"{bridge.url}/mcp/babbler",
    ]
    process = await asyncio.create_subprocess_exec(*command)
    try:
        if not reads:
            await asyncio.sleep(0.2)
            process.send_signal(signal.SIGSTOP)
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


PARTS: dict[str, Callable[[Path, float], Awaitable[Numbers]]] = {
    "deaths": deaths,
    "equal_ids": equal_ids,
    "churn": churn,
    "abandoned": abandoned,
    "neighbours": neighbours,
}


def main() -> int:
    """Run the parts that are named, or all; return the exit code."""
    parser = argparse.ArgumentParser(prog="make endurance", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="which (default: all)")
    parser.add_argument("--scale", type=float, default=1.0, help="of the full numbers (default: 1)")
    given = parser.parse_args()
    failed = 0
    for name in given.parts or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            try:
                numbers = uvloop.run(PARTS[name](Path(folder), given.scale))
            except Violation as violation:
                print(f"{name}: {violation}", file=sys.stderr)
                failed = 1
                continue
        print(f"{name}: " + ", ".join(f"{what} {number}" for what, number in numbers.items()), flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
