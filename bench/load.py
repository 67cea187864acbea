"""A load generator: keep-alive connections with one POST in flight each, as little work per answer as possible."""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import dataclass
from typing import cast

import uvloop

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Result:
    """Calls per second, and latencies in milliseconds."""

    calls_per_second: float
    p50: float
    p99: float


class _Connection(asyncio.Protocol):
    def __init__(self, request: bytes, until: float, latencies: list[float], done: asyncio.Future[None]) -> None:
        self._request = request
        self._until = until
        self._latencies = latencies
        self._done = done
        self._buffer = b""
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass
        self._send()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        length = _LENGTH.search(self._buffer, 0, head)
        if length is None or b" 200 " not in self._buffer[:head]:
            self._fail(RuntimeError(f"unexpected answer: {self._buffer[:300]!r}"))
        elif len(self._buffer) >= head + 4 + int(length[1]):
            self._answered()

    def _answered(self) -> None:
        now = time.perf_counter()
        self._buffer = b""
        self._latencies.append(now - self._sent)
        if now < self._until:
            self._send()
        else:
            self._transport.close()
            if not self._done.done():
                self._done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or ConnectionError("the connection was closed"))

    def _fail(self, error: Exception) -> None:
        if not self._done.done():
            self._done.set_exception(error)


def request(path: str, body: dict[str, object], headers: dict[str, str]) -> bytes:
    """The bytes of one POST."""
    data = json.dumps(body, separators=(",", ":")).encode()
    lines = {
        "Host": "127.0.0.1",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "Content-Length": str(len(data)),
        **headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + data


def load(port: int, requests: list[bytes], seconds: float) -> Result:
    """Send each of ``requests`` over a connection of its own, again and again."""

    async def run() -> Result:
        loop = asyncio.get_running_loop()
        latencies: list[float] = []
        begun = time.perf_counter()
        done = [loop.create_future() for _ in requests]
        for each, future in zip(requests, done, strict=True):
            await loop.create_connection(
                lambda each=each, future=future: _Connection(each, begun + seconds, latencies, future),
                "127.0.0.1",
                port,
            )
        await asyncio.gather(*done)
        elapsed = time.perf_counter() - begun
        latencies.sort()
        return Result(
            len(latencies) / elapsed,
            latencies[len(latencies) // 2] * 1000,
            latencies[int(len(latencies) * 0.99)] * 1000,
        )

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())
