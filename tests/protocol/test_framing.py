"""Bytes to lines, whatever the chunks."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.protocol import framing
from bridge.protocol.framing import BUFFERED, HEAD_BYTES, LineSplitter, Oversized

lines = st.lists(st.binary(min_size=1, max_size=40).map(lambda b: b"x" + b.replace(b"\n", b"") + b"x"), max_size=8)


@pytest.fixture(params=[BUFFERED, 8], autouse=True, scope="module")
def _buffered(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whether lines are collected in a list or in a buffer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(framing, "BUFFERED", request.param)
        yield


def feed_in_pieces(splitter: LineSplitter, data: bytes, cuts: list[int]) -> list[bytes | Oversized]:
    out: list[bytes | Oversized] = []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        out += splitter.feed(data[start:end])
    return out + splitter.finish()


@given(lines, st.lists(st.integers(0, 1000), max_size=12), st.booleans())
def test_chunks_do_not_matter(whole: list[bytes], cuts: list[int], ended: bool) -> None:
    data = b"\n".join(whole) + (b"\n" if ended else b"")
    assert feed_in_pieces(LineSplitter(1000), data, cuts) == whole


@given(st.integers(0, 30), st.lists(st.integers(0, 1000), max_size=12))
def test_a_line_over_the_limit_costs_only_itself(extra: int, cuts: list[int]) -> None:
    big = b"y" * (21 + extra)
    out = feed_in_pieces(LineSplitter(20), b"before\n" + big + b"\nafter\n", cuts)
    assert out == [b"before", Oversized(big, len(big)), b"after"]


@given(st.integers(HEAD_BYTES, 3 * HEAD_BYTES), st.lists(st.integers(0, 5000), max_size=12))
def test_both_ends_of_a_line_over_the_limit_are_kept(size: int, cuts: list[int]) -> None:
    big = bytes(index % 251 + 1 for index in range(size)).replace(b"\n", b"-")
    [line] = feed_in_pieces(LineSplitter(20), big + b"\n", cuts)
    assert isinstance(line, Oversized)
    assert line.size == size
    assert line.head == big[:HEAD_BYTES]
    assert line.tail == big[HEAD_BYTES:][-HEAD_BYTES:]


def test_an_oversized_line_is_not_kept_in_memory() -> None:
    splitter = LineSplitter(10)
    for _ in range(1000):
        splitter.feed(b"z" * 1000)
    assert sum(map(len, splitter._parts)) <= 3 * HEAD_BYTES
    [line] = splitter.feed(b"\n")
    assert isinstance(line, Oversized)
    assert line.size == 1_000_000


def test_a_line_of_many_megabytes_is_in_memory_once() -> None:
    part, splitter = b"z" * 65536, LineSplitter(10**9)
    tracemalloc.start()
    try:
        for _ in range(640):
            splitter.feed(bytes(bytearray(part)))  # each chunk is one of its own
        [line] = splitter.feed(b"\n")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(line, bytes)
    assert line == part * 640
    assert peak < 1.5 * len(line)


def test_carriage_returns_and_blank_lines_are_no_messages() -> None:
    assert LineSplitter(100).feed(b'{"a":1}\r\n\n  \r\n{"b":2}\n') == [b'{"a":1}', b'{"b":2}']


def test_a_byte_order_mark_is_no_part_of_a_message() -> None:
    assert LineSplitter(100).feed(b'\xef\xbb\xbf{"a":1}\n\xef\xbb\xbf\n {"b":2}\n') == [b'{"a":1}', b'{"b":2}']
