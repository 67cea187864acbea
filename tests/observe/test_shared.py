"""A log of several processes: each line whole and there once, however often it is rotated meanwhile."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.observe.shared import SharedFile
from tests.writers import write_at_once

WRITERS, LINES, MOST = 4, 400, 2_000
LONGEST = 320
WRITER = r"""
import sys
from pathlib import Path
from bridge.observe.shared import SharedFile
path, name, lines, most, keep = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])
handler = SharedFile(path, most, keep)
sys.stdin.readline()
for number in range(lines):
    handler.write([f"{name} {number} " + name * (number % 300) + " end\n"])
"""


def written(folder: Path) -> list[str]:
    return [line for path in folder.glob("bridge.log*") for line in path.read_text().splitlines()]


def run_writers(path: Path, keep: int) -> None:
    """Let all write at once, to the end."""
    numbers = (str(LINES), str(MOST), str(keep))
    write_at_once(WRITER, [(str(path), name, *numbers) for name in "abcd"[:WRITERS]])


def test_no_line_is_lost_torn_or_doubled_while_processes_rotate(tmp_path: Path) -> None:
    run_writers(tmp_path / "bridge.log", keep=1000)
    lines = Counter(written(tmp_path))
    wanted = [f"{name} {number} {name * (number % 300)} end" for name in "abcd"[:WRITERS] for number in range(LINES)]
    assert lines == Counter(wanted)
    files = list(tmp_path.glob("bridge.log.*"))
    assert len(files) >= sum(map(len, wanted)) // (MOST + WRITERS * LONGEST) - 1
    # Only a full one is rotated; a process that has looked just before that puts its one line behind.
    assert all(MOST - LONGEST <= path.stat().st_size <= MOST + WRITERS * LONGEST for path in files)


def test_no_more_files_are_kept_than_that(tmp_path: Path) -> None:
    run_writers(tmp_path / "bridge.log", keep=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bridge.log", *(f"bridge.log.{n}" for n in (1, 2, 3))]


@pytest.mark.parametrize("how", ["rename", "unlink"])
def test_a_file_that_somebody_else_has_moved_is_left(tmp_path: Path, how: str) -> None:
    handler = SharedFile(tmp_path / "bridge.log")
    handler.write(["one\n"])
    path = tmp_path / "bridge.log"
    path.rename(tmp_path / "elsewhere") if how == "rename" else path.unlink()
    handler.write(["two\n"])
    handler.close()
    assert path.read_text() == "two\n"


@pytest.mark.parametrize("at_once", [1, 3, 1000])
def test_however_many_lines_come_at_once_each_file_is_full_and_none_too_large(tmp_path: Path, at_once: int) -> None:
    most, lines = 1000, [f"line {number}\n" for number in range(500)]
    file = SharedFile(tmp_path / "bridge.log", most, keep=1000)
    for start in range(0, len(lines), at_once):
        file.write(lines[start : start + at_once])
    file.close()
    older = sorted(tmp_path.glob("bridge.log.*"), key=lambda path: -int(path.suffix[1:]))
    assert [*(path.read_text() for path in [*older, tmp_path / "bridge.log"])] == list(packed(lines, most))


def packed(lines: list[str], most: int) -> Iterator[str]:
    """The contents of files of at most so many bytes."""
    text = ""
    for line in lines:
        if len(text) + len(line) > most:
            yield text
            text = ""
        text += line
    yield text


def test_a_line_that_fits_no_file_has_one_for_itself(tmp_path: Path) -> None:
    file = SharedFile(tmp_path / "bridge.log", 10)
    wanted = ["a" * 20 + "\n", "b\n", "c" * 20 + "\n", "d\n"]
    file.write(wanted)
    file.close()
    assert [path.read_text() for path in sorted(tmp_path.iterdir(), reverse=True)] == wanted


def test_a_line_longer_than_a_piece_goes_behind_the_others(tmp_path: Path) -> None:
    file = SharedFile(tmp_path / "bridge.log")
    lines = ["short\n", *["x" * 70_000 + "\n"] * 3, "short\n"]
    file.write(lines)
    file.close()
    assert [path.name for path in tmp_path.iterdir()] == ["bridge.log"]
    assert (tmp_path / "bridge.log").read_text() == "".join(lines)


def test_much_at_once_is_written_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    write = os.write

    def counting(descriptor: int, data: bytes) -> int:
        sizes.append(len(data))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", counting)
    file = SharedFile(tmp_path / "bridge.log")
    file.write(["x" * 999 + "\n"] * 200)
    file.close()
    assert (tmp_path / "bridge.log").stat().st_size == 200_000
    assert sizes == [65_000, 65_000, 65_000, 5_000]
