"""Leases: who gets which child, how many are started, and when they end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from bridge.children.exchange import Exchange
from bridge.children.owner import ChildLimits
from bridge.children.policy import DEDICATED, SHARED, Sharing
from bridge.children.pool import Capacity, ChildPool, Lease
from bridge.children.starts import Starts
from bridge.config.servers import parse_servers
from bridge.protocol.errors import ChildUnavailable, ConnectionClosed, Resting, StartFailed
from bridge.protocol.messages import Request
from bridge.protocol.states import ChildState
from tests.conftest import PATIENCE, in_time, peer


def _pool(capacity: int = 100, starts: Starts | None = None, **entry: object) -> ChildPool:
    config = parse_servers(json.dumps({"peer": {**peer(), **entry}}), "servers.json", {}).entries["peer"]
    room = Capacity(capacity)
    room.starts = starts or room.starts
    return ChildPool(config, ChildLimits(1_000_000, 60), room, lambda _line: None)


@pytest.fixture
async def pool() -> AsyncIterator[ChildPool]:
    made = _pool()
    yield made
    await made.close()


async def test_a_hundred_callers_of_a_cold_shared_server_start_one_child(pool: ChildPool) -> None:
    leases = await asyncio.gather(*(pool.lease(SHARED) for _ in range(100)))
    [child] = pool.children
    assert child.holders == 100
    assert child.state is ChildState.READY
    for lease in leases:
        lease.release()
    await child.ended.wait()
    assert child.state is ChildState.EXITED
    assert pool.children == []


async def test_a_dedicated_child_has_one_holder_and_is_not_greeted(pool: ChildPool) -> None:
    one, two = await pool.lease(DEDICATED), await pool.lease(DEDICATED)
    assert one.child is not two.child
    assert one.child.state is ChildState.GREETING


async def test_a_lease_that_is_released_twice_is_released_once(pool: ChildPool) -> None:
    one, two = await pool.lease(SHARED), await pool.lease(SHARED)
    one.release()
    one.release()
    assert two.child.holders == 1


async def test_a_shared_child_that_died_is_replaced(pool: ChildPool) -> None:
    first = (await pool.lease(SHARED)).child
    first.connection.transport.kill()
    await first.ended.wait()
    assert (await pool.lease(SHARED)).child is not first


async def test_one_caller_that_gives_up_does_not_stop_the_start_for_the_others(pool: ChildPool) -> None:
    impatient = asyncio.create_task(pool.lease(SHARED))
    patient = asyncio.create_task(pool.lease(SHARED))
    await asyncio.sleep(0)
    impatient.cancel()
    lease = await patient
    assert lease.child.holders == 1


async def test_a_child_whose_only_caller_gave_up_is_stopped(pool: ChildPool) -> None:
    caller = asyncio.create_task(pool.lease(SHARED))
    await asyncio.sleep(0)
    [child] = pool.children
    caller.cancel()
    await child.ended.wait()
    assert pool.children == []


async def test_closing_does_not_wait_for_a_child_that_never_answers_its_greeting() -> None:
    pool = _pool(command="cat", args=["/dev/null", "-"])
    caller = asyncio.create_task(pool.lease(SHARED))
    await asyncio.sleep(0)
    async with in_time():
        await pool.close()
    with pytest.raises(ChildUnavailable, match="stopped while it started"):
        await caller


async def test_a_request_to_a_child_that_has_ended_is_refused(pool: ChildPool) -> None:
    lease = await pool.lease(SHARED)
    lease.connection.transport.kill()
    await lease.child.ended.wait()
    with pytest.raises(ConnectionClosed, match="signal 9"):
        lease.connection.exchange(Exchange(Request(b"1", "ping")))


async def test_a_closed_pool_lends_nothing(pool: ChildPool) -> None:
    await pool.close()
    with pytest.raises(ChildUnavailable, match="shutting down"):
        await pool.lease(SHARED)


async def test_max_children_of_a_server_holds() -> None:
    pool = _pool(maxChildren=1)
    await pool.lease(DEDICATED)
    with pytest.raises(ChildUnavailable, match="maxChildren"):
        await pool.lease(DEDICATED)
    await pool.close()


async def test_a_few_children_start_at_a_time() -> None:
    pool = _pool(command="sh", args=["-c", "while read line; do echo '{}'; done"], starts=Starts(2, silence=1000))
    leasing = [asyncio.create_task(pool.lease(DEDICATED)) for _ in range(5)]
    one, two = [await task for task in leasing[:2]]
    assert [child.pid is not None for child in pool.children] == [True, True, False, False, False]
    one.connection.transport.write(b"speak")
    three = await leasing[2]
    two.release()  # its end is as good as a word of it
    four = await leasing[3]
    assert not leasing[4].done()
    assert {lease.child.state for lease in (one, three, four)} == {ChildState.GREETING}
    leasing[4].cancel()
    await pool.close()


async def test_a_warm_child_that_waits_to_start_is_next_when_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.children.spares.REFILL", 1000)
    pool = _pool(command="cat", args=[], starts=Starts(1, silence=1000, patience=1000))
    warm = Sharing(holders=1, hold="session", warm=2)
    pool.keep_warm(warm)
    first, second = pool.children
    await first.ready
    assert second.pid is None
    async with in_time():
        leases = [await pool.lease(warm) for _ in range(2)]
    assert {lease.child for lease in leases} == {first, second}
    await pool.close()


async def test_a_warm_child_that_was_taken_is_replaced_a_moment_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.children.spares.REFILL", 0)
    pool = _pool(warm=1)
    warm = Sharing(holders=1, hold="session", warm=1)
    pool.keep_warm(warm)
    [first] = pool.children
    await first.ready
    lease = await pool.lease(warm)
    assert pool.children == [lease.child] == [first], "its holder has the processor first"
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(pool.children) == 2
    assert (await pool.lease(warm)).child is pool.children[1]
    await pool.close()


ONE_FOR_ALL = Sharing(holders=1, hold="exchange", limit=1)


async def _queued(pool: ChildPool, callers: int) -> tuple[Lease, list[asyncio.Task[Lease]]]:
    """One that holds the only child, and callers that wait for it."""
    held = await pool.lease(ONE_FOR_ALL)
    waiting = [asyncio.create_task(pool.lease(ONE_FOR_ALL)) for _ in range(callers)]
    await asyncio.sleep(0)
    return held, waiting


async def test_who_waits_for_a_child_gets_it_before_who_comes_later(pool: ChildPool) -> None:
    held, [first, second] = await _queued(pool, 2)

    async def again() -> Lease:
        held.release()
        return await pool.lease(ONE_FOR_ALL)

    late = asyncio.create_task(again())
    for each in (first, second, late):
        done, _ = await asyncio.wait([first, second, late], return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE)
        assert [task for task in (first, second, late) if task in done and task.result()._held] == [each]
        each.result().release()


async def test_all_that_wait_for_a_child_learn_at_once_that_none_will_come_back(pool: ChildPool) -> None:
    _, waiting = await _queued(pool, 3)
    async with in_time():
        await pool.halt()
        for caller in waiting:
            with pytest.raises(Resting, match="it was stopped"):
                await caller


async def test_a_child_that_comes_as_its_caller_gives_up_goes_to_the_next(pool: ChildPool) -> None:
    held, [first, second] = await _queued(pool, 2)
    held.release()
    first.cancel()
    async with in_time():
        assert (await second).child is held.child
    assert held.child.holders == 1


async def test_capacity_is_given_back_by_children_that_cannot_start() -> None:
    pool = _pool(capacity=1, command="/no/such/program")
    for _ in range(3):
        with pytest.raises(StartFailed, match="not found"):
            await pool.lease(SHARED)
        await asyncio.gather(*(child.ended.wait() for child in pool.children))
    await pool.close()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            '{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"no licence"}}',
            "refused to initialize: no licence",
        ),
        ('{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"1.0"}}', "speaks protocol version '1.0'"),
        ('{"jsonrpc":"2.0","id":1,"result":{}}', "speaks protocol version None"),
    ],
)
async def test_a_greeting_that_fails_says_why(answer: str, words: str) -> None:
    pool = _pool(command="sh", args=["-c", f"read line; echo '{answer}'; cat"])
    with pytest.raises(StartFailed, match=words):
        await pool.lease(SHARED)
    await pool.close()
