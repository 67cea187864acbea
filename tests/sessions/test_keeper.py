"""What is written behind the requests, and what happens while the store is away.

The store is one in memory that a test takes away and gives back: no real store goes away between two of our steps.
Real ones that do are in tests/stores and tests/web/test_kept.py.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from bridge.sessions.keeper import OWED_EVENTS, Keeper
from bridge.sessions.writing import BATCH_BYTES
from bridge.stores.memory import MemoryStore
from bridge.stores.record import KEEP_BYTES, Append, Change, Event, Save, SessionRecord, StoreUnavailable
from tests.faketime import FakeTime


def record(session_id: str = "a", **changes: Any) -> SessionRecord:
    known: dict[str, Any] = {
        "server": "peer",
        "config": "c",
        "version": "2025-06-18",
        "initialize": None,
        "initialized": True,
        "level": None,
        "subscriptions": [],
        "owner": "me",
        "created": 0.0,
        "touched": 0.0,
        "ttl": None,
        "metadata": {},
    }
    return SessionRecord(id=session_id, **{**known, **changes})


class Flaky(MemoryStore):
    """A store that is away while ``away`` says why."""

    def __init__(self) -> None:
        super().__init__()
        self.away = ""
        self.bug: Exception | None = None
        self.batches: list[list[Change]] = []

    def _check(self) -> None:
        if self.away:
            raise StoreUnavailable(self.away)
        if self.bug is not None:
            raise self.bug

    async def open(self) -> None:
        self._check()
        await super().open()

    async def ping(self) -> None:
        self._check()

    async def write(self, changes: Sequence[Change]) -> None:
        self._check()
        self.batches.append(list(changes))
        await super().write(changes)


class Stage:
    """A keeper at work."""

    def __init__(self) -> None:
        self.store = Flaky()
        self.time = FakeTime()
        self.returns = 0
        self.adopted: list[tuple[SessionRecord, list[Event]]] = []
        self.keeper = Keeper(self.store, lambda *found: self.adopted.append(found), self._returned, self.time.sleep)

    def _returned(self) -> None:
        self.returns += 1

    async def start(self) -> None:
        await self.keeper.start()
        await self.time.advance(0)

    async def ids(self) -> list[str]:
        return sorted([each.id async for each in self.store.scan()])


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    yield stage
    await stage.keeper.close()


async def test_a_session_is_written_once_however_often_it_changes(stage: Stage) -> None:
    await stage.start()
    levels = ["debug", "info", "error"]
    for level in levels:
        stage.keeper.save("a", lambda level=level: record(level=level))  # type: ignore[misc]
    assert await stage.keeper.written("a")
    assert stage.keeper.holds("a")
    [[change]] = stage.store.batches
    assert isinstance(change, Save)
    assert change.record.level == "error"


async def test_what_changes_while_it_is_written_is_written_again(stage: Stage) -> None:
    await stage.start()
    begun, go = asyncio.Event(), asyncio.Event()
    write = stage.store.write

    async def slow(changes: Sequence[Change]) -> None:
        begun.set()
        await go.wait()
        await write(changes)

    stage.store.write = slow  # type: ignore[method-assign]
    stage.keeper.save("a", lambda: record(level="info"))
    await begun.wait()
    stage.keeper.save("a", lambda: record(level="error"))
    go.set()
    assert await stage.keeper.written("a")
    kept = await stage.store.load("a")
    assert kept is not None
    assert kept.level == "error"


async def test_a_deleted_session_is_gone_and_so_are_its_events(stage: Stage) -> None:
    await stage.start()
    stage.keeper.save("a", record)
    stage.keeper.append("a", Event(1, 1, b"{}"))
    await stage.time.advance(0)
    assert await stage.ids() == ["a"]
    stage.keeper.append("a", Event(2, 1, b"{}"))
    stage.keeper.delete("a")
    await stage.time.advance(0)
    assert await stage.ids() == []
    assert stage.keeper.owed == 0
    assert not stage.keeper.holds("a")


async def test_what_the_store_holds_is_adopted_with_its_events(stage: Stage) -> None:
    await stage.store.open()
    await stage.store.write([Save(record("a"))])
    await stage.start()
    assert [found.id for found, _ in stage.adopted] == ["a"]
    assert stage.keeper.holds("a")


async def test_a_kept_session_that_makes_no_sense_keeps_nobody_from_starting(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.store.write([Save(record("a")), Save(record("bad")), Save(record("c"))])
    adopted: list[str] = []

    def adopt(found: SessionRecord, _: list[Event]) -> None:
        if found.id == "bad":
            raise KeyError("a secret")
        adopted.append(found.id)

    stage.keeper = Keeper(stage.store, adopt, lambda: None, stage.time.sleep)
    await stage.start()
    assert (adopted, stage.keeper.problem, stage.keeper.holds("bad")) == (["a", "c"], None, False)
    assert await stage.ids() == ["a", "bad", "c"]  # somebody may want to look at it
    assert "session bad... cannot be restored and is left in the memory store: KeyError" in caplog.text
    assert "a secret" not in caplog.text


async def test_a_store_that_is_away_owes_nobody_an_answer_and_gets_everything_when_it_is_back(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await stage.start()
    stage.keeper.save("before", lambda: record("before"))
    assert await stage.keeper.written("before")
    stage.store.away = "it burns"
    stage.keeper.save("a", lambda: record("a"))
    stage.keeper.append("before", Event(1, 1, b"{}"))
    assert not await stage.keeper.written("a")
    assert stage.keeper.problem == "it burns"
    assert not stage.keeper.holds("before")
    stage.keeper.save("b", lambda: record("b"))
    stage.keeper.delete("before")
    assert not await stage.keeper.written("b")  # at once, though time stands still
    await stage.time.advance(60)
    stage.store.away = ""
    await stage.time.advance(60)
    assert await stage.ids() == ["a", "b"]
    assert stage.keeper.problem is None
    assert stage.returns == 1
    assert stage.keeper.holds("a")
    warnings = [each.message for each in caplog.records if each.levelname == "WARNING"]
    assert len(warnings) == 1  # however often it is tried
    assert "it burns" in warnings[0]
    assert any("is back" in each.message for each in caplog.records)


async def test_events_that_could_not_be_written_are_kept_in_order_and_bounded(stage: Stage) -> None:
    await stage.start()
    stage.keeper.save("a", record)
    assert await stage.keeper.written("a")
    stage.store.away = "gone"
    for number in range(1, OWED_EVENTS + 11):
        stage.keeper.append("a", Event(number, 1, b"{}"))
        if number == 5:
            await stage.time.advance(1)  # one try with the first five
    stage.store.away = ""
    await stage.time.advance(60)
    numbers = [event.number for event in await stage.store.events("a")]
    assert numbers == list(range(11, OWED_EVENTS + 11))


async def test_a_store_that_was_away_at_the_start_is_read_when_it_comes(stage: Stage) -> None:
    await stage.store.open()
    await stage.store.write([Save(record("old")), Save(record("ended"))])
    stage.store.away = "not yet"
    await stage.start()
    assert not stage.keeper.has_read
    stage.keeper.delete("ended")  # its client knew it from before
    stage.store.away = ""
    await stage.time.advance(60)
    assert stage.keeper.has_read
    assert [found.id for found, _ in stage.adopted] == ["old"]
    assert await stage.ids() == ["old"]


async def test_what_is_owed_is_written_at_the_end(stage: Stage) -> None:
    await stage.keeper.start()
    stage.keeper.save("a", record)
    await stage.keeper.close()
    assert any(isinstance(change, Save) for change in stage.store.batches[0])


async def test_an_end_in_the_middle_of_a_write_loses_no_event(stage: Stage) -> None:
    await stage.start()
    begun = asyncio.Event()
    write = stage.store.write

    async def stuck(changes: Sequence[Change]) -> None:
        stage.store.write = write  # type: ignore[method-assign]
        begun.set()
        await asyncio.get_running_loop().create_future()

    stage.store.write = stuck  # type: ignore[method-assign]
    stage.keeper.save("a", record)
    stage.keeper.append("a", Event(1, 1, b"{}"))
    await begun.wait()
    await stage.keeper.close()
    assert await stage.store.events("a") == [Event(1, 1, b"{}")]


async def test_an_end_without_the_store_says_what_is_lost(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    await stage.keeper.start()
    stage.keeper.save("a", record)
    stage.store.away = "gone"
    await stage.keeper.close()
    assert "1 session(s) could not be written" in caplog.text


async def test_an_error_nobody_thought_of_is_a_failed_write_and_loses_nothing(stage: Stage) -> None:
    await stage.start()
    stage.store.bug = RuntimeError("who knows")
    stage.keeper.save("a", record)
    stage.keeper.append("a", Event(1, 1, b"{}"))
    assert not await stage.keeper.written("a")  # at once
    assert stage.keeper.problem == "unexpected RuntimeError"
    await stage.time.advance(60)
    stage.store.bug = None
    await stage.time.advance(60)
    assert await stage.store.events("a") == [Event(1, 1, b"{}")]
    assert (stage.keeper.problem, stage.keeper.owed) == (None, 0)


async def test_such_an_error_at_start_and_end_is_reported_and_ends_nothing(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.store.bug = OverflowError()
    await stage.keeper.start()
    stage.store.bug = None
    await stage.time.advance(60)
    assert stage.keeper.has_read
    stage.store.bug = OverflowError()
    stage.keeper.save("a", record)
    await stage.keeper.close()
    assert "1 session(s) could not be written to the memory store: unexpected OverflowError" in caplog.text


@pytest.mark.parametrize("bad", [lambda: record("bad", metadata={"a": object()}), lambda: record("bad", nothing=1)])
async def test_a_session_that_cannot_be_written_holds_up_no_other(
    stage: Stage, bad: Callable[[], SessionRecord], caplog: pytest.LogCaptureFixture
) -> None:
    await stage.start()
    for _ in range(2):
        stage.keeper.save("bad", bad)
        stage.keeper.append("bad", Event(1, 1, b"{}"))
        stage.keeper.save("good", lambda: record("good"))
        stage.keeper.append("good", Event(1, 1, b"{}"))
        assert not await stage.keeper.written("bad")
        assert await stage.keeper.written("good")
    assert (stage.keeper.owed, stage.keeper.problem, stage.keeper.holds("bad")) == (0, None, False)
    assert await stage.store.events("good") == [Event(1, 1, b"{}")]
    assert caplog.text.count("session bad... cannot be written") == 1
    stage.keeper.save("bad", lambda: record("bad"))  # it has changed
    assert await stage.keeper.written("bad")


async def test_a_session_that_only_this_store_cannot_take_holds_up_no_other(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.start()
    write = stage.store.write

    async def picky(changes: Sequence[Change]) -> None:
        if any(isinstance(change, Save) and change.record.id == "bad" for change in changes):
            raise OverflowError
        await write(changes)

    stage.store.write = picky  # type: ignore[method-assign]
    for name in ("a", "bad", "c"):
        stage.keeper.save(name, lambda name=name: record(name))  # type: ignore[misc]
    await stage.time.advance(0)
    assert await stage.ids() == ["a", "c"]
    assert (stage.keeper.owed, stage.keeper.problem) == (0, None)
    assert "session bad... cannot be written to the memory store: unexpected OverflowError" in caplog.text


async def test_a_hiccup_of_a_read_is_over_when_the_store_answers_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.start()
    stage.keeper.save("a", record)
    assert await stage.keeper.written("a")

    async def fails(_: str) -> None:
        raise StoreUnavailable("a hiccup")

    monkeypatch.setattr(stage.store, "load", fails)
    assert await stage.keeper.load("a") is None
    await stage.time.advance(10)
    assert stage.keeper.problem is None


async def test_a_store_that_answers_and_takes_nothing_is_away_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await stage.start()

    async def full(_: Sequence[Change]) -> None:
        raise StoreUnavailable("it is full")

    with monkeypatch.context() as patched:
        patched.setattr(stage.store, "write", full)
        stage.keeper.save("a", record)
        await stage.time.advance(600)
        assert stage.keeper.problem == "it is full"
        said = [each.message for each in caplog.records]
        assert (sum("is away" in line for line in said), sum("store is back" in line for line in said)) == (1, 0)
    await stage.time.advance(10)
    assert stage.keeper.problem is None
    assert "is back; 1 session(s) are written" in caplog.text
    assert (await stage.ids(), stage.returns) == (["a"], 1)


async def test_what_is_dropped_while_it_is_written_is_owed_and_held_no_more(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.start()
    write = stage.store.write

    async def lost(changes: Sequence[Change]) -> None:
        await write(changes)
        stage.keeper.drop("a")

    async def fails(_: Sequence[Change]) -> None:
        stage.keeper.drop("a")
        raise StoreUnavailable("late")

    monkeypatch.setattr(stage.store, "write", lost)
    stage.keeper.save("a", record)
    await stage.time.advance(0)
    assert not stage.keeper.holds("a")
    monkeypatch.setattr(stage.store, "write", fails)
    stage.keeper.append("a", Event(1, 1, b"{}"))
    await stage.time.advance(0)
    assert not stage.keeper.owes("a")


async def test_a_deletion_outlives_events_that_cannot_be_written(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await stage.start()
    for each in ("a", "bad"):
        stage.keeper.save(each, functools.partial(record, each))
        assert await stage.keeper.written(each)
    write = stage.store.write

    async def picky(changes: Sequence[Change]) -> None:
        if any(isinstance(change, Append) and change.id == "bad" for change in changes):
            stage.keeper.delete("bad")
            raise OverflowError
        await write(changes)

    monkeypatch.setattr(stage.store, "write", picky)
    stage.keeper.append("a", Event(1, 1, b"{}"))
    stage.keeper.append("bad", Event(1, 1, b"{}"))
    await stage.time.advance(60)
    assert await stage.ids() == ["a"]


async def test_an_end_without_ever_a_store_says_what_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage()
    stage.store.away = "gone"
    await stage.start()
    stage.keeper.save("a", record)
    await stage.keeper.close()
    assert "1 session(s) could not be written to the memory store: gone" in caplog.text


async def test_a_session_that_ends_while_it_is_read_is_not_taken_in(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage()
    await stage.store.write([Save(record("a", last_event=1))])
    events = stage.store.events

    async def ends(session_id: str) -> list[Event]:
        stage.keeper.delete("a")
        return await events(session_id)

    monkeypatch.setattr(stage.store, "events", ends)
    await stage.start()
    await stage.time.advance(0)
    assert (stage.adopted, await stage.ids()) == ([], [])
    await stage.keeper.close()


async def test_what_waits_is_bounded_in_bytes_and_written_in_batches_of_some(stage: Stage) -> None:
    await stage.start()
    stage.store.away = "gone"
    for number in range(40):
        for session in ("a", "b", "c", "d"):
            stage.keeper.append(session, Event(number, 1, b"x" * 100_000))
    for session in ("a", "b", "c", "d"):
        stage.keeper.save(session, functools.partial(record, session))
    stage.store.away = ""
    stage.store.batches.clear()
    await stage.time.advance(60)
    sizes = [
        sum(len(e.data) for each in batch if isinstance(each, Append) for e in each.events)
        for batch in stage.store.batches
    ]
    assert sum(sizes) == 4 * (KEEP_BYTES // 100_000) * 100_000
    assert max(sizes) <= BATCH_BYTES + KEEP_BYTES
    assert len(sizes) > 1
    assert await stage.ids() == ["a", "b", "c", "d"]
