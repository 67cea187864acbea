"""What is kept of a session's event streams, and how much."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.children.stream import Stream
from bridge.protocol.errors import Rejection
from bridge.sessions.backlog import KEPT_EMPTY, Backlog


def test_what_followed_an_event_is_found_on_its_own_stream() -> None:
    backlog = Backlog()
    one, two = backlog.open(Stream()), backlog.open(Stream())
    begin = one.last_id
    ids = [backlog.record(track, message) for track, message in ((one, b"a"), (two, b"b"), (one, b"c"))]
    assert backlog.find(begin) == (one, [(ids[0], b"a"), (ids[2], b"c")])
    assert backlog.find(ids[0]) == (one, [(ids[2], b"c")])
    assert backlog.find(ids[1]) == (two, [])


def test_the_oldest_events_are_forgotten_over_the_count() -> None:
    backlog = Backlog(events=2)
    one, two = backlog.open(Stream()), backlog.open(Stream())
    first = backlog.record(one, b"a")
    begin = two.last_id
    backlog.record(two, b"b")
    backlog.record(two, b"c")
    assert backlog.find(first) == (one, [])  # nothing followed it, so nothing is missing
    assert len(backlog.find(begin)[1]) == 2
    backlog.record(one, b"d")
    with pytest.raises(Rejection, match="too old"):
        backlog.find(begin)


def test_a_message_over_the_size_is_not_kept() -> None:
    backlog = Backlog(size=10)
    track = backlog.open(Stream())
    begin = track.last_id
    backlog.record(track, b"x" * 11)
    with pytest.raises(Rejection, match="too old"):
        backlog.find(begin)
    assert backlog.find(track.last_id) == (track, [])


def test_an_ended_stream_of_which_nothing_is_kept_is_forgotten() -> None:
    backlog = Backlog(events=1)
    stream = Stream()
    track = backlog.open(stream)
    last = backlog.record(track, b"a")
    stream.end()
    backlog.record(backlog.open(Stream()), b"b")
    with pytest.raises(Rejection):
        backlog.find(last)


def test_what_nobody_read_can_be_fetched_later() -> None:
    backlog = Backlog()
    stream = Stream()
    track = backlog.open(stream)
    begin = track.last_id
    stream.put(b"a")
    stream.put(b"b")
    backlog.settle(track)
    assert [message for _, message in backlog.find(begin)[1]] == [b"a", b"b"]


def test_of_lost_streams_without_events_those_left_last_are_known() -> None:
    backlog = Backlog()
    tracks = [backlog.open(Stream()) for _ in range(3 * KEPT_EMPTY)]
    live, heard, *lost = tracks
    first, *others = lost
    seen = backlog.record(heard, b"a")
    backlog.leave(heard)
    for track in others:
        backlog.leave(track)
        first.idle = False  # its client comes back again and again
        backlog.leave(first)
    assert [backlog.find(each)[0] for each in (live.last_id, seen, first.last_id)] == [live, heard, first]
    known = [track for track in lost if track.number in backlog._tracks]
    assert known == [first, *others[1 - KEPT_EMPTY :]]  # however old it is
    with pytest.raises(Rejection, match="open a stream without"):
        backlog.find(others[0].last_id)


def test_a_stream_that_its_client_has_no_id_of_is_kept_from_its_first_event_on() -> None:
    backlog, kept = Backlog(), []
    backlog.on_event = lambda track, message: kept.append((track.number, track.sent, message))
    one, two = backlog.open(Stream(), shown=False), backlog.open(Stream(), shown=False)
    backlog.leave(one)
    note = b'{"jsonrpc":"2.0","method":"x"}'
    begin = two.last_id
    ids = [backlog.record(two, note) for _ in range(2)]
    assert kept == [(2, 0, b"[]"), (2, 1, note), (2, 2, note)]
    backlog.leave(two)
    restored = Backlog()
    restored.restore(0, kept)
    assert restored.find(begin)[1] == backlog.find(begin)[1] == [(each, note) for each in ids]
    assert not restored.find(begin)[0].stream.ended  # it goes on
    with pytest.raises(Rejection):
        backlog.find(one.last_id)


@given(st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=8)), max_size=60))
def test_what_is_found_is_right_or_refused_and_the_limits_hold(sent: list[tuple[int, bytes]]) -> None:
    backlog = Backlog(events=10, size=40)
    tracks = [backlog.open(Stream()) for _ in range(4)]
    begins = [track.last_id for track in tracks]
    said: list[list[bytes]] = [[], [], [], []]
    for number, message in sent:
        backlog.record(tracks[number], message)
        said[number].append(message)
        assert len(backlog) <= 10
    for begin, messages in zip(begins, said, strict=True):
        try:
            _, found = backlog.find(begin)
        except Rejection:
            assert messages  # it had something to forget
        else:
            assert [message for _, message in found] == messages


@pytest.mark.parametrize("answered", [True, False])
def test_a_restored_stream_ends_with_an_error_for_each_request_that_was_not_answered(answered: bool) -> None:
    answer = b'{"jsonrpc":"2.0","id":7,"result":{}}'
    backlog = Backlog()
    backlog.restore(1, [(1, 0, b"[7]"), *([(1, 1, answer)] if answered else [])])
    _, [*missed] = backlog.find("1-0")
    [(_, message)] = missed
    assert (message == answer) is answered
    assert (b"send the request again" in message) is not answered


@pytest.mark.parametrize("damaged", [b"", b"{", b"[7", b"\xff", b'{"jsonrpc":"2.0"}', b"[" * 100_000])
def test_a_damaged_event_is_left_out_and_the_others_are_there(damaged: bytes) -> None:
    note, answer = b'{"jsonrpc":"2.0","method":"x"}', b'{"jsonrpc":"2.0","id":7,"result":{}}'
    backlog = Backlog()
    kept = [
        (1, 0, b"[7]"),
        (1, 1, note),
        (1, 2, damaged),
        (1, 3, answer),
        (2, 0, b"[8]"),
        (2, 1, damaged),
        (3, 1, note),
    ]
    backlog.restore(3, [*kept, (4, 0, damaged), (4, 1, note)])
    assert backlog.find("1-0")[1] == [("1-1", note), ("1-3", answer)]
    [(event_id, message)] = backlog.find("2-0")[1]
    assert event_id == "2-2"  # its client may have seen the damaged one
    assert b"send the request again" in message
    assert backlog.find("4-0")[0].stream.ended  # of a GET stream nothing tells
    assert [backlog.find(f"{number}-0")[1] for number in (3, 4)] == [[(f"{number}-1", note)] for number in (3, 4)]
