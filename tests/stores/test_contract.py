"""What every store does, and does alike: memory, file, and Redis against a real server."""

from __future__ import annotations

import asyncio
import contextlib
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.config.redis_address import redis_address
from bridge.stores.file import FileStore
from bridge.stores.memory import MemoryStore
from bridge.stores.record import (
    KEEP_BYTES,
    KEEP_EVENTS,
    Append,
    Change,
    Delete,
    Event,
    Save,
    SessionRecord,
    SessionStore,
    StoreUnavailable,
)
from bridge.stores.redis import RedisStore
from tests.faketime import FakeTime
from tests.stores.conftest import PREFIX, events, record, scanned
from tests.stores.redis_server import RedisServer


async def test_a_store_is_named_as_its_setting(store: SessionStore) -> None:
    assert store.name in {"memory", "file", "redis"}
    assert type(store).__name__.lower() == f"{store.name}store"


async def test_what_is_saved_is_loaded_as_it_was(store: SessionStore) -> None:
    full, bare = record("a"), record("b", version=None, initialize=None, level=None, subscriptions=[], metadata={})
    await store.write([Save(full), Save(bare)])
    assert await store.load("a") == full
    assert await store.load("b") == bare
    assert await store.load("c") is None
    assert await scanned(store) == ["a", "b"]


async def test_initialize_is_kept_verbatim(store: SessionStore) -> None:
    params = b'{"capabilities" : {},\t"x":1e400,"name":"caf\xc3\xa9 \\u00e9 \\ud83d\\ude00"}'
    await store.write([Save(record("a", initialize=msgspec.Raw(params)))])
    loaded = await store.load("a")
    assert loaded is not None
    assert loaded.initialize is not None
    assert bytes(loaded.initialize) == params


async def test_a_record_may_change_after_it_was_handed_over(store: SessionStore) -> None:
    mine = record("a", level="info")
    writing = asyncio.ensure_future(store.write([Save(mine)]))
    await asyncio.sleep(0)  # write() has begun
    mine.level, mine.metadata["name"] = "error", "changed"
    await writing
    loaded = await store.load("a")
    assert loaded is not None
    assert (loaded.level, loaded.metadata["name"]) == ("info", "caf\u00e9")
    loaded.level = "critical"
    assert (await store.load("a") or loaded).level == "info"


async def test_a_later_save_takes_the_place_of_an_earlier_one(store: SessionStore) -> None:
    await store.write([Save(record("a", touched=1.0)), Save(record("a", touched=2.0, metadata={}))])
    loaded = await store.load("a")
    assert loaded is not None
    assert (loaded.touched, loaded.metadata) == (2.0, {})
    assert await scanned(store) == ["a"]


async def test_a_session_that_is_deleted_is_gone_with_its_events(store: SessionStore) -> None:
    await store.write([Save(record("a")), Append("a", events(1, 1, 3)), Save(record("b"))])
    await store.write([Delete("a"), Delete("never was")])
    assert await store.load("a") is None
    assert await store.events("a") == []
    assert await scanned(store) == ["b"]


async def test_a_session_ends_when_its_ttl_is_over_and_not_before(store: SessionStore, time: FakeTime) -> None:
    await store.write([Save(record("a", touched=time.now, ttl=60.0)), Append("a", events(1, 1, 1))])
    await time.advance(59.9)
    assert await store.load("a") is not None
    assert await store.events("a") != []
    assert await scanned(store) == ["a"]
    await time.advance(0.1)
    assert await store.load("a") is None
    assert await store.events("a") == []
    assert await scanned(store) == []


async def test_use_moves_the_end(store: SessionStore, time: FakeTime) -> None:
    await store.write([Save(record("a", touched=time.now, ttl=60.0)), Append("a", events(1, 1, 2))])
    await time.advance(50)
    await store.write([Save(record("a", touched=time.now, ttl=60.0))])
    await time.advance(50)
    assert await store.load("a") is not None
    assert await store.events("a") == list(events(1, 1, 2))


async def test_a_session_without_ttl_never_ends(store: SessionStore, time: FakeTime) -> None:
    await store.write([Save(record("a", ttl=60.0, touched=time.now)), Save(record("b", ttl=1e300))])
    await store.write([Save(record("a", ttl=None)), Save(record("c", ttl=math.inf))])
    await time.advance(1e9)
    assert await scanned(store) == ["a", "b", "c"]


async def test_what_has_expired_when_it_is_saved_is_not_there(store: SessionStore, time: FakeTime) -> None:
    await store.write([Save(record("a", touched=time.now - 61, ttl=60.0)), Save(record("b"))])
    assert await store.load("a") is None
    assert await scanned(store) == ["b"]


async def test_events_come_back_in_order_and_with_their_bytes(store: SessionStore) -> None:
    odd = Event(number=3, stream=2, data=b'4 5 {"a":"\xff\x00\r\n"}')
    await store.write([Save(record("a")), Append("a", (*events(2, 1, 2), *events(1, 7, 8)))])
    await store.write([Append("a", (odd, *events(1, 9, 9, b"")))])
    assert await store.events("a") == [*events(2, 1, 2), *events(1, 7, 8), odd, *events(1, 9, 9, b"")]


async def test_events_of_a_session_that_is_not_kept_are_not_kept_either(store: SessionStore) -> None:
    await store.write([Append("a", events(1, 1, 3)), Save(record("b")), Append("b", events(1, 1, 2))])
    assert await store.events("a") == []
    await store.write([Save(record("a"))])
    assert await store.events("a") == []
    assert await store.events("b") == list(events(1, 1, 2))


async def test_the_newest_events_are_kept_up_to_a_number(store: SessionStore) -> None:
    await store.write([Save(record("a")), Save(record("b")), Append("b", events(1, 1, 1))])
    await store.write([Append("a", events(1, 1, 200))])
    await store.write([Append("a", events(1, 201, 300))])
    assert await store.events("a") == list(events(1, 301 - KEEP_EVENTS, 300))
    assert await store.events("b") == list(events(1, 1, 1))


async def test_the_newest_events_are_kept_up_to_a_size(store: SessionStore) -> None:
    quarter = b"x" * (KEEP_BYTES // 4)
    await store.write([Save(record("a")), Append("a", events(1, 1, 2, quarter))])
    await store.write([Append("a", events(2, 1, 2, quarter))])
    assert await store.events("a") == [*events(1, 1, 2, quarter), *events(2, 1, 2, quarter)]
    await store.write([Append("a", events(1, 3, 3, b"y"))])
    assert await store.events("a") == [*events(1, 2, 2, quarter), *events(2, 1, 2, quarter), *events(1, 3, 3, b"y")]
    await store.write([Append("a", events(3, 1, 1, 3 * quarter))])  # for which more than one has to go
    assert await store.events("a") == [*events(1, 3, 3, b"y"), *events(3, 1, 1, 3 * quarter)]


async def test_what_is_kept_of_the_events_has_no_gap(store: SessionStore) -> None:
    large = Event(number=3, stream=1, data=b"x" * (KEEP_BYTES + 1))
    await store.write([Save(record("a")), Append("a", events(1, 1, 2))])
    await store.write([Append("a", (large, *events(1, 4, 5)))])
    assert await store.events("a") == list(events(1, 4, 5))
    await store.write([Append("a", (Event(number=6, stream=1, data=large.data),))])
    assert await store.events("a") == []


async def test_a_batch_may_be_written_twice(store: SessionStore) -> None:
    await store.write([Save(record("a")), Save(record("gone")), Append("a", events(1, 1, 5))])
    batch: list[Change] = [
        Delete("gone"),
        Save(record("b", level="error")),
        Append("b", events(1, 1, 3)),
        Append("a", (*events(1, 6, 6), *events(2, 1, 1), *events(1, 7, 7))),
        Append("a", events(3, 1, 250)),
    ]
    await store.write(batch)
    once = await store.events("a"), await store.events("b"), await scanned(store)
    assert len(once[0]) == KEEP_EVENTS
    await store.write(batch)
    assert (await store.events("a"), await store.events("b"), await scanned(store)) == once


async def test_a_record_that_is_no_json_is_refused_before_anything_is_written(store: SessionStore) -> None:
    for bad in ({"x": object()}, {"x": "\ud800"}):
        with pytest.raises(ValueError, match="metadata of the session cannot be JSON"):
            await store.write([Save(record("a")), Save(record("b", metadata=bad))])
    assert await scanned(store) == []


async def test_a_scan_finds_every_session_once(store: SessionStore, time: FakeTime) -> None:
    ids = sorted(f"{number:04}" for number in range(1700))
    await store.write([Save(record(id, metadata={})) for id in ids])
    await store.write([Save(record("old", touched=time.now - 61, ttl=60.0))])
    assert await scanned(store) == ids


async def test_a_store_can_be_opened_again(store: SessionStore) -> None:
    await store.write([Save(record("a"))])
    await store.open()  # while it is open
    await store.ping()
    await store.close()
    await store.close()
    await store.open()
    await store.ping()
    assert await scanned(store) == ["a"]


async def test_calls_at_the_same_time_do_not_get_into_each_others_way(store: SessionStore) -> None:
    async def use(id: str) -> None:
        await store.write([Save(record(id)), Append(id, events(1, 1, 3))])
        assert (await store.load(id)) == record(id)
        assert await store.events(id) == list(events(1, 1, 3))
        await store.write([Delete(id)])

    await asyncio.gather(*(use(str(number)) for number in range(60)))
    assert await scanned(store) == []


async def test_an_empty_batch_changes_nothing(store: SessionStore) -> None:
    await store.write([])
    assert await scanned(store) == []


async def test_memory_is_given_back_when_sessions_expire(time: FakeTime) -> None:
    store = MemoryStore(clock=time.clock)
    await store.write([Save(record(str(number), touched=time.now, ttl=60.0)) for number in range(9)])
    await time.advance(60)
    await store.write([Save(record("new"))])
    assert repr(store) == "<MemoryStore of 1 sessions>"


@pytest.mark.parametrize("kind", ["file", "redis"])
async def test_a_store_that_is_not_open_says_so(kind: str, make_store: object) -> None:
    store: SessionStore = make_store(kind)  # type: ignore[operator]
    calls = [store.ping(), store.load("a"), store.events("a"), store.write([Delete("a")]), scanned(store)]
    for call in calls:
        with pytest.raises(StoreUnavailable, match="is not open"):
            await call


# Every order of changes


IDS = st.sampled_from(["a", "b", "c"])
BATCH = st.lists(
    st.one_of(
        st.tuples(st.just("save"), IDS, st.sampled_from([None, 60.0, 600.0])),
        st.tuples(st.just("delete"), IDS, st.none()),
        st.tuples(st.just("append"), IDS, st.lists(st.tuples(st.integers(1, 3), st.integers(0, 70)), max_size=6)),
    ),
    min_size=1,
    max_size=6,
)
STEPS = st.lists(
    st.one_of(BATCH, BATCH, BATCH, st.sampled_from([30.0, 100.0, 700.0]), st.just("again"), st.just("reopen")),
    max_size=12,
)
#: Bounds that are small enough to be reached.
KEEP, KEEP_SIZE = 5, 100


@dataclass
class Model:
    """What a store has to know, said as plainly as possible."""

    now: float = 1000.0
    records: dict[str, SessionRecord] = field(default_factory=dict)
    events: dict[str, list[Event]] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    numbers: dict[tuple[str, int], int] = field(default_factory=dict)

    def changes(self, batch: Sequence[tuple[str, str, object]]) -> list[Change]:
        """Make changes that a keeper could make: no id is used again, and a session is saved before its events."""
        made: list[Change] = []
        for what, id, value in batch:
            if id in self.ended or (what == "append" and id not in self.records):
                continue
            if what == "save":
                made.append(Save(record(id, touched=self.now, ttl=value)))
                self.records[id] = made[-1].record
            elif what == "delete":
                made.append(Delete(id))
                self._end(id)
            else:
                made.append(Append(id, tuple(self._event(id, *each) for each in value)))  # type: ignore[attr-defined]
                self.events[id] = self._bounded(self.events.get(id, []) + list(made[-1].events))
        return made

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for id in [
            id for id, each in self.records.items() if each.ttl is not None and each.touched + each.ttl <= self.now
        ]:
            self._end(id)

    def _end(self, id: str) -> None:
        self.ended.add(id)
        self.records.pop(id, None)
        self.events.pop(id, None)

    def _event(self, id: str, stream: int, size: int) -> Event:
        number = self.numbers[id, stream] = self.numbers.get((id, stream), 0) + 1
        return Event(number=number, stream=stream, data=b"x" * size)

    def _bounded(self, events: list[Event]) -> list[Event]:
        while len(events) > KEEP or sum(len(event.data) for event in events) > KEEP_SIZE:
            events = events[1:]
        return events


def small_store(kind: str, directory: Path, url: str, model: Model) -> SessionStore:
    bounds: dict[str, Any] = {"clock": lambda: model.now, "keep": KEEP, "keep_bytes": KEEP_SIZE}
    if kind == "file":
        return FileStore(directory, **bounds)
    return RedisStore(redis_address(url), PREFIX, **bounds) if kind == "redis" else MemoryStore(**bounds)


@pytest.mark.parametrize("kind", ["memory", "file", "redis"])
@given(steps=STEPS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_store_keeps_what_the_model_keeps(kind: str, redis: RedisServer, steps: list[object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        redis.cli("FLUSHALL")
        model = Model()
        store = small_store(kind, Path(folder) / "s", redis.url, model)
        await store.open()
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(store.close)
            batch: list[Change] = []
            for step in steps:
                if isinstance(step, list):
                    batch = model.changes(step)
                    await store.write(batch)
                elif isinstance(step, float):
                    model.advance(step)
                    batch = []
                elif step == "again":
                    await store.write(batch)
                else:
                    await store.close()
                    await store.open()
            assert await scanned(store) == sorted(model.records)
            for id in ("a", "b", "c"):
                assert await store.load(id) == model.records.get(id)
                assert await store.events(id) == model.events.get(id, [])
