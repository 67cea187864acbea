"""Reading logs from their end, while somebody writes and rotates them."""

from __future__ import annotations

import logging
import logging.handlers
from pathlib import Path

import pytest

from bridge.observe import tail as module
from bridge.observe.tail import Tail


def writer(path: Path, size: int = 0) -> logging.handlers.RotatingFileHandler:
    return logging.handlers.RotatingFileHandler(path, maxBytes=size, backupCount=5, encoding="utf-8")


def write(handler: logging.Handler, first: int, last: int) -> None:
    for number in range(first, last):
        handler.emit(logging.LogRecord("x", logging.INFO, "x", 0, f"line {number}", (), None))


def lines(first: int, last: int) -> list[str]:
    return [f"line {number}" for number in range(first, last)]


@pytest.mark.parametrize("block", [1, 7, 64 * 1024])
@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 1000])
def test_the_last_lines_come_from_rotated_files_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, block: int
) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    handler = writer(tmp_path / "a.log", 300)
    write(handler, 0, 100)
    handler.close()
    assert (tmp_path / "a.log.2").exists()
    with Tail(tmp_path / "a.log") as tail:
        assert tail.last(count) == lines(max(0, 100 - count), 100)
        assert tail.more() == []


def test_what_is_written_later_follows_once_across_rotations(tmp_path: Path) -> None:
    handler = writer(tmp_path / "a.log", 300)
    with Tail(tmp_path / "a.log") as tail:
        found = tail.last(10)
        for number in range(0, 200, 4):
            write(handler, number, number + 4)
            found += tail.more()
    handler.close()
    assert found == lines(0, 200)


def test_what_is_written_while_it_looks_for_a_rotation_is_not_lost(tmp_path: Path) -> None:
    handler = writer(tmp_path / "a.log", 300)

    class Hurried(Tail):
        def _was_rotated(self) -> bool:  # no writer can be asked to write at this moment
            write(handler, 2, 60)
            return super()._was_rotated()

    write(handler, 0, 1)
    with Hurried(tmp_path / "a.log") as tail:
        assert tail.last(10) == lines(0, 1)
        write(handler, 1, 2)
        found = tail.more()
    handler.close()
    assert found[:10] == lines(1, 11), "the rest of the old file"


def test_a_line_of_which_only_the_end_is_within_the_bounds_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 20)
    monkeypatch.setattr(module, "BLOCK", 7)
    (tmp_path / "a.log").write_bytes(b"0123456789\n" * 5)
    with Tail(tmp_path / "a.log") as tail:
        assert tail.last(100) == ["0123456789"]


def test_a_line_comes_when_it_is_whole_and_harmless(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"one\ntw")
    with Tail(path) as tail:
        assert tail.last(5) == ["one"]
        with path.open("ab") as file:
            file.write(b"o\x1b[31m\xff\nthree")
        assert tail.more() == ["two\\x1b[31m\\xff"]
        path.write_bytes(b"")  # emptied in place
        assert tail.more() == []
        path.write_bytes(b"four\n")
        assert tail.more() == ["four"]


def test_a_log_that_is_not_there_yet_has_no_lines(tmp_path: Path) -> None:
    with Tail(tmp_path / "a.log") as tail:
        assert (tail.last(5), tail.more()) == ([], [])
        (tmp_path / "a.log").write_bytes(b"one\n")
        assert tail.more() == ["one"]
