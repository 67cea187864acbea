"""Workers of one host see each other over a piece of memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.cluster.board import Board, Workers
from bridge.cluster.members import Member, emptiest


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board.make(3)
    yield made
    made.close()


def test_a_worker_sees_those_that_listen(board: Board) -> None:
    first, second = (Workers(board, Path("/run/x"), index, 70 + index) for index in (1, 2))
    assert first.find("w2") is None
    first.listens()
    second.listens()
    second.publish(5)
    assert first.find("w2") == Member("w2", 72, "unix:/run/x/w2.72", 5)
    assert first.others() == [second.own]
    assert [first.find(name) for name in ("w3", "w4", "w0", "")] == [None] * 4
    board.set_epoch(2, 0)
    assert first.others() == []


def test_another_process_sees_the_same(board: Board) -> None:
    copy = Board(os.dup(board.descriptor), 3)
    copy.set_epoch(3, 9)
    copy.set_children(3, 4)
    assert (board.epoch(3), board.children(3), board.beats(3)) == (9, 4, 1)
    copy.close()


@pytest.mark.parametrize(
    ("own", "others", "goes_to"),
    [
        (0, [0, 0], "own"),
        (2, [0, 5], "own"),
        (3, [0, 5], "0"),
        (9, [8, 4], "1"),
        (110, [100], "own"),
        (111, [100], "0"),
        (50, [], "own"),
    ],
)
def test_a_new_session_goes_to_the_emptiest_unless_it_is_nearly_as_empty_here(
    own: int, others: list[int], goes_to: str
) -> None:
    members = [Member(str(index), 1, "", children) for index, children in enumerate(others)]
    assert emptiest(Member("own", 1, "", own), members).node == goes_to
