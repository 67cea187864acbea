"""Nodes and Redis that fail in a random order, while clients call: a seed says which."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable

import pytest

from tests.nodes.conftest import LEASE, Nodes
from tests.nodes.test_drain import Client, check_ends

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
EVENTS = 9


class Chaos:
    """Does one thing after the other to nodes, in place of ``living``."""

    def __init__(self, nodes: Nodes, seed: int) -> None:
        self.nodes = nodes
        self.living = nodes.all[:]
        self.random = random.Random(seed)

    async def kill(self) -> None:
        place = self.random.randrange(len(self.living))
        await self.living[place].kill()
        await asyncio.sleep(self.random.uniform(0, 2 * LEASE))
        self.living[place] = await self.nodes.start(self.living[place].name)

    async def end(self) -> None:
        place = self.random.randrange(len(self.living))
        assert await self.nodes.end(self.living[place]) == 0
        self.living[place] = await self.nodes.start(self.living[place].name)

    async def sleep(self) -> None:
        node = self.random.choice(self.living)
        node.signal(signal.SIGSTOP)
        await asyncio.sleep(self.random.uniform(0, 3 * LEASE))
        node.signal(signal.SIGCONT)

    async def freeze_redis(self) -> None:
        assert self.nodes.redis.process is not None
        self.nodes.redis.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(self.random.uniform(0, 3 * LEASE))
        self.nodes.redis.process.send_signal(signal.SIGCONT)

    async def empty_redis(self) -> None:
        self.nodes.redis.stop()
        await asyncio.sleep(self.random.uniform(0, 3 * LEASE))
        self.nodes.redis.start()
        await asyncio.sleep(4 * LEASE)  # what is lost together with its node before it is written again is lost


async def play(chaos: Chaos, *kinds: Callable[[], Awaitable[None]]) -> None:
    """Let such things happen to three nodes while clients call; every call ends once, each session has one owner."""
    clients = [Client(chaos.living, await chaos.living[number % 3].session(), number) for number in range(6)]
    running = [asyncio.create_task(each) for client in clients for each in (client.run(), client.watch())]
    for _ in range(EVENTS):
        happens = chaos.random.choice(kinds)
        print(f"--- {happens.__name__}")
        await happens()
        await asyncio.sleep(2 * LEASE)
    for client in clients:
        client.stopping = True
    await asyncio.gather(*running)
    check_ends(clients)
    for client in clients:
        assert "result" in await chaos.living[0].at(client.session).call("count")
    async with asyncio.timeout(20):
        while sum(len(node.children()) for node in chaos.living) > len(clients):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    held = [row["session_id"] for row in await chaos.living[0].get("/api/v1/sessions")]
    assert len(held) == len(set(held)) == len(clients)


@pytest.mark.parametrize("seed", [1])
async def test_every_call_ends_once_and_every_session_has_one_owner(nodes: Nodes, seed: int) -> None:
    chaos = Chaos(nodes, seed)
    chaos.living = await nodes.start_all("abc")
    await play(chaos, chaos.kill, chaos.end, chaos.sleep, chaos.freeze_redis, chaos.empty_redis)
