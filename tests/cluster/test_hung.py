"""A worker whose event loop stands still is killed, and nobody else: real processes, on a clock that the test moves."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from bridge.cli.hung import HUNG, LOOK, end_the_hung
from bridge.cluster.board import Board
from tests.cluster.conftest import StartWorkers, held_by
from tests.faketime import FakeTime
from tests.faults.conftest import until

WORKER = """
import os, sys, time
from bridge.cluster.board import Board
index, board = int(sys.argv[1]), Board(int(sys.argv[2]), 2)
board.set_epoch(index, 1)
while True:
    board.set_children(index, 0)
    time.sleep(0.005)
"""


@pytest.fixture
def board() -> Board:
    return Board.make(2)


@pytest.fixture
async def processes(board: Board) -> AsyncIterator[dict[int, asyncio.subprocess.Process]]:
    """Two that say that they live, as workers do."""
    found = {
        index: await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", WORKER, str(index), str(board.descriptor)), pass_fds=[board.descriptor]
        )
        for index in (1, 2)
    }
    yield found
    for process in found.values():
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    board.close()


async def test_only_a_worker_that_says_nothing_for_long_is_killed(
    board: Board, processes: dict[int, asyncio.subprocess.Process], caplog: pytest.LogCaptureFixture
) -> None:
    time = FakeTime()
    watching = asyncio.create_task(end_the_hung(board, processes, time.clock, time.sleep))

    async def look(*living: int) -> None:
        """Let these say something, and the parent look."""
        before = {index: board.beats(index) for index in living}
        await until(lambda: all(board.beats(index) != before[index] for index in living), "no sign of life", 20)
        await time.advance(LOOK)

    await until(lambda: bool(board.epoch(1) and board.epoch(2)), "they do not start", 20)
    await look(1, 2)
    for stopped in (signal.SIGSTOP, signal.SIGCONT):  # one that goes on in time is spared
        processes[1].send_signal(stopped)
        for _ in range(round(HUNG / LOOK) - 1):
            await look(*((2,) if stopped is signal.SIGSTOP else (1, 2)))
    assert processes[1].returncode is None
    processes[1].send_signal(signal.SIGSTOP)
    for _ in range(round(HUNG / LOOK) + 5):
        await look(2)
    assert [record.getMessage() for record in caplog.records if "killed" in record.message] == [
        "worker w1 gives no sign of life for 60 s and is killed"
    ]
    async with asyncio.timeout(10):
        assert await processes[1].wait() == -signal.SIGKILL
    assert processes[2].returncode is None
    watching.cancel()


async def test_one_that_is_not_ready_yet_is_not_killed(board: Board) -> None:
    class Starting:
        def kill(self) -> None:
            raise AssertionError("it has had no time")

    time = FakeTime()
    watching = asyncio.create_task(end_the_hung(board, {1: Starting()}, time.clock, time.sleep))
    for _ in range(30):
        await time.advance(LOOK)
    assert not watching.done()
    watching.cancel()


@pytest.mark.slow
async def test_the_parent_replaces_a_worker_that_hangs(start_workers: StartWorkers, tmp_path: Path) -> None:
    """With another idea of what is long: real workers have no clock that a test could move."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nif sys.argv[0] == '-m':\n    from bridge.cli import hung\n    hung.HUNG, hung.LOOK = 4.0, 0.2\n"
    )
    workers = await start_workers(PYTHONPATH=f"{tmp_path}:{Path(__file__).parent.parent.parent}")
    await held_by(workers, "w1")
    process, socket = await workers.process("w1"), workers.socket("w1")
    process.suspend()
    try:
        assert "worker w1 gives no sign of life for 4 s and is killed" in await workers.served.line_with("sign of life")
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()  # one that stands still does not hear that its parent has gone
    await workers.replaced("w1", socket)
    await held_by(workers, "w1")
