"""Redis ends, comes back empty, or does not answer: what goes on, and what is said where something cannot."""

from __future__ import annotations

import asyncio
import signal

from tests.conftest import INITIALIZE, Session, last, message
from tests.faults.conftest import until
from tests.nodes.conftest import BEGINS, LEASE, SLOW, Node, Nodes, acquainted, answer_of, begin_arriving

pytestmark = SLOW


async def troubles(node: Node) -> str:
    return str((await node.get("/health")).get("reasons", ""))


async def until_well(*nodes: Node) -> None:
    """Wait until nodes have their leases again, and nothing is held back any longer."""
    async with asyncio.timeout(20):
        for node in nodes:
            while "redis" in (said := (await troubles(node)).lower()) or "lease" in said:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def taken_over(session: Session) -> int:
    """Call until nothing is promised any longer to a node that could not reach Redis, and return the count."""
    async with asyncio.timeout(20):
        while (found := await answer_of(session))[0] == 503:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return int(found[1]["result"]["count"])


async def test_without_redis_live_sessions_go_on_and_nothing_is_taken(nodes: Nodes) -> None:
    a, b, c = await nodes.start_all("abc")
    session, lost = await a.session(), await c.session()
    assert (await b.at(session).call("count"))["result"]["count"] == 1
    nodes.redis.stop()
    end = asyncio.get_running_loop().time() + 4 * LEASE
    number = 1
    while asyncio.get_running_loop().time() < end:  # longer than any lease
        number += 1
        assert (await (a, b)[number % 2].at(session).call("count"))["result"]["count"] == number
    assert "redis" in (await troubles(a)).lower()
    fresh = await b.session()  # in memory only
    assert (await a.at(fresh).call("count"))["result"]["count"] == 1
    await c.kill()
    status, said = await answer_of(b.at(lost))
    assert status == 503, said
    nodes.redis.start()  # empty
    await until_well(a, b)
    for known in (session, fresh):
        await until(lambda key=f"persistent_session:{known.id}": nodes.redis.cli("EXISTS", key) == "1", "it is written")  # type: ignore[misc]
    assert (await b.at(session).call("count"))["result"]["count"] == number + 1
    await a.kill()
    assert await taken_over(b.at(session)) == 1


async def test_redis_that_freezes_for_longer_than_a_lease_costs_no_session(nodes: Nodes) -> None:
    a, b = await nodes.start_all("ab")
    session = await a.session()
    assert nodes.redis.process is not None
    nodes.redis.process.send_signal(signal.SIGSTOP)
    end = asyncio.get_running_loop().time() + 4 * LEASE
    number = 0
    while asyncio.get_running_loop().time() < end:
        number += 1
        assert (await (a, b)[number % 2].at(session).call("count"))["result"]["count"] == number
    nodes.redis.process.send_signal(signal.SIGCONT)
    end = asyncio.get_running_loop().time() + 2 * LEASE
    while asyncio.get_running_loop().time() < end:
        number += 1
        assert (await (b, a)[number % 2].at(session).call("count"))["result"]["count"] == number
    assert [len(node.children()) for node in (a, b)] == [1, 0]


async def test_a_node_that_alone_cannot_reach_redis_stops_serving(nodes: Nodes) -> None:
    server, writer = None, []  # a way to Redis that is cut

    async def relay(reader: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        there_reader, there = await asyncio.open_connection("127.0.0.1", nodes.redis.port)
        writer.extend((out, there))

        async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                target.write(data)
            target.close()

        await asyncio.gather(pump(reader, there), pump(there_reader, out), return_exceptions=True)

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    a, b = await nodes.start("a", REDIS_URL=f"redis://127.0.0.1:{port}"), await nodes.start("b")
    session, _ = await a.session(), await b.session()
    await acquainted(a, b)  # a has heard of b, whom it will ask
    server.close()
    for each in writer:
        each.close()
    async with asyncio.timeout(20):
        while (found := await answer_of(a.at(session)))[0] == 200:
            pass
    assert found[0] == 503
    assert "lease" in found[1]["error"]["message"]
    async with a.http.get(f"{a.url}/readyz") as response:
        assert (response.status, await response.json()) == (503, {"status": "without a lease"})
    # b may find its lease still there, and has to ask a then, which does not answer for it any longer
    assert await taken_over(b.at(session)) == 1
    async with a.post("/mcp/peer", message("initialize", 0, **INITIALIZE)) as response:
        assert response.status == 503
        assert "lease" in (await last(response))["error"]["message"]
    # one that b sends, because it has not heard of that yet, is sent back: b begins it
    assert {path: await begin_arriving(a, path) for path in BEGINS} == dict.fromkeys(BEGINS, 421)
