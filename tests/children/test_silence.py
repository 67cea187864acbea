"""Many waits, one timer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bridge.children.silence import SilenceWatch


class _Handle:
    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class _Loop:
    """Timers that fire when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[_Handle] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None], /) -> _Handle:
        self.timers.append(_Handle(when, callback))
        return self.timers[-1]

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [timer for timer in self.timers if timer.when <= end and not timer.cancelled]:
            timer = min(due, key=lambda each: each.when)
            self.timers.remove(timer)
            self.now = max(self.now, timer.when)
            timer.callback()
        self.now = end


@pytest.fixture
def loop() -> _Loop:
    return _Loop()


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def watch(loop: _Loop, told: list[str]) -> SilenceWatch[str]:
    return SilenceWatch(10, told.append, loop)


def test_whoever_waits_for_so_long_is_told_once(loop: _Loop, told: list[str], watch: SilenceWatch[str]) -> None:
    watch.start("a")
    loop.advance(4)
    watch.start("b")
    loop.advance(5.9)
    assert told == []
    loop.advance(0.1)
    assert told == ["a"]
    loop.advance(3.9)
    assert told == ["a"]
    loop.advance(0.1)
    assert told == ["a", "b"]
    loop.advance(100)
    assert told == ["a", "b"]
    assert loop.timers == []


def test_a_wait_that_has_ended_is_not_told(loop: _Loop, told: list[str], watch: SilenceWatch[str]) -> None:
    watch.start("a")
    watch.start("b")
    watch.end("a")
    watch.end("nobody")
    loop.advance(10)
    assert told == ["b"]


def test_a_sign_begins_the_wait_anew(loop: _Loop, told: list[str], watch: SilenceWatch[str]) -> None:
    watch.start("a")
    watch.start("b")
    loop.advance(9)
    watch.start("a")
    loop.advance(9)
    assert told == ["b"]
    loop.advance(1)
    assert told == ["b", "a"]


def test_a_thousand_waits_have_one_timer(loop: _Loop, told: list[str], watch: SilenceWatch[str]) -> None:
    for number in range(1000):
        watch.start(str(number))
        loop.now += 0.001
    assert len(loop.timers) == 1
    loop.advance(20)
    assert told == [str(number) for number in range(1000)]


def test_who_is_told_may_begin_and_end_waits(loop: _Loop) -> None:
    told: list[str] = []

    def on_silence(waiting: str) -> None:
        told.append(waiting)
        watch.end("c")
        if len(told) < 3:
            watch.start("a")

    watch: SilenceWatch[str] = SilenceWatch(10, on_silence, loop)
    for waiting in "abc":
        watch.start(waiting)
    loop.advance(10)
    assert told == ["a", "b"]
    assert len(loop.timers) == 1
    loop.advance(10)
    assert told == ["a", "b", "a"]
    loop.advance(100)
    assert told == ["a", "b", "a"]


def test_a_closed_watch_tells_nobody_and_keeps_nothing(loop: _Loop, told: list[str], watch: SilenceWatch[str]) -> None:
    watch.start("a")
    watch.close()
    loop.advance(100)
    assert told == []
    assert all(timer.cancelled for timer in loop.timers)
