"""When a server that keeps ending may be started again."""

from __future__ import annotations

import pytest

from bridge.children.restart import FREE_FAILURES, LONGEST_DELAY, Restarts
from bridge.protocol.errors import ChildUnavailable
from bridge.protocol.states import StartState
from tests.faketime import FakeTime


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


def make(time: FakeTime, most: int | None = None, first: float = 1.0, jitter: float = 1.0) -> Restarts:
    return Restarts("mail", most, first, time.clock, lambda: jitter)


def fail(restarts: Restarts, times: int) -> None:
    for _ in range(times):
        restarts.begin().failed("exit code 3")


def refused(restarts: Restarts) -> ChildUnavailable:
    with pytest.raises(ChildUnavailable) as caught:
        restarts.begin()
    return caught.value


def test_a_few_failures_are_free(time: FakeTime) -> None:
    restarts = make(time)
    fail(restarts, FREE_FAILURES)
    error = refused(restarts)
    assert restarts.state is StartState.BACKOFF
    assert "failed 5 times in a row" in str(error)
    assert "exit code 3" in str(error)
    assert error.retry_in == 1.0


def test_each_wait_is_twice_as_long_up_to_the_longest(time: FakeTime) -> None:
    restarts = make(time)
    fail(restarts, FREE_FAILURES)
    waits = []
    for _ in range(8):
        waits.append(restarts.retry_in)
        time.now += restarts.retry_in
        fail(restarts, 1)
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
    assert waits[-1] == LONGEST_DELAY


def test_waits_are_spread_and_never_shorter_than_half(time: FakeTime) -> None:
    waits = []
    for jitter in (0.0, 0.5, 1.0):
        restarts = make(time, first=8.0, jitter=jitter)
        fail(restarts, FREE_FAILURES)
        waits.append(restarts.retry_in)
    assert waits == [4.0, 6.0, 8.0]


def test_after_a_wait_one_start_shows_whether_it_works_again(time: FakeTime) -> None:
    restarts = make(time)
    fail(restarts, FREE_FAILURES)
    time.now += 1
    attempt = restarts.begin()
    refused(restarts)  # one at a time
    attempt.proven()
    assert restarts.state is StartState.ALLOWED
    for _ in range(10):
        restarts.begin()


def test_a_start_that_was_stopped_lets_the_next_one_try(time: FakeTime) -> None:
    restarts = make(time)
    fail(restarts, FREE_FAILURES)
    time.now += 1
    restarts.begin().undecided()
    restarts.begin()


def test_a_success_begins_the_count_anew(time: FakeTime) -> None:
    restarts = make(time)
    for _ in range(5):
        fail(restarts, FREE_FAILURES - 1)
        restarts.begin().proven()
    assert restarts.state is StartState.ALLOWED


def test_too_many_failures_need_an_operator(time: FakeTime) -> None:
    restarts = make(time, most=3)
    early = restarts.begin()
    fail(restarts, 3)
    assert restarts.state is StartState.FATAL
    time.now += 1_000_000
    error = refused(restarts)
    assert "mcp-bridge servers start mail" in str(error)
    assert error.retry_in is None
    early.failed("one that was started before")
    restarts.forgive()
    assert restarts.state is StartState.ALLOWED
    fail(restarts, 2)
    restarts.begin()


def test_starts_after_a_failure_are_counted(time: FakeTime) -> None:
    restarts = make(time)
    attempt = restarts.begin()
    assert restarts.total == 0
    attempt.failed("")
    restarts.begin()
    assert restarts.total == 1


def test_starts_that_fail_together_are_one_failure(time: FakeTime) -> None:
    restarts = make(time)
    for _ in range(FREE_FAILURES - 1):
        for attempt in [restarts.begin() for _ in range(100)]:
            attempt.failed("exit code 3")
    assert restarts.state is StartState.ALLOWED
    fail(restarts, 1)
    assert restarts.state is StartState.BACKOFF


def test_other_limits_hold_from_now_on(time: FakeTime) -> None:
    restarts = make(time)
    fail(restarts, FREE_FAILURES)
    assert restarts.retry_in == 1.0
    restarts.adjust(FREE_FAILURES + 1, 4.0)
    time.now += 1
    fail(restarts, 1)
    assert "is not started any more (maxRestarts)" in str(refused(restarts))
    restarts.adjust(FREE_FAILURES + 1, 4.0)
    assert restarts.state is StartState.FATAL
    restarts.adjust(None, 4.0)
    fail(restarts, 1)
    assert restarts.retry_in == 16.0
