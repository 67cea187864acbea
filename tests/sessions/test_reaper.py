"""Two pools and their reapers, on a clock that the test moves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bridge.protocol.errors import ChildUnavailable
from bridge.protocol.states import SessionState
from bridge.sessions.pool import Entry, SessionPool
from bridge.sessions.reaper import BRIDGE_WORDS, STREAM_WORDS, Reaper
from tests.faketime import FakeTime

TTL = 300.0


class Session:
    """What a pool needs to know of a session. ``gate`` holds up its close."""

    def __init__(self, name: str) -> None:
        self.server = "demo"
        self.label = name
        self.closed: list[str] = []
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def close(self, why: str) -> None:
        self.closed.append(why)
        self.begun.set()
        await self.gate.wait()


class Stage:
    """A pool with its reaper running."""

    def __init__(self, **reaper: Any) -> None:
        self.time = FakeTime()
        self.pool: SessionPool[Session] = SessionPool("streamable", self.time.clock, limit=10)
        options: dict[str, Any] = {"ttl": TTL, "interval": TTL / 3, "enabled": True, **reaper}
        self.reaper = Reaper(self.pool, options.pop("words", STREAM_WORDS), sleep=self.time.sleep, **options)
        self.task = asyncio.create_task(self.reaper.run())

    def open(self, name: str = "550e8400...", ttl: float | None = TTL) -> Entry[Session]:
        entry = self.pool.add(name, Session(name), ttl)
        self.pool.opened(entry)
        return entry

    def lives(self, entry: Entry[Session]) -> bool:
        return self.pool.find(entry.key) is entry


@pytest.fixture
async def stages() -> AsyncIterator[list[Stage]]:
    made: list[Stage] = []
    yield made
    for stage in made:
        stage.task.cancel()
        await asyncio.gather(stage.task, return_exceptions=True)


@pytest.fixture
async def stage(stages: list[Stage]) -> Stage:
    stages.append(Stage())
    return stages[0]


async def test_an_idle_session_expires_at_its_ttl_and_not_before(stage: Stage) -> None:
    entry = stage.open()
    stage.time.now += TTL - 0.001
    assert await stage.reaper.sweep() == 0
    assert stage.lives(entry)
    stage.time.now += 0.001
    assert await stage.reaper.sweep() == 1
    assert not stage.lives(entry)
    assert entry.session.closed == ["idle for 300s"]


async def test_an_idle_session_is_gone_at_most_a_third_of_its_ttl_late(stage: Stage) -> None:
    await stage.time.advance(50)  # so that no sweep falls on the moment of expiry
    entry = stage.open()
    await stage.time.advance(TTL)
    assert stage.lives(entry)
    await stage.time.advance(TTL / 3)
    assert not stage.lives(entry)


@pytest.mark.parametrize("usual", [TTL / 3, None])
async def test_a_brief_session_hurries_nobody_after_its_end(
    stages: list[Stage], caplog: pytest.LogCaptureFixture, usual: float | None
) -> None:
    stage = Stage(interval=usual)
    stages.append(stage)
    caplog.set_level(logging.DEBUG, "bridge.sessions.reaper")
    brief, other = stage.open("brief", ttl=3), stage.open("other", ttl=TTL)
    await stage.time.advance(10)
    assert not stage.lives(brief)
    looks = caplog.text.count("No expired sessions")
    assert looks >= 2
    await stage.time.advance(TTL * 2 / 3 - 1)
    assert caplog.text.count("No expired sessions") == looks + 2
    brief = stage.open("brief", ttl=3)
    await stage.time.advance(5)
    assert not stage.lives(brief)
    assert stage.lives(other)
    await stage.time.advance(2 * TTL)
    assert not stage.lives(other)


async def test_a_call_three_ttls_long_keeps_its_session(stage: Stage) -> None:
    entry = stage.open()
    with stage.pool.using(entry):
        await stage.time.advance(3 * TTL)
        assert stage.lives(entry)
    await stage.time.advance(TTL - 1)
    assert stage.lives(entry)  # its idle time began with the end of the call
    await stage.time.advance(TTL / 3 + 1)
    assert not stage.lives(entry)


async def test_the_last_of_several_uses_begins_the_idle_time(stage: Stage) -> None:
    entry = stage.open()
    stage.pool.enter(entry)
    stage.pool.enter(entry)
    stage.pool.leave(entry)
    await stage.time.advance(2 * TTL)
    assert stage.lives(entry)
    stage.pool.leave(entry)
    assert entry.state is SessionState.IDLE


async def test_use_every_half_ttl_keeps_a_session(stage: Stage) -> None:
    entry = stage.open()
    for _ in range(10):
        await stage.time.advance(TTL / 2)
        with stage.pool.using(entry):
            pass
    assert stage.lives(entry)


async def test_a_session_that_never_expires_is_never_reaped(stage: Stage) -> None:
    entry, mortal = stage.open("for ever", ttl=None), stage.open("mortal")
    await stage.time.advance(1000 * TTL)
    assert stage.lives(entry)
    assert not stage.lives(mortal)


async def test_a_session_that_still_opens_is_not_reaped(stage: Stage) -> None:
    entry = stage.pool.add("opening", Session("opening"), TTL)
    await stage.time.advance(10 * TTL)
    assert stage.lives(entry)


async def test_a_disabled_reaper_reaps_nothing_and_says_it(
    stages: list[Stage], caplog: pytest.LogCaptureFixture
) -> None:
    stages.append(stage := Stage(enabled=False, words=BRIDGE_WORDS))
    stage.reaper.announce()
    entry = stage.open()
    await stage.time.advance(1000 * TTL)
    assert stage.lives(entry)
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert record.message == "Bridge session cleanup is DISABLED - sessions will not be automatically cleaned up"


async def test_a_delete_that_races_the_reaper_ends_the_session_once(stage: Stage) -> None:
    entry = stage.open()
    entry.session.gate.clear()
    stage.time.now += TTL
    sweep = asyncio.create_task(stage.reaper.sweep())
    await entry.session.begun.wait()
    assert stage.pool.find(entry.key) is None
    assert not stage.pool.take(entry)  # what a DELETE does: it comes too late, and does no harm
    entry.session.gate.set()
    assert await sweep == 1
    assert len(entry.session.closed) == 1


async def test_a_reaper_that_comes_after_a_delete_finds_nothing(stage: Stage) -> None:
    entry = stage.open()
    assert stage.pool.take(entry)
    stage.time.now += TTL
    assert await stage.reaper.sweep() == 0
    assert entry.session.closed == []


async def test_a_reaper_goes_on_after_a_session_that_cannot_be_closed(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(why: str) -> None:
        raise RuntimeError("cannot close")

    stage.open("broken").session.close = broken  # type: ignore[method-assign]
    await stage.time.advance(TTL + TTL / 3)
    later = stage.open("later")
    await stage.time.advance(TTL + TTL / 3)
    assert not stage.lives(later)
    assert "cleanup failed" in caplog.text


async def test_operators_can_grep_for_what_the_reapers_say(
    stages: list[Stage], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    stream, bridge = Stage(), Stage(words=BRIDGE_WORDS)
    stages += [stream, bridge]
    stream.reaper.announce()
    bridge.reaper.announce()
    stream.open("550e8400...")
    bridge.open("client_123")
    for stage in (stream, bridge):
        stage.time.now += 320
        await stage.reaper.sweep()
        await stage.reaper.sweep()
    lines = [record.message for record in caplog.records]
    assert lines == [
        "Streamable session cleanup enabled (interval: 100000ms, TTL: 300000ms)",
        "Bridge session cleanup enabled (interval: 100000ms, TTL: 300000ms)",
        "Cleaning up 1 expired streamable session(s)",
        "Closing streamable session 550e8400... (idle for 320s)",
        "No expired sessions to clean up total_sessions=0",
        "Cleaning up 1 expired bridge client(s)",
        "Closing bridge client client_123 (idle for 320s)",
        "No expired sessions to clean up total_sessions=0",
    ]


async def test_a_full_pool_says_which_setting_to_raise(stage: Stage) -> None:
    for number in range(10):
        stage.open(str(number))
    with pytest.raises(ChildUnavailable, match="MAX_SESSIONS"):
        stage.pool.check_room("demo")
