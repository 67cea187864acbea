"""Nodes answer without a task what is about a session of their own: for clients, and for other nodes."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from bridge.cluster.hop import Hop
from bridge.cluster.members import Member
from bridge.cluster.node import Node, node_of
from bridge.config.servers import parse_servers
from bridge.config.settings import read_settings
from bridge.web.app import Service
from bridge.web.hops import HOP_HEADER
from tests.conftest import Running, Session, peer, tool
from tests.modern_client import ModernClient
from tests.web.test_direct import ways, wired

__all__ = ["ways"]

KEY = b"0123456789abcdef" * 2


class Two:
    """This node, and one that cannot be reached."""

    own = Member("w1", 1, "http://127.0.0.1:9")

    def find(self, node: str) -> Member | None:
        return next((member for member in (self.own, *self.others()) if member.node == node), None)

    def others(self) -> list[Member]:
        return [Member("w2", 1, "http://127.0.0.1:9")]

    def least_loaded(self) -> Member:
        return self.own

    def missing(self) -> list[str]:
        return []

    def publish(self, children: int) -> None: ...


@pytest.fixture
def node() -> Node:
    return node_of(Two(), KEY)


@pytest.fixture
async def bridge(node: Node) -> AsyncIterator[Running]:
    settings = read_settings({"PORT": "0", "PINS_FILE": ""})
    servers = parse_servers(json.dumps({"peer": peer(), "other": peer()}), "servers.json", {})
    service = Service(settings, servers, lambda _: lambda _: None, node)
    await service.start()
    async with aiohttp.ClientSession() as http:
        yield Running(service, http)
    await service.stop()


def sealed(node: Node, **changes: Any) -> str:
    right: dict[str, Any] = {
        "to": "w1",
        "sender": "w2",
        "method": "POST",
        "target": "/mcp/peer",
        "caller": ["anonymous", ["admin"], None, None, True],
        "address": "10.1.2.3",
        "scheme": "http",
        "host": "localhost",
    }
    return f"{HOP_HEADER}: {node.seals.write(Hop(**{**right, **changes}), time.time())}\r\n"


async def test_a_client_of_a_session_that_is_here(bridge: Running, ways: Counter[str]) -> None:
    session = await bridge.session()
    async with wired(bridge) as wire:
        ways.clear()
        wire.send(session, tool("echo", 1, x=1))
        assert await wire.result() == {"x": 1}
        assert ways == {"direct": 1}


async def test_what_is_not_here_is_looked_for(bridge: Running, ways: Counter[str]) -> None:
    session = await bridge.session()
    elsewhere = Session(session.http, session.url, session.id.replace("w1.", "w2."), {})
    async with wired(bridge) as wire:
        ways.clear()
        wire.send(elsewhere, tool("echo", 1))
        assert (await wire.answer())[0] == 404
        assert ways["direct"] == 0


async def test_modern_answers_go_the_usual_way(bridge: Running, ways: Counter[str]) -> None:
    modern = ModernClient(bridge, "peer")
    for _ in range(2):
        await modern.call("echo", x=1)
    assert ways["direct"] == 0


async def test_another_node_is_believed_by_its_seal_alone(bridge: Running, node: Node, ways: Counter[str]) -> None:
    session = await bridge.session()
    seal = sealed(node)
    async with wired(bridge) as wire:
        for expected in ("usual", "direct"):
            ways.clear()
            wire.send(session, tool("echo", 1, x=1), seal)
            assert await wire.result() == {"x": 1}
            assert ways == {expected: 1}
        nonsense = (f"{HOP_HEADER}: {each}\r\n" for each in ("x.y", "\udcff.y"))  # a byte that is no UTF-8
        for wrong in (sealed(node, to="w2"), sealed(node, target="/mcp/other"), *nonsense):
            ways.clear()
            wire.send(session, tool("echo", 1, x=1), wrong)
            assert (await wire.answer())[0] == 403
            assert ways["direct"] == 0
        ways.clear()
        wire.send(await bridge.session("other"), tool("echo", 1, x=1), seal)  # it is for the other path
        assert (await wire.answer())[0] == 403
        assert ways["direct"] == 0
        ways.clear()
        wire.send(session, tool("echo", 1, x=1), seal + "Origin: http://localhost\r\n")
        assert "access-control-allow-origin" not in (await wire.answer())[1]
        assert ways["direct"] == 0


async def test_on_the_way_out_each_answer_asks_for_the_end(bridge: Running, ways: Counter[str]) -> None:
    session = await bridge.session()
    async with wired(bridge) as wire:
        bridge.service._drain.hands_over = True
        ways.clear()
        wire.send(session, tool("echo", 1, x=1))
        _, head, _ = await wire.answer()
        assert head["connection"] == "close"
        assert ways["direct"] == 0
        bridge.service._drain.hands_over = False


async def test_while_it_is_not_sure_that_they_are_its_own_nothing_is_answered_at_once(
    bridge: Running, ways: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await bridge.session()
    cluster = bridge.service._cluster
    assert cluster is not None
    monkeypatch.setattr(type(cluster.nodes), "is_sure", False)
    async with wired(bridge) as wire:
        ways.clear()
        wire.send(session, tool("echo", 1, x=1))
        assert await wire.result() == {"x": 1}
        assert ways["direct"] == 0
