"""A log of several processes: each line whole and there once, however often it is rotated meanwhile."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import pytest

from bridge.observe.shared import SharedFile
from tests.writers import write_at_once

WRITERS, LINES, MOST = 4, 400, 2_000
LONGEST = 320
WRITER = """
import logging, sys
from pathlib import Path
from bridge.observe.shared import SharedFile
path, name, lines, most, keep = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])
handler = SharedFile(path, most, keep)
sys.stdin.readline()
for number in range(lines):
    handler.emit(logging.makeLogRecord({"msg": f"{name} {number} " + name * (number % 300) + " end"}))
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
    handler.emit(logging.makeLogRecord({"msg": "one"}))
    path = tmp_path / "bridge.log"
    path.rename(tmp_path / "elsewhere") if how == "rename" else path.unlink()
    handler.emit(logging.makeLogRecord({"msg": "two"}))
    handler.close()
    assert path.read_text() == "two\n"
