"""Event streams: the fields, the line ends, the limit, and what a reader needs to come back."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.protocol.framing import HEAD_BYTES, Oversized
from bridge.protocol.sse import Event, EventParser


def parse(data: bytes, limit: int = 1000) -> list[Event]:
    return EventParser(limit).feed(data)


def test_an_event_is_its_data() -> None:
    assert parse(b'data: {"a":1}\n\n') == [Event("message", b'{"a":1}')]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_each_line_end_of_the_standard_is_one(end: bytes) -> None:
    stream = end.join([b"event: endpoint", b"data: /here", b"", b"data: 1", b"data: 2", b"", b""])
    expected = [Event("endpoint", b"/here"), Event("message", b"1\n2")]
    assert parse(stream) == expected
    byte_by_byte = EventParser(1000)
    assert [event for at in range(len(stream)) for event in byte_by_byte.feed(stream[at : at + 1])] == expected


@pytest.mark.parametrize(
    ("stream", "data"),
    [
        (b"data:x\n\n", b"x"),
        (b"data:  x\n\n", b" x"),
        (b"data: x: y\n\n", b"x: y"),
        (b": comment\ndata: x\n\n", b"x"),
        (b"\xef\xbb\xbfdata: x\n\n", b"x"),
        (b"unknown: 1\nnothing\ndata: x\n\n", b"x"),
        (b"data: \xc3\xa9\xe2\x80\xa8\n\n", "é\u2028".encode()),
    ],
)
def test_what_belongs_to_the_data(stream: bytes, data: bytes) -> None:
    assert parse(stream) == [Event("message", data)]


@pytest.mark.parametrize("stream", [b"", b"\n\n\n", b": ping\n\n", b"event: x\n\n", b"data\n\n", b"data: cut"])
def test_what_has_no_data_or_no_end_is_no_event(stream: bytes) -> None:
    assert parse(stream) == []


def test_an_empty_event_primes_a_stream_with_its_id() -> None:
    parser = EventParser(100)
    assert parser.feed(b"retry: 1500\nid: a\ndata: \n\n") == []
    assert (parser.last_id, parser.retry, parser.count) == ("a", 1.5, 1)


def test_the_id_is_that_of_the_last_event_that_arrived_whole() -> None:
    parser = EventParser(100)
    parser.feed(b"id: 1\ndata: x\n\ndata: keeps the id\n\nid: 2\ndata: half")
    assert parser.last_id == "1"
    parser.reopen()
    assert parser.feed(b"data: y\n\n") == [Event("message", b"y")]
    assert parser.last_id == "1"
    parser.feed(b"id: 3\ndata: z\n\n")
    assert parser.last_id == "3"


def test_an_id_that_no_header_can_bring_back_is_none() -> None:
    parser = EventParser(100)
    parser.feed(b"id: 1\ndata: x\n\nid: a\x01b\ndata: y\n\nid: a\x00\ndata: z\n\n")
    assert parser.last_id == "1"


def test_half_an_event_is_forgotten_when_the_stream_goes_on() -> None:
    parser = EventParser(100)
    parser.feed(b"event: x\ndata: half\ndata: an ev")
    parser.reopen()
    assert parser.feed(b"data: whole\n\n") == [Event("message", b"whole")]


@pytest.mark.parametrize("field", [b"id: a\0b", b"id: " + b"x" * (HEAD_BYTES + 1), b"retry: soon", b"retry: -1"])
def test_fields_that_are_none_are_ignored(field: bytes) -> None:
    parser = EventParser(10_000)
    parser.feed(field + b"\ndata: x\n\n")
    assert (parser.last_id, parser.retry) == ("", None)


def test_comments_are_no_sign_that_anything_came() -> None:
    parser = EventParser(100)
    parser.feed(b": ping\n\n: ping\n\n")
    assert parser.count == 0


@pytest.mark.parametrize("chunk", [1, 7, 100_000])
def test_an_event_over_the_limit_is_reported_once_and_reading_goes_on(chunk: int) -> None:
    parser = EventParser(2000)
    long = b'{"id":7,' + b"x" * 5000
    stream = b"id: 1\ndata: %b\n\nid: 2\ndata: y\n\n" % long
    events = [event for at in range(0, len(stream), chunk) for event in parser.feed(stream[at : at + chunk])]
    assert events == [Event("message", Oversized(long[:HEAD_BYTES], len(long))), Event("message", b"y")]
    assert parser.last_id == "2"


def test_the_limit_holds_for_the_lines_of_an_event_together() -> None:
    [event] = parse(b"data: 12345\ndata: 67890\n\n", limit=10)
    assert event.data == Oversized(b"12345\n67890", 11)
    assert parse(b"data: 12345\ndata: 6789\n\n", limit=10) == [Event("message", b"12345\n6789")]


def test_a_comment_without_end_takes_no_memory() -> None:
    parser = EventParser(2000)
    parser.feed(b":")
    for _ in range(1000):
        parser.feed(b"x" * 1000)
    assert sum(map(len, parser._line)) <= 3000
    assert parser.feed(b"\ndata: x\n\n") == [Event("message", b"x")]


@given(
    st.lists(st.sampled_from([b"data: x", b"data:", b"id: 5", b"event: e", b": c", b"", b"\r", b"\n", b"\r\n", b"y"])),
    st.lists(st.integers(0, 80)),
)
def test_it_does_not_matter_where_the_chunks_are_cut(parts: list[bytes], cuts: list[int]) -> None:
    stream = b"\n".join(parts) + b"\n\n"
    whole, pieces = EventParser(5), EventParser(5)
    at = [0, *sorted(cuts), len(stream)]
    events = [event for start, end in itertools.pairwise(at) for event in pieces.feed(stream[start:end])]
    assert events == whole.feed(stream)
    assert (pieces.last_id, pieces.count) == (whole.last_id, whole.count)
