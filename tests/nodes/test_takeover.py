"""Nodes that end, sleep, or lose Redis: who has a session then, and what its client hears."""

from __future__ import annotations

import asyncio
import signal

import aiohttp
import pytest

from bridge.observe.ids import shorten
from tests.conftest import Session, peer
from tests.faults.conftest import until
from tests.nodes.conftest import LEASE, SLOW, Node, Nodes, answer_of

pytestmark = SLOW


async def held_by(nodes: list[Node], session: Session) -> list[str]:
    """The names of the nodes that have a session: one, whatever happens."""
    return [node.name for node in nodes if {session.id, shorten(session.id)} & set(await node.own_sessions())]


async def test_a_session_goes_on_elsewhere_when_its_node_is_killed(nodes: Nodes) -> None:
    a, b = await nodes.start_all("ab")
    session = await a.session()
    assert [(await node.at(session).call("count"))["result"]["count"] for node in (a, b)] == [1, 2]
    await a.kill()
    # Asked before the lease has run out, too: the call waits for that.
    assert [(await b.at(session).call("count"))["result"]["count"] for _ in range(2)] == [1, 2]
    assert len(await b.own_sessions()) == 1
    a = await nodes.start("a")
    assert (await a.at(session).call("count"))["result"]["count"] == 3
    assert await a.own_sessions() == []


async def test_a_call_in_flight_ends_with_an_error_when_its_node_is_killed(nodes: Nodes) -> None:
    a, b = await nodes.start_all("ab")
    session = await a.session()
    await b.at(session).call("count")
    call = asyncio.create_task(answer_of(b.at(session), "never"))
    direct = asyncio.create_task(answer_of(a.at(session), "never", 2))
    while sum([row["open_calls"] for row in await a.get("/children") if row["node"] == "a"]) < 2:
        pass
    await a.kill()
    status, said = await call
    assert (status, "ended before it answered" in said["error"]["message"]) == (502, True)
    with pytest.raises(aiohttp.ClientError):
        await direct
    assert (await b.at(session).call("count"))["result"]["count"] == 1


async def test_a_node_that_slept_ends_what_was_taken_from_it(nodes: Nodes) -> None:
    a, b = await nodes.start_all("ab")
    session, untouched = await a.session(), await a.session()
    await b.at(session).call("count")
    before = a.children()
    assert len(before) == 2
    a.signal(signal.SIGSTOP)
    waiting = asyncio.create_task(answer_of(b.at(session), "count"))  # sent to a, which says nothing
    status, said = await waiting
    assert (status, "ended before it answered" in said["error"]["message"]) == (502, True)
    assert (await b.at(session).call("count"))["result"]["count"] == 1
    a.signal(signal.SIGCONT)
    assert (await a.at(session).call("count"))["result"]["count"] == 2  # of b
    assert (await b.at(untouched).call("count"))["result"]["count"] == 1
    assert await held_by([a, b], session) == ["b"]
    await until(lambda: len([each for each in before if each.is_running()]) == 1, "its child is left")


async def test_a_session_that_was_deleted_while_its_node_slept_stays_deleted(nodes: Nodes) -> None:
    a, b = await nodes.start_all("ab")
    session = await a.session()
    await b.at(session).call("count")
    before = a.children()
    a.signal(signal.SIGSTOP)
    assert (await answer_of(b.at(session)))[0] == 502  # sent to a, which says nothing
    assert (await b.at(session).call("count"))["result"]["count"] == 1
    async with b.at(session).delete() as response:
        assert response.status == 204
    a.signal(signal.SIGCONT)
    for node in (a, b):
        assert (await answer_of(node.at(session)))[0] == 404
    await until(lambda: not [each for each in before if each.is_running()], "its child is left")
    assert nodes.redis.cli("KEYS", "persistent_session:*") == ""


async def test_two_takers_at_once_get_one_owner(nodes: Nodes) -> None:
    a, b, c = await nodes.start_all("abc")
    sessions = [await a.session() for _ in range(4)]
    await a.kill()
    found = await asyncio.gather(*(node.at(session).call("count") for session in sessions for node in (b, c)))
    assert sorted(answer["result"]["count"] for answer in found) == [1] * 4 + [2] * 4
    for session in sessions:
        assert len(await held_by([b, c], session)) == 1
    assert len(b.children()) + len(c.children()) == 4


@pytest.mark.parametrize(
    ("entry", "said"), [({"onNodeLoss": "end"}, "onNodeLoss: end"), ({"restore": "refuse"}, "refuse")]
)
async def test_a_session_may_end_with_its_node(nodes: Nodes, entry: dict[str, str], said: str) -> None:
    servers = {"peer": peer(persistent=True, **entry)}
    a, b = await nodes.start_all("ab", servers)
    session = await a.session()
    await a.kill()
    status, answer = await answer_of(b.at(session))
    assert (status, said in answer["error"]["message"]) == (404, True)
    assert nodes.redis.cli("KEYS", "persistent_session:*") == ""


async def test_sessions_that_are_not_persistent_are_recreated_where_that_is_wanted(nodes: Nodes) -> None:
    servers = {"peer": peer(onNodeLoss="recreate"), "other": peer()}
    a, b = await nodes.start_all("ab", servers)
    session, other = await a.session(), await a.session("other")
    assert 200 < int(nodes.redis.cli("TTL", f"persistent_session:{session.id}")) <= 300
    await a.kill()
    assert (await b.at(session).call("count"))["result"]["count"] == 1
    other = Session(b.http, f"{b.url}/mcp/other", other.id, {})
    status, answer = await answer_of(other)
    assert (status, answer["error"]["code"]) == (404, -32001)


async def test_no_request_asks_redis(nodes: Nodes) -> None:
    a, b = await nodes.start_all("ab")
    session = await a.session()
    await b.at(session).call("count")
    calls = 200
    nodes.redis.cli("CONFIG", "RESETSTAT")
    begun = asyncio.get_running_loop().time()
    for number in range(calls // 2):
        await a.at(session).call("count", number)
        await b.at(session).call("count", number)
    seconds = asyncio.get_running_loop().time() - begun
    stats = dict(
        line.partition(":calls=")[::2] for line in nodes.redis.cli("INFO", "commandstats").split() if "calls=" in line
    )
    asked = {name.removeprefix("cmdstat_"): int(rest.partition(",")[0]) for name, rest in stats.items()}
    # Two nodes that say three times per lease that they live, and the use of one session that is written now and then.
    assert asked.get("eval", 0) + asked.get("evalsha", 0) <= 2 * 3 * (seconds / LEASE + 2) + 4
    assert asked.get("get", 0) <= 4 * (seconds / LEASE * 3 + 2)
