"""Event streams: what waits at the same time is written at the same time."""

from __future__ import annotations

import asyncio

import pytest

from bridge.children.stream import Stream
from bridge.web.reply import PING, keep_alive, plain_event, pump


class _Response:
    """What an aiohttp response would have written, each time."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.wrote = asyncio.Event()

    async def write(self, data: bytes) -> None:
        self.written.append(data)
        self.wrote.set()

    async def write_eof(self, data: bytes = b"") -> None:
        self.written.append(data + b" the end")


async def _pumped(response: _Response, stream: Stream) -> None:
    await pump(response, stream, plain_event, keep_alive(), "a test", head=b"head ")  # type: ignore[arg-type]


async def test_head_events_and_end_that_are_there_together_are_one_write() -> None:
    stream, response = Stream(), _Response()
    stream.put(b"1")
    stream.put(b"2")
    stream.end()
    await _pumped(response, stream)
    assert response.written == [b"head " + plain_event(b"1") + plain_event(b"2") + b" the end"]


async def test_a_head_does_not_wait_for_the_first_event() -> None:
    stream, response = Stream(), _Response()
    pumping = asyncio.create_task(_pumped(response, stream))
    await response.wrote.wait()
    assert response.written == [b"head "]
    response.wrote.clear()
    stream.put(b"1")
    await response.wrote.wait()
    stream.put(b"2")
    stream.end()
    await pumping
    assert response.written == [b"head ", plain_event(b"1"), plain_event(b"2") + b" the end"]


async def test_who_took_over_ends_the_stream_and_nobody_before() -> None:
    stream, response = Stream(), _Response()
    pumping = asyncio.create_task(_pumped(response, stream))
    await response.wrote.wait()
    stream.take_over()
    stream.put(b"1")
    stream.end()
    await pumping
    assert response.written == [b"head "]


async def test_silence_is_broken_by_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.web.reply.KEEP_ALIVE", 0.001)
    stream, response = Stream(), _Response()
    pumping = asyncio.create_task(_pumped(response, stream))
    while len(response.written) < 3:
        response.wrote.clear()
        await response.wrote.wait()
    stream.end()
    await pumping
    assert response.written[:3] == [b"head ", PING, PING]
