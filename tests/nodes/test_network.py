"""Nodes and Redis on hosts of their own, and a network that loses packets or is slow, and says nothing of it."""

from __future__ import annotations

import asyncio
import time

import pytest

from bridge.web.links import SILENCE
from tests.conftest import INITIALIZE, events, last, message
from tests.faults.conftest import until
from tests.nodes.conftest import LEASE, Node, Nodes, answer_of
from tests.nodes.network import Network
from tests.nodes.test_drain import Client, check_ends
from tests.nodes.test_random import Chaos, play
from tests.nodes.test_redis_away import taken_over, until_well

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


async def calling(nodes: list[Node]) -> tuple[list[Client], list[asyncio.Task[None]]]:
    """Two clients per node, which call, and have been answered."""
    clients = [Client(nodes, await nodes[number % 3].session(), number) for number in range(6)]
    running = [asyncio.create_task(each) for client in clients for each in (client.run(), client.watch())]
    await until(lambda: all(client.owners for client in clients), "they do not call", 60)
    return clients, running


async def stop(clients: list[Client], running: list[asyncio.Task[None]]) -> None:
    for client in clients:
        client.stopping = True
    await asyncio.gather(*running)


@pytest.mark.parametrize("others", [["redis"], ["redis", "b", "c"]], ids=["redis", "everybody"])
async def test_a_node_that_is_cut_off_while_clients_arrive_has_nothing_left(
    far: Nodes, network: Network, others: list[str]
) -> None:
    a, b, c = living = await far.start_all("abc")
    clients, running = await calling(living)
    before = a.children()
    assert len(before) == 2
    network.cut("a", *others)
    its = [client for client in clients if client.session.id.startswith("a.")]
    arrived = [Client(living, await node.session(), 9) for node in (b, c)]  # while nobody knows that anything is wrong
    await until(lambda: all(len(client.owners) == 2 for client in its), "nobody takes its sessions", 30)
    async with a.post("/mcp/peer", message("initialize", 0, **INITIALIZE)) as response:
        assert response.status == 503
        assert "lease" in (await last(response))["error"]["message"]
    arrived += [Client(living, await node.session(), 9) for node in (b, c)]
    network.join()
    await until_well(a, b, c)
    await until(lambda: not [each for each in before if each.is_running()], "its children are left", 20)
    await stop(clients, running)
    check_ends(clients, 20)
    for client in (*clients, *arrived):
        assert "result" in await a.at(client.session).call("count")
    assert sum(len(node.children()) for node in living) == len(clients) + len(arrived)


async def test_nodes_that_do_not_reach_each_other_say_so_and_take_nothing(far: Nodes, network: Network) -> None:
    a, b, c = living = await far.start_all("abc")
    session = await a.session()
    [child] = a.children()
    assert (await b.at(session).call("pid"))["result"]["pid"] == child.pid  # over a connection that is kept
    stream = await b.at(session).get().__aenter__()
    waiting = asyncio.create_task(answer_of(b.at(session), "never", 7))
    while (await a.get("/children"))[0]["open_calls"] < 1:
        pass
    async with asyncio.timeout(2 * SILENCE), c.at(session).get() as other:
        network.cut("a", "b")
        found = await asyncio.gather(*(answer_of(b.at(session), "pid", id_) for id_ in range(3)))
        # What went over a connection that was there may have been read; what needed a new one was not.
        assert {status for status, _ in found} <= {502, 503}
        status, said = await waiting
        assert (status, said["id"]) == (502, 7)
        assert [each async for each in events(stream)] == []
        await a.at(session).call("list_changed")
        assert (await anext(events(other)))["method"] == "notifications/tools/list_changed"
    assert (await answer_of(b.at(session), "pid"))[0] == 503
    for node in (a, c):
        assert (await node.at(session).call("pid"))["result"]["pid"] == child.pid
    network.join()
    async with asyncio.timeout(20):
        while (found_again := await answer_of(b.at(session), "pid"))[0] != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert found_again[1]["result"]["pid"] == child.pid
    assert sum(len(node.children()) for node in living) == 1


async def test_nodes_that_are_far_from_each_other_work(far: Nodes, network: Network) -> None:
    network.delay = 0.05
    a, b, c = living = await far.start_all("abc")
    clients, running = await calling(living)
    session = await a.session()
    begun = time.monotonic()
    assert (await b.at(session).call("count"))["result"]["count"] == 1
    assert time.monotonic() - begun >= 4 * network.delay  # to b, to a, and back
    await until(lambda: all(client.ends["answered"] > 10 for client in clients), "they do not call", 60)
    assert {end for client in clients for end in client.ends} == {"answered"}
    await c.kill()
    assert await taken_over(b.at(session)) == 2
    its = [client for client in clients if client.session.id.startswith("c.")]
    await until(lambda: all(len(client.owners) == 2 for client in its), "nobody takes its sessions", 30)
    await until(lambda: all(client.ends["answered"] > 30 for client in clients), "they do not call", 60)
    await stop(clients, running)
    check_ends(clients, 20)
    assert sum(len(node.children()) for node in (a, b)) == len(clients) + 1


class Weather(Chaos):
    """What may happen between hosts, too."""

    def __init__(self, nodes: Nodes, network: Network, seed: int) -> None:
        super().__init__(nodes, seed)
        self.network = network

    async def cut(self) -> None:
        names = [*"abc", "redis"]
        one, *others = self.random.sample(names, self.random.randint(2, len(names)))
        self.network.cut(one, *others)
        await asyncio.sleep(self.random.uniform(0, 4 * LEASE))
        self.network.join()

    async def slow(self) -> None:
        self.network.delay = 0.05
        await asyncio.sleep(2 * LEASE)
        self.network.delay = 0


@pytest.mark.parametrize("seed", [1])
async def test_whatever_happens_on_the_way_every_call_ends_once(far: Nodes, network: Network, seed: int) -> None:
    chaos = Weather(far, network, seed)
    chaos.living = await far.start_all("abc")
    await play(chaos, chaos.kill, chaos.sleep, chaos.cut, chaos.cut, chaos.slow)
