"""A response stream: order, one reader, and a bound on what waits."""

from __future__ import annotations

import asyncio

import pytest

from bridge.children.silence import SilenceWatch
from bridge.children.stream import BACKLOG_BYTES, SHED_BYTES, TOGETHER, Kind, Stream, StreamEnded

MIB = 1024 * 1024


async def test_messages_come_in_order_and_the_end_comes_last() -> None:
    stream = Stream()
    for text in (b"a", b"b"):
        stream.put(text)
    stream.end()
    stream.put(b"too late")
    assert [await stream.receive(), await stream.receive()] == [b"a", b"b"]
    with pytest.raises(StreamEnded):
        await stream.receive()


async def test_a_reader_waits_for_what_comes() -> None:
    stream = Stream()
    reading = asyncio.create_task(stream.receive())
    await asyncio.sleep(0)
    stream.put(b"a")
    assert await reading == b"a"


async def test_a_new_reader_sends_the_old_one_away() -> None:
    stream = Stream()
    old = asyncio.create_task(stream.receive())
    await asyncio.sleep(0)
    reader = stream.take_over()
    stream.put(b"a")
    with pytest.raises(StreamEnded):
        await old
    assert await stream.receive(reader) == b"a"


async def test_a_slow_reader_costs_a_fixed_amount_and_loses_the_oldest_notes_only() -> None:
    stream = Stream()
    stream.put(b"question", Kind.QUESTION)
    for number in range(40):
        stream.put(b"%d" % number + b"x" * MIB, Kind.NOTE)
    stream.put(b"answer" + b"x" * 30 * MIB)
    waiting = stream.waiting
    assert waiting[0] == (b"question", Kind.QUESTION)
    assert waiting[-1][0].startswith(b"answer")
    assert stream.dropped == 40  # the answer alone is over the bound
    assert len(waiting) == 2


async def test_notes_within_the_bound_are_all_kept() -> None:
    stream = Stream()
    for _ in range(BACKLOG_BYTES // MIB):
        stream.put(b"x" * MIB, Kind.NOTE)
    assert stream.dropped == 0
    stream.put(b"y", Kind.NOTE)
    assert stream.dropped == 1 + SHED_BYTES // MIB
    assert stream.waiting[-1][0] == b"y"


async def test_room_is_made_for_many_at_once() -> None:
    stream = Stream()
    stream.put(b"a question that is never asked", Kind.QUESTION)
    for _ in range(200_000):  # minutes, if each looked through all that waits
        stream.put(b"x" * 1000, Kind.NOTE)
    assert BACKLOG_BYTES - SHED_BYTES < sum(len(message) for message, _ in stream.waiting) < BACKLOG_BYTES
    assert stream.dropped + len(stream.waiting) == 200_001
    assert stream.waiting[0][1] is Kind.QUESTION


def _watch(seconds: float = 60) -> SilenceWatch[Stream]:
    return SilenceWatch(seconds, Stream.wake, asyncio.get_running_loop())


async def test_what_waits_is_read_together_up_to_a_size() -> None:
    stream = Stream()
    half = b"x" * (TOGETHER // 2)
    for message in (b"a", b"b", half, half, b"c"):
        stream.put(message)
    assert await stream.receive_within(_watch()) == [b"a", b"b", half, half]
    assert not stream.is_over
    stream.end()
    assert not stream.is_over
    assert await stream.receive_within(_watch()) == [b"c"]
    assert stream.is_over
    with pytest.raises(StreamEnded):
        await stream.receive_within(_watch())


async def test_silence_reads_nothing_and_loses_nothing() -> None:
    stream = Stream()
    assert await stream.receive_within(_watch(0.001)) == []
    stream.put(b"a")
    assert await stream.receive_within(_watch(0.001)) == [b"a"]
