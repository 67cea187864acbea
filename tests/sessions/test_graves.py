"""What is remembered of sessions that have ended."""

from __future__ import annotations

import pytest

from bridge.sessions.graves import LATE_COMERS, LATE_WINDOW, REMEMBERED, Graves
from tests.faketime import FakeTime


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def graves(time: FakeTime) -> Graves:
    return Graves(time.clock, "STREAM_SESSION_TTL_MS")


def test_the_reason_of_an_end_is_remembered_and_that_of_the_oldest_forgotten(graves: Graves) -> None:
    for number in range(REMEMBERED + 1):
        graves.bury(str(number), f"why {number}", expired=False)
    assert graves.reason("0") is None
    assert graves.reason("1") == "why 1"
    assert graves.reason("never there") is None


def test_many_who_come_too_late_are_a_warning_that_names_the_setting(
    graves: Graves, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(LATE_COMERS):
        graves.bury(str(number), "idle for 300s", expired=True)
    for number in range(LATE_COMERS - 1):
        graves.reason(str(number))
        graves.reason(str(number))  # the same client asks again, and counts once
    assert not caplog.records
    graves.reason(str(LATE_COMERS - 1))
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert "raise STREAM_SESSION_TTL_MS" in record.message


def test_a_few_who_come_too_late_now_and_then_are_nothing_to_tell(
    graves: Graves, time: FakeTime, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3 * LATE_COMERS):
        graves.bury(str(number), "idle for 300s", expired=True)
        time.now += LATE_WINDOW / (LATE_COMERS - 1)
        graves.reason(str(number))
    assert not caplog.records


def test_sessions_that_their_clients_ended_are_nothing_to_tell(
    graves: Graves, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3 * LATE_COMERS):
        graves.bury(str(number), "the client deleted it", expired=False)
        graves.reason(str(number))
    assert not caplog.records
