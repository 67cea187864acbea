"""``make endurance``, scaled down: the same code with smaller numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.endurance import abandoned, churn, deaths, equal_ids, neighbours

pytestmark = pytest.mark.slow


async def test_children_killed_under_load_leave_no_request_without_its_end(tmp_path: Path) -> None:
    numbers = await deaths(tmp_path, 0.02, most=5)  # on a machine that may be busy
    assert numbers["kills"] >= 15
    assert numbers["answers"] + numbers["errors"] == 2000
    assert numbers["errors"] > 0


async def test_requests_with_one_id_in_fifty_sessions_are_never_crossed(tmp_path: Path) -> None:
    assert (await equal_ids(tmp_path, 0.01))["requests"] == 10_000


async def test_sessions_that_come_and_go_leave_nothing(tmp_path: Path) -> None:
    assert (await churn(tmp_path, 0.05))["sessions"] == 50


async def test_sessions_that_are_opened_and_left_make_room_and_end(tmp_path: Path) -> None:
    numbers = await abandoned(tmp_path, 0.02)
    assert (numbers["sessions"], numbers["at once"]) == (200, 20)


async def test_a_session_is_served_beside_floods_large_lines_and_stalled_readers(tmp_path: Path) -> None:
    # What a busy machine does to the slowest call is not ours; ``make endurance`` asks for 100 ms.
    numbers = await neighbours(tmp_path, 0.2, most=2000)
    assert all(numbers[f"{name}: p50 ms"] < 500 for name in ("flood", "50 MB line", "stalled reader"))
