"""Sessions that several nodes share: who has one, who may take it, and that nobody else writes it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable

import pytest

from bridge.config.redis_address import redis_address
from bridge.sessions.keeper import Keeper
from bridge.stores.record import Append, Delete, Save, StoreUnavailable
from bridge.stores.redis_owned import OwnedRedisStore, Taken
from tests.faketime import FakeTime
from tests.stores.conftest import PREFIX, events, record, scanned
from tests.stores.redis_server import RedisServer

CLUSTER = f"mcp_bridge_cluster:{PREFIX}"
Node = Callable[[str], OwnedRedisStore]


@pytest.fixture
async def node(redis: RedisServer, time: FakeTime) -> AsyncIterator[Node]:
    """The store of a node, by its name; it is open when it is used first."""
    made: list[OwnedRedisStore] = []

    def store(name: str) -> OwnedRedisStore:
        made.append(OwnedRedisStore(redis_address(redis.url), PREFIX, name, clock=time.clock))
        made[-1]._link.open()
        return made[-1]

    yield store
    for each in made:
        await each.close()


def lease(redis: RedisServer, node: str) -> None:
    name, _, epoch = node.rpartition(".")
    redis.cli("SET", f"{CLUSTER}node:{name}", f"{epoch} whatever")


async def test_a_session_is_taken_when_the_lease_of_its_owner_is_gone_and_not_before(
    redis: RedisServer, node: Node
) -> None:
    a, b = node("a.1"), node("b.1")
    lease(redis, "a.1")
    await a.write([Save(record("s")), Append("s", events(1, 1, 2))])
    assert redis.cli("GET", f"{CLUSTER}owner:s") == "1 a.1"
    assert await b.take("s") == "a.1"
    assert await b.take("unknown") is None
    redis.cli("DEL", f"{CLUSTER}node:a")
    taken = await b.take("s")
    assert isinstance(taken, Taken)
    assert (taken.record.id, taken.lost_by, [event.number for event in taken.events]) == ("s", "a.1", [1, 2])
    assert redis.cli("GET", f"{CLUSTER}owner:s") == "2 b.1"


async def test_a_node_that_was_started_again_is_another(redis: RedisServer, node: Node) -> None:
    await node("a.1").write([Save(record("s"))])
    lease(redis, "a.2")
    taken = await node("a.2").take("s")
    assert isinstance(taken, Taken)
    assert taken.lost_by == "a.1"


async def test_two_takers_at_once_get_one_owner(redis: RedisServer, node: Node) -> None:
    await node("a.1").write([Save(record(f"s{number}")) for number in range(50)])
    takers = [node("b.1"), node("c.1")]
    for name in ("b.1", "c.1"):
        lease(redis, name)
    for number in range(50):
        found = await asyncio.gather(*(taker.take(f"s{number}") for taker in takers))
        [loser] = [each for each in found if not isinstance(each, Taken)]
        assert loser == ("c.1" if isinstance(found[1], Taken) else "b.1")


async def test_what_a_node_has_lost_it_does_not_write(redis: RedisServer, node: Node) -> None:
    a, b = node("a.1"), node("b.1")
    lost: list[str] = []
    a.on_lost = lost.append
    await a.write([Save(record("s")), Save(record("mine"))])
    await b.take("s")
    await b.write([Save(record("s", level="error")), Append("s", events(1, 1, 1))])
    late = [Append("s", events(1, 7, 9)), Save(record("s", level="debug")), Save(record("mine", level="info"))]
    await a.write(late)
    await a.write([Delete("s")])
    assert lost == ["s", "s"]
    assert await a.moved(["s", "mine", "never"]) == ["s"]
    kept = await b.load("s")
    assert kept is not None
    assert (kept.level, [event.number for event in await b.events("s")]) == ("error", [1])
    mine = await a.load("mine")
    assert mine is not None
    assert mine.level == "info"


async def test_what_was_ended_elsewhere_is_not_brought_back(redis: RedisServer, node: Node) -> None:
    a, b, c = node("a.1"), node("b.1"), node("c.1")
    lost: dict[str, list[str]] = {"a": [], "b": []}
    a.on_lost, b.on_lost = lost["a"].append, lost["b"].append
    await a.write([Save(record("s")), Save(record("mine"))])
    await b.take("s")
    for change in (Delete("s"), Delete("s"), Append("s", events(1, 1, 1))):  # repeated, or late
        await b.write([change])
    assert redis.cli("GET", f"{CLUSTER}owner:s") == "2 x b.1"
    assert 86_000 < int(redis.cli("TTL", f"{CLUSTER}owner:s")) <= 86_400
    assert await a.moved(["s", "mine"]) == ["s"]
    await a.write([Save(record("s")), Append("s", events(1, 2, 2)), Save(record("mine"))])
    redis.cli("SET", f"{CLUSTER}settling", "1")
    for each in (a, b, c):
        assert await each.take("s") is None
    assert redis.cli("KEYS", "*:s") == f"{CLUSTER}owner:s"
    assert lost == {"a": ["s"], "b": []}


async def test_a_released_session_is_for_anyone(redis: RedisServer, node: Node) -> None:
    a, b = node("a.1"), node("b.1")
    lease(redis, "a.1")
    await a.write([Save(record("s"))])
    a.release("s")
    for _ in range(2):  # a write that is repeated
        await a.write([Save(record("s"))])
    assert redis.cli("GET", f"{CLUSTER}owner:s") == "1 -"
    taken = await b.take("s")
    assert isinstance(taken, Taken)
    assert taken.lost_by is None
    back = await a.take("s")
    assert isinstance(back, Taken)  # b never had a lease
    await a.write([Save(record("s"))])
    assert redis.cli("GET", f"{CLUSTER}owner:s") == "3 a.1"


async def test_after_redis_was_emptied_the_higher_fence_wins(redis: RedisServer, node: Node) -> None:
    a, b = node("a.1"), node("b.1")
    lost: list[str] = []
    a.on_lost = lost.append
    await a.write([Save(record("s"))])
    await b.take("s")
    redis.cli("FLUSHALL")
    await a.write([Save(record("s"))])  # it has slept
    await b.write([Save(record("s"))])
    assert redis.cli("GET", f"{CLUSTER}owner:s") == "2 b.1"
    await a.write([Save(record("s"))])
    assert lost == ["s"]


async def test_nothing_is_taken_while_nodes_come_back(redis: RedisServer, node: Node) -> None:
    a, b = node("a.1"), node("b.1")
    await a.write([Save(record("s"))])
    redis.cli("SET", f"{CLUSTER}settling", "1")
    for id in ("s", "lost with all of Redis"):
        with pytest.raises(StoreUnavailable, match="still coming back"):
            await b.take(id)
    assert isinstance(await a.take("s"), Taken)
    a.release("s")
    await a.write([Save(record("s"))])
    assert isinstance(await b.take("s"), Taken)


async def test_owner_and_session_end_together(redis: RedisServer, node: Node) -> None:
    a = node("a.1")
    await a.write([Save(record("s", ttl=60.0)), Save(record("t"))])
    assert 50 < int(redis.cli("TTL", f"{CLUSTER}owner:s")) <= 60
    assert redis.cli("TTL", f"{CLUSTER}owner:t") == "-1"
    await node("b.1").take("s")
    assert 50 < int(redis.cli("TTL", f"{CLUSTER}owner:s")) <= 60
    await a.write([Delete("t")])
    assert redis.cli("KEYS", "*t") == ""


async def test_an_owner_that_is_something_else_holds_up_no_other_session(
    redis: RedisServer, node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    redis.cli("LPUSH", f"{CLUSTER}owner:bad", "x")
    keeper = Keeper(node("a.1"), lambda *_: None, lambda: None)
    await keeper.start()
    for name in ("first", "bad", "last"):
        keeper.save(name, functools.partial(record, name))
    assert await keeper.written("last")
    assert not await keeper.written("bad")
    assert set(redis.cli("KEYS", f"{PREFIX}*").split()) == {f"{PREFIX}first", f"{PREFIX}last"}
    assert (keeper.owed, keeper.problem) == (0, None)
    assert caplog.text.count("session bad... cannot be written to the redis store") == 1
    assert "WRONGTYPE" in caplog.text
    redis.cli("DEL", f"{CLUSTER}owner:bad")
    keeper.save("bad", functools.partial(record, "bad"))
    assert await keeper.written("bad")
    await keeper.close()


async def test_no_session_is_found_by_looking_around(node: Node) -> None:
    a = node("a.1")
    await a.write([Save(record("s"))])
    assert await scanned(a) == []
