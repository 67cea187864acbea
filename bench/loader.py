"""The load generator in Python, for machines without a C compiler. What it does is described in ``load.c``.

It needs 10 to 15 us per call, so it is no bottleneck for bridges, but it is one for aiohttp alone on a busy machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import uvloop

ID = b"1000000000"
SESSION = b"@session@"
#: Bytes at both ends of a body that are kept to be checked.
ENDS = 1024
#: Seconds that calls get which are under way at the end.
LAST_ANSWERS = 5.0

_STATUS = re.compile(rb"HTTP/1\.1 (\d+)")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_SESSION = re.compile(rb"\r\nmcp-session-id: *([^\r ]+)", re.IGNORECASE)


class Wrong(Exception):
    """The server gave a wrong answer."""


class Answer:
    """One HTTP answer as it arrives."""

    def __init__(self) -> None:
        self._buffer = b""
        self._left = 0
        self._read: Callable[[], bool | None] = self._head
        self.status = 0
        self.session = b""
        self.size = 0
        self.first = self.last = b""

    def feed(self, data: bytes) -> bool:
        """Take bytes; whether the answer is complete."""
        self._buffer += data
        while True:
            step = self._read()
            if step is not None:
                return step

    def _head(self) -> bool | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head, self._buffer = self._buffer[: end + 2], self._buffer[end + 4 :]
        status, length, session = _STATUS.match(head), _LENGTH.search(head), _SESSION.search(head)
        if status is None:
            raise Wrong(f"no HTTP/1.1 answer: {head[:200]!r}")
        self.status = int(status[1])
        self.session = session[1] if session else b""
        self._left = int(length[1]) if length else 0
        self._read = self._chunk_size if _CHUNKED.search(head) else self._body
        return None

    def _body(self) -> bool:
        data, self._buffer = self._buffer[: self._left], self._buffer[self._left :]
        self._left -= len(data)
        self.size += len(data)
        if len(self.first) < ENDS:
            self.first += data[: ENDS - len(self.first)]
        self.last = (self.last + data[-ENDS:])[-ENDS:]
        return self._left == 0

    def _line(self) -> bytes | None:
        line, found, rest = self._buffer.partition(b"\r\n")
        if not found:
            return None
        self._buffer = rest
        return line

    def _chunk_size(self) -> bool | None:
        line = self._line()
        if line is None:
            return False
        self._left = int(line.partition(b";")[0], 16)
        self._read = self._chunk if self._left else self._trailer
        return None

    def _chunk(self) -> bool | None:
        if not self._body():
            return False
        self._read = self._chunk_end
        return None

    def _chunk_end(self) -> bool | None:
        if self._line() is None:
            return False
        self._read = self._chunk_size
        return None

    def _trailer(self) -> bool | None:
        line = self._line()
        if line is None:
            return False
        return True if line == b"" else None


class Run:
    """What all connections share."""

    def __init__(self, plan: Path) -> None:
        with plan.open("rb") as file:
            port, seconds, warmup, interval, least = file.readline().split()
            self.port, self.least = int(port), int(least)
            self.seconds, self.warmup, self.interval = float(seconds), float(warmup), float(interval)
            self.scripts: list[list[bytes]] = []
            while line := file.readline():
                self.scripts.append([])
                for _ in range(int(line.split()[1])):
                    self.scripts[-1].append(file.read(int(file.readline().split()[1])))
                    file.read(1)
        self.times: list[float] = []
        self.counting_since: float | None = None
        self.told_to_end = False
        self.under_way = 0
        self._idle: list[Connection] = []
        self._next_due = 0.0
        self.over = asyncio.Event()
        self.quiet = asyncio.Event()
        self.problem: BaseException | None = None

    def start(self, connections: list[Connection]) -> None:
        """Begin on all connections, or at the first interval."""
        now = self._next_due = time.perf_counter()
        if self.interval:
            self._idle = list(connections)
            self._begin_what_is_due()
            return
        for connection in connections:
            self._begin(connection, now)

    def answered(self, connection: Connection, seconds: float) -> None:
        """Count a way through a script and begin the next."""
        now = time.perf_counter()
        self.under_way -= 1
        if self.counting_since is not None:
            self.times.append(seconds)
        if self._is_over(now):
            self.over.set()
            if not self.under_way:
                self.quiet.set()
        elif self.interval:
            self._idle.append(connection)
        else:
            self._begin(connection, now)

    def _begin(self, connection: Connection, begun: float) -> None:
        self.under_way += 1
        connection.begin(begun)

    def _begin_what_is_due(self) -> None:
        now = time.perf_counter()
        while self._idle and now >= self._next_due:
            self._begin(self._idle.pop(), self._next_due)
            self._next_due += self.interval
        if not self.over.is_set():
            asyncio.get_running_loop().call_later(max(0.001, self._next_due - now), self._begin_what_is_due)

    def _is_over(self, now: float) -> bool:
        if self.told_to_end:
            return True
        return self.counting_since is not None and bool(self.times) and now >= self.counting_since + self.seconds

    def fail(self, problem: BaseException) -> None:
        """End with the first wrong answer."""
        self.problem = self.problem or problem
        self.over.set()
        self.quiet.set()

    def end(self) -> None:
        """End before its time."""
        self.told_to_end = True
        self.over.set()


class Connection(asyncio.Protocol):
    def __init__(self, run: Run, index: int) -> None:
        self._run = run
        self._index = index
        self._script = run.scripts[index]
        self._step = 0
        self._sent = 0
        self._session = b""
        self._digits = b""
        self._begun = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass

    def begin(self, begun: float) -> None:
        """Send the first request of the script; it is timed from ``begun`` on."""
        self._begun = begun
        self._send()

    def _send(self) -> None:
        request = self._script[self._step]
        self._digits = b""
        if ID in request:
            self._digits = b"%d" % (int(ID) + self._index * 10_000_000 + self._sent % 10_000_000)
            self._sent += 1
            request = request.replace(ID, self._digits, 1)
        if SESSION in request:
            request = request.replace(SESSION, self._session, 1)
        self._answer = Answer()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        try:
            if self._answer.feed(data):
                self._check()
                self._next()
        except (Wrong, ValueError) as problem:
            self._run.fail(problem)
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._run.under_way:
            self._run.fail(exc or Wrong("the server closed a connection"))

    def _check(self) -> None:
        answer, shown = self._answer, self._answer.first[:400]
        self._session = answer.session or self._session
        if answer.status != 200 if self._digits else answer.status // 100 != 2:
            raise Wrong(f"status {answer.status}: {shown!r}")
        if not self._digits:
            return
        if self._digits not in answer.first and self._digits not in answer.last:
            raise Wrong(f"an answer without its id {self._digits!r}: {shown!r}")
        if b'"error"' in answer.first or b'"isError":true' in answer.last:
            raise Wrong(f"an error: {shown!r}")
        if answer.size < self._run.least:
            raise Wrong(f"an answer of {answer.size} bytes: {shown!r}")

    def _next(self) -> None:
        run = self._run
        self._step += 1
        if self._step < len(self._script):
            self._send()
            return
        self._step = 0
        run.answered(self, time.perf_counter() - self._begun)


def _same(connection: Connection) -> Connection:
    return connection


async def main(plan: Path) -> None:
    run = Run(plan)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, run.end)
    connections = [Connection(run, index) for index in range(len(run.scripts))]
    for connection in connections:
        await loop.create_connection(functools.partial(_same, connection), "127.0.0.1", run.port)
    run.start(connections)
    await asyncio.sleep(run.warmup)
    run.counting_since = time.perf_counter()
    spent = time.process_time()
    print("counting", flush=True)
    await run.over.wait()
    if run.problem is not None:
        sys.exit(str(run.problem))
    seconds, spent = time.perf_counter() - run.counting_since, time.process_time() - spent
    times = sorted(run.times)

    def at(share: float) -> float:
        return times[min(int(len(times) * share), len(times) - 1)] * 1000 if times else 0.0

    found = {"calls": len(times), "seconds": seconds, "cpu": spent, "p50": at(0.5), "p99": at(0.99), "worst": at(1)}
    print(json.dumps(found), flush=True)
    if run.under_way:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_ANSWERS):
                await run.quiet.wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(Path(sys.argv[1])))
