"""Two bridges that write to one folder of logs: the second one says so."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from bridge.observe.claim import NAME, claimed


def test_whoever_comes_second_is_warned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with claimed(tmp_path):
        assert caplog.messages == []
        with claimed(tmp_path):
            [said] = caplog.messages
            assert said == f"LOG_DIR: another bridge writes to {tmp_path} too; set another LOG_DIR for one"


def test_one_after_the_other_is_fine(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        with claimed(tmp_path):
            pass
    assert caplog.messages == []


def test_an_heir_is_not_warned_and_has_it_then(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    old = claimed(tmp_path)
    old.__enter__()
    with claimed(tmp_path, is_heir=True):
        old.__exit__(None, None, None)
        assert caplog.messages == []
        with claimed(tmp_path):
            assert len(caplog.messages) == 1


def test_of_two_that_come_at_once_one_is_warned_and_both_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    descriptor = os.open(tmp_path / NAME, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with claimed(tmp_path):
        assert len(caplog.messages) == 1
    os.close(descriptor)


def test_a_folder_that_is_not_there_is_somebody_elses_matter(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with claimed(tmp_path / "gone"):
        assert caplog.messages == []
