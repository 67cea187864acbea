"""Three nodes behind a real nginx, with the configuration that we hand out: clients do not see that there are three."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.conftest import Running, events, last, message, peer, tool
from tests.nodes.balancer import nginx_command
from tests.nodes.conftest import SLOW, Node, Nodes, free_port

pytestmark = SLOW


class Balanced(Running):
    """What clients see."""

    def __init__(self, url: str, nodes: list[Node]) -> None:
        self.http = aiohttp.ClientSession()
        self.nodes = nodes
        self._url = url

    @property
    def url(self) -> str:
        return self._url


@pytest.fixture
async def balanced(nodes: Nodes, tmp_path: Path) -> AsyncIterator[Balanced]:
    servers = {"peer": {**peer(persistent=True), "args": [*peer()["args"], "--changes"]}}
    living = await nodes.start_all("abc", servers, TRUST_PROXY="true")
    port = free_port()
    command = nginx_command(tmp_path / "nginx", port, [node.url for node in living])
    process = await asyncio.create_subprocess_exec(*command)
    found = Balanced(f"http://127.0.0.1:{port}", living)
    async with asyncio.timeout(10):
        while True:
            try:
                await found.get("/livez")
                break
            except aiohttp.ClientConnectorError:  # nginx does not say when it listens
                await asyncio.sleep(0.02)
    yield found
    await found.http.close()
    process.terminate()
    await process.wait()


async def test_any_node_answers_any_session(balanced: Balanced) -> None:
    sessions = [await balanced.session() for _ in range(4)]
    for number in range(1, 7):
        found = await asyncio.gather(*(session.call("count", number) for session in sessions))
        assert [answer["result"]["count"] for answer in found] == [number] * 4
    assert len(await balanced.get("/api/v1/sessions")) == 4
    async with sessions[0].delete() as response:
        assert response.status == 204
    for _ in range(3):
        async with sessions[0].post(tool("count")) as response:
            assert response.status == 404


async def test_streams_and_questions_come_through_whichever_node(balanced: Balanced) -> None:
    session = await balanced.session()
    for _ in range(3):
        async with session.get() as stream:
            await session.call("list_changed")
            async with asyncio.timeout(10):
                assert (await anext(events(stream)))["method"] == "notifications/tools/list_changed"
    for number in range(3):
        async with session.post(tool("ask", 10 + number)) as asked:
            said = events(asked)
            question = await anext(said)
            assert question["method"] == "elicitation/create"
            answer = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}}
            async with session.post(answer) as response:
                assert response.status == 202
            assert (await anext(said))["id"] == 10 + number


async def test_a_killed_node_costs_a_session_a_moment(balanced: Balanced) -> None:
    session = await balanced.session()
    await session.call("count")
    [row] = await balanced.get("/api/v1/sessions")
    [holder] = [node for node in balanced.nodes if node.name == row["node"]]
    await holder.kill()
    for number in range(1, 5):
        assert (await session.call("count", number))["result"]["count"] == number
    [row] = await balanced.get("/api/v1/sessions")
    assert row["node"] != holder.name
    async with balanced.post("/mcp/peer", message("initialize", 1, protocolVersion="2025-06-18")) as response:
        assert response.status == 200
        assert (await last(response))["result"]
