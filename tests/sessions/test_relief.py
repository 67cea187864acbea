"""What happens to idle sessions when something runs out."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from bridge.process.pressure import Reading
from bridge.protocol.states import SessionState
from bridge.sessions.pool import SessionPool
from bridge.sessions.relief import LEAST, Relief, Resource
from bridge.sessions.room import SessionEntry
from bridge.sessions.streamable import StreamableSession
from bridge.sessions.vacant import Vacant
from tests.faketime import FakeTime


async def _never() -> Any:
    raise AssertionError


class Parking:
    """What relief needs of the seating: it parks."""

    def __init__(self, pool: SessionPool[StreamableSession]) -> None:
        self.pool = pool
        self.parked: list[str] = []

    def may_park(self, entry: SessionEntry) -> bool:
        return entry.key != "forgetful"

    def park(self, entry: SessionEntry, why: str) -> None:
        assert "ran out" in why
        self.parked.append(entry.key)
        self.pool.park(entry)


class Stage:
    """A pool, memory that sheds and children that do not."""

    def __init__(self) -> None:
        self.time = FakeTime()
        self.pool: SessionPool[StreamableSession] = SessionPool("streamable", self.time.clock, limit=100)
        self.memory = self.children = 0.0
        self.ended: list[str] = []
        self.parking = Parking(self.pool)
        resources = (
            Resource(lambda: Reading(self.memory, "all of the memory"), high=0.9, low=0.8, sheds=True),
            Resource(lambda: Reading(self.children, "all of the children"), high=0.9, low=0.8, sheds=False),
        )
        self.relief = Relief(self.pool, self.parking, resources, self.end, self.time.sleep)  # type: ignore[arg-type]

    def open(self, key: str, *, kept: bool = False) -> SessionEntry:
        self.time.now += 1
        session = StreamableSession(key, "peer", Vacant(_never))
        session.is_kept = kept
        entry = self.pool.add(key, session, 800.0)
        self.pool.opened(entry)
        return entry

    def end(self, entry: SessionEntry, why: str) -> None:
        assert "all of the memory" in why
        assert self.pool.take(entry)
        self.ended.append(entry.key)


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_with_room_for_everyone_nothing_happens(stage: Stage) -> None:
    stage.open("a")
    stage.memory = stage.children = 0.89
    stage.relief.look()
    assert (stage.ended, stage.pool.ttl_scale, stage.relief.reasons) == ([], 1.0, [])


def test_the_least_recently_used_go_first_a_portion_at_a_time(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for number in range(30):
        stage.open(f"{number}")
    used = stage.pool.find("0")
    assert used is not None
    stage.pool.enter(used)
    stage.memory = 0.95
    stage.relief.look()
    assert stage.ended == ["1", "2"]
    stage.relief.look()
    assert stage.ended == ["1", "2", "3", "4"]
    assert stage.pool.reaped["pressure"] == 4
    assert "Session ended session_id=1...: the bridge ran out: all of the memory in use" in caplog.text


def test_kept_sessions_are_parked_and_not_ended(stage: Stage) -> None:
    kept = stage.open("kept", kept=True)
    stage.open("forgetful", kept=True)
    stage.open("temporary")
    stage.memory = 0.95
    stage.relief.look()
    assert stage.parking.parked == ["kept"]
    assert kept.state is SessionState.DORMANT
    assert stage.ended == []
    stage.relief.look()  # the forgetful one would not be the same after a replay
    assert (stage.parking.parked, stage.ended) == (["kept"], ["temporary"])


def test_a_mark_is_left_lower_than_it_is_entered(stage: Stage) -> None:
    stage.memory = 0.95
    stage.relief.look()
    stage.memory = 0.85
    stage.relief.look()
    assert stage.relief.reasons == ["all of the memory"]
    stage.memory = 0.79
    stage.relief.look()
    assert (stage.relief.reasons, stage.pool.ttl_scale) == ([], 1.0)


def test_idle_times_shrink_step_by_step_to_a_least_part(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    entry = stage.open("a")
    stage.children = 0.95
    scales = []
    for _ in range(5):
        stage.relief.look()
        scales.append(stage.pool.ttl_scale)
    assert scales == [1 / 2, 1 / 4, 1 / 8, 1 / 8, 1 / 8]
    assert stage.ended == []  # the number of children is no reason to end anyone before that
    stage.time.now += 800 * LEAST - 1
    assert stage.pool.take_expired() == []
    stage.time.now += 1
    assert stage.pool.take_expired() == [entry]
    assert stage.pool.reaped == {"pressure": 1}
    assert len(caplog.records) == 3  # each step is told once


def test_readings_of_this_machine_are_shares() -> None:
    from bridge.process import pressure

    for reading in (pressure.memory(), pressure.descriptors()):
        assert 0 < reading.share < 1
        assert reading.text


def test_the_limit_of_a_control_group_counts_where_there_is_one(tmp_path: Any) -> None:
    from bridge.process import pressure

    for name, text in (
        ("memory.max", "104857600\n"),
        ("memory.current", "94371840\n"),
        ("memory.stat", "anon 1\ninactive_file 41943040\n"),
    ):
        (tmp_path / name).write_text(text)
    reading = pressure.memory(tmp_path)
    assert reading.share == pytest.approx(0.5)
    assert reading.text == "50 of 100 MiB of memory"
    (tmp_path / "memory.max").write_text("max\n")
    assert pressure.memory(tmp_path).share == pytest.approx(pressure.memory(tmp_path / "none").share, abs=0.05)


def test_sessions_whose_process_works_at_a_task_go_last(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StreamableSession, "works", property(lambda session: session.id == "a"))
    for key in "abc":
        stage.open(key)
    stage.memory = 0.95
    for _ in range(3):
        stage.relief.look()
    assert stage.ended == ["b", "c", "a"]
