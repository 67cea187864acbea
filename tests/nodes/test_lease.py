"""The lease of a node against a real Redis: who lives, who must stop, and what holds while Redis is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from bridge.cluster.ids import Birth
from bridge.cluster.lease import LEASE, Lease
from bridge.cluster.members import Member
from bridge.config.errors import ConfigError
from bridge.config.redis_address import redis_address
from bridge.stores.record import StoreUnavailable
from bridge.stores.redis_link import RedisLink
from tests.faketime import FakeTime
from tests.stores.conftest import Start
from tests.stores.redis_server import RedisServer

Node = Callable[..., Lease]


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture
async def node(request: pytest.FixtureRequest, time: FakeTime) -> AsyncIterator[Node]:
    """The lease of a node; all of them see the same clock, which is not that of Redis."""
    made: list[Lease] = []

    def lease(name: str, epoch: int = 1, server: RedisServer | None = None, port: int | None = None) -> Lease:
        url = f"redis://127.0.0.1:{port}/0" if port else (server or request.getfixturevalue("redis")).url
        address = redis_address(url)
        birth = Birth(name, epoch)
        made.append(Lease(RedisLink(address, 0.5), "c:", birth, f"http://{name}", clock=time.clock, sleep=time.sleep))
        return made[-1]

    yield lease
    for each in made:
        await each._link.close()


def says(answer: bool, asked: list[str]) -> Callable[[Sequence[Member]], object]:
    async def ask(others: Sequence[Member]) -> bool:
        asked.extend(member.node for member in others)
        return answer

    return ask


def seen(lease: Lease) -> list[tuple[str, int]]:
    return [(member.node, member.children) for member in lease.members.others()]


async def test_nodes_hear_of_each_other_and_of_their_load(node: Node, redis: RedisServer) -> None:
    a, b = node("a"), node("b")
    await a.begin()
    b.members.publish(7)
    await b.begin()
    await a.renew()
    assert (seen(a), seen(b)) == ([("b", 7)], [("a", 0)])
    assert a.members.find("b") == Member("b", 1, "http://b", 7)
    assert a.members.find("a") == a.members.own
    assert a.members.find("c") is None
    assert b.members.least_loaded().node == "a"
    await a.drain()
    await b.renew()
    assert b.members.least_loaded().node == "b"
    assert a.members.least_loaded().node == "b"
    redis.cli("DEL", "c:settling")  # the first beat of all might have been the first after an outage
    await a.leave()
    await b.renew()
    assert seen(b) == []


async def test_a_lease_that_is_not_renewed_ends_by_the_clock_alone(node: Node, time: FakeTime) -> None:
    a = node("a")
    assert not a.is_held
    await a.begin()
    time.now += LEASE - 0.1
    assert a.is_held
    time.now += 0.2
    assert not a.is_held
    await a.renew()
    assert a.is_held


async def test_who_gets_a_lease_back_looks_at_what_was_taken_before_it_counts(node: Node, redis: RedisServer) -> None:
    a = node("a")
    happened: list[object] = []

    async def on_return() -> None:
        happened.append(("looked", a.is_held))
        if len(happened) == 1:
            raise StoreUnavailable("just now")

    a.on_return, a.on_reach = on_return, lambda: happened.append("written")
    await a.begin()
    await a.renew()
    assert happened.pop() == "written"
    redis.cli("DEL", "c:node:a")
    a._until = -1.0
    a.ask_others = says(False, [])  # type: ignore[assignment]
    await a.renew()
    assert not a.is_held
    await a.renew()
    assert happened == [("looked", False), ("looked", False), "written"]
    assert a.is_held


async def test_a_beat_that_arrives_after_it_was_given_up_hides_no_lease_that_had_run_out(
    node: Node, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that loses packets sends them again, when whoever has sent them waits no longer."""
    a = node("a")
    await a.begin()
    looked: list[bool] = []

    async def on_return() -> None:
        looked.append(True)

    a.on_return, a.ask_others = on_return, says(False, [])  # type: ignore[assignment]
    redis.cli("DEL", "c:node:a")  # it has run out, and its session was taken
    ask = a._link.ask

    async def arrives_late(use: Callable[[Any], Any]) -> Any:
        await ask(use)
        raise StoreUnavailable("no answer within 0.5 s")

    monkeypatch.setattr(a._link, "ask", arrives_late)
    await a.renew()
    monkeypatch.undo()
    assert redis.cli("EXISTS", "c:node:a").strip() == "1"
    await a.renew()
    assert looked == [True]


async def test_a_beat_that_is_repeated_since_its_answer_was_lost_hides_no_lease_that_had_run_out(
    node: Node, time: FakeTime, redis: RedisServer
) -> None:
    """The client of Redis does so by itself, and nobody hears of the first."""
    lost: list[bytes] = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there = await asyncio.open_connection("127.0.0.1", redis.port)
        while asked := await reader.read(65536):
            there.write(asked)
            answer = await there_reader.read(65536)
            if looked is not None and b"SADD" in asked and not lost:
                lost.append(answer)
                break
            writer.write(answer)
        writer.transport.abort()
        there.close()

    looked: list[bool] | None = None
    async with await asyncio.start_server(relay, "127.0.0.1", 0) as server:
        a = node("a", port=server.sockets[0].getsockname()[1])
        await a.begin()
        looked = []

        async def on_return() -> None:
            looked.append(a.is_held)

        a.on_return = on_return
        time.now += LEASE + 1  # it has slept, and its session was taken
        redis.cli("DEL", "c:node:a")
        await a.renew()
        assert (len(lost), looked, a.is_held) == (1, [False], True)
        await a._link.close()


async def test_a_node_id_is_for_one_node(node: Node, time: FakeTime, redis: RedisServer) -> None:
    first, second = node("a"), node("a", 2)
    await first.begin()
    beginning = asyncio.create_task(second.begin())
    for _ in range(20):
        await first.renew()
        await time.advance(0.5)
    with pytest.raises(ConfigError, match="NODE_ID: another node called a lives"):
        await beginning
    third = node("a", 3)
    beginning = asyncio.create_task(third.begin())
    await third.renew()  # the same that it waits for
    assert third.problem is not None
    assert "NODE_ID" in third.problem
    redis.cli("DEL", "c:node:a")  # it was killed, and its lease has run out
    await time.advance(LEASE)
    await beginning
    assert third.is_held
    await first.renew()
    assert not first.is_held


async def test_while_nobody_reaches_redis_all_go_on_and_take_nothing(
    node: Node, time: FakeTime, start_redis: Start
) -> None:
    server = start_redis()
    a, b = node("a", server=server), node("b", server=server)
    await a.begin()
    await b.begin()
    await a.renew()
    reached: list[str] = []
    a.on_reach = lambda: reached.append("a")
    server.stop()

    async def ask_b(others: Sequence[Member]) -> bool:
        assert [member.node for member in others] == ["b"]
        return b.cannot_reach()

    a.ask_others = ask_b
    time.now += 1
    await a.renew()  # b has not noticed yet
    assert a.problem is not None
    time.now += 1.5
    assert a.is_held
    await b.renew()
    await a.renew()
    time.now += LEASE - 0.1
    assert a.is_held
    assert not b.may_take
    server.start()
    await a.renew()
    await b.renew()
    assert (a.problem, b.problem, reached) == (None, None, ["a"])
    assert not b.may_take
    time.now += LEASE - 0.5
    await b.renew()
    assert b.may_take


async def test_who_alone_cannot_reach_redis_stops(node: Node, time: FakeTime, start_redis: Start) -> None:
    server = start_redis()
    a, b = node("a", server=server), node("b", server=server)
    await b.begin()
    await a.begin()
    asked: list[str] = []
    a.ask_others = says(False, asked)  # type: ignore[assignment]
    server.stop()
    time.now += 1
    await a.renew()
    assert (a.is_held, asked) == (True, ["b"])
    time.now += 2.1
    await a.renew()
    assert not a.is_held


async def test_nobody_is_missed_before_a_redis_that_was_emptied_has_settled(node: Node, redis: RedisServer) -> None:
    a, b = node("a"), node("b")
    for each in (a, b, a):
        await each.renew() if each.problem is None else await each.begin()
    redis.cli("FLUSHALL")
    await a.renew()
    assert seen(a) == [("b", 0)]
    assert 2000 < int(redis.cli("PTTL", "c:settling")) <= 3000
    redis.cli("DEL", "c:settling")  # b has not come back
    await a.renew()
    assert seen(a) == []


async def test_a_node_that_was_not_named_yet_is_looked_up(node: Node) -> None:
    a, b = node("a"), node("b", 9)
    await a.begin()
    await b.begin()
    assert a.members.find("b") is None
    assert await a.look_up("b") == Member("b", 9, "http://b", 0)
    assert await a.look_up("c") is None


async def test_many_nodes_are_not_named_with_each_beat(node: Node, redis: RedisServer) -> None:
    a = node("a")
    await a.begin()
    names = [f"n{number:03}" for number in range(120)]
    redis.cli("MSET", *(word for name in names for word in (f"c:node:{name}", '1 {"address":"http://x"}')))
    redis.cli("SADD", "c:nodes", *names, *(f"gone{number}" for number in range(9000)))
    redis.cli("SET", "c:node:n000", "what is this")
    redis.cli("DEL", "c:settling")
    await a.renew()
    assert len(seen(a)) == 119
    assert redis.cli("SCARD", "c:nodes") == "121"
    redis.cli("DEL", "c:node:n001")
    counts = []
    for _ in range(3):
        await a.renew()
        counts.append(len(seen(a)))
    assert counts == [119, 119, 118]
