"""HTTP+SSE of 2024-11-05: ``/sse/{server_id}`` and ``/messages/{server_id}``."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from tests.conftest import INITIALIZE, Running, message, tool


class SseClient:
    """What an old client does."""

    def __init__(self, bridge: Running, response: aiohttp.ClientResponse) -> None:
        self._bridge = bridge
        self._response = response
        self.endpoint = ""

    async def event(self) -> tuple[str, str]:
        """The next event: its type and data."""
        kind = data = ""
        async for line in self._response.content:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name == "event":
                kind = value
            elif name == "data":
                data = value
            elif not name and kind:
                return kind, data
        raise EOFError

    async def receive(self) -> dict[str, Any]:
        kind, data = await self.event()
        assert kind == "message"
        return dict(json.loads(data))

    async def send(self, body: Any, status: int = 202) -> str:
        async with self._bridge.post(self.endpoint, body) as response:
            assert response.status == status, await response.text()
            return str(await response.text())

    async def initialize(self, **params: Any) -> None:
        given = {**INITIALIZE, "protocolVersion": "2024-11-05", **params}
        await self.send(message("initialize", 0, **given))
        assert (await self.receive())["id"] == 0
        await self.send(message("notifications/initialized"))


@asynccontextmanager
async def connected(bridge: Running) -> AsyncIterator[SseClient]:
    async with bridge.http.get(bridge.url + "/sse/peer", headers={"Accept": "text/event-stream"}) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        assert response.headers["X-Accel-Buffering"] == "no"
        client = SseClient(bridge, response)
        kind, client.endpoint = await client.event()
        assert kind == "endpoint"
        yield client


async def test_everything_comes_on_the_one_stream(bridge: Running) -> None:
    async with connected(bridge) as client:
        await client.initialize()
        await client.send(tool("progress", "id", token="mine", steps=2))
        got = [await client.receive() for _ in range(3)]
    assert [event["params"]["progress"] for event in got[:2]] == [1, 2]
    assert {event["params"]["progressToken"] for event in got[:2]} == {"mine"}
    assert got[2]["id"] == "id"


async def test_a_question_is_asked_and_answered(bridge: Running) -> None:
    async with connected(bridge) as client:
        await client.initialize(capabilities={"sampling": {}, "elicitation": {}})
        await client.send(tool("ask", 5))
        question = await client.receive()
        assert question["method"] == "elicitation/create"
        await client.send({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept"}})
        assert (await client.receive())["result"] == {"answer": {"action": "accept"}}


async def test_the_session_ends_with_the_connection(bridge: Running) -> None:
    async with connected(bridge) as client:
        await client.initialize()
        [child] = bridge.service.core.registry.children()
        assert (await bridge.get("/sessions"))[0]["state"] == "active"
    await child.ended.wait()
    await client.send(tool("echo"), status=404)


async def test_the_stream_ends_with_the_child_after_an_error_for_what_was_open(bridge: Running) -> None:
    async with connected(bridge) as client:
        await client.initialize()
        await client.send(tool("wait", "open", key="k"))
        assert (await client.receive())["method"] == "notifications/message"
        await client.send(tool("die", "dies", code=3))
        ended = {(answer := await client.receive())["id"]: answer["error"]["message"] for _ in range(2)}
        assert set(ended) == {"open", "dies"}
        assert all("exited with code 3" in text for text in ended.values())
        with pytest.raises(EOFError):
            await client.receive()


async def test_two_clients_with_equal_ids_are_apart(bridge: Running) -> None:
    async with connected(bridge) as one, connected(bridge) as two:
        await one.initialize()
        await two.initialize()
        await one.send(tool("echo", 1, token="t", who="one"))
        await two.send(tool("echo", 1, token="t", who="two"))
        assert (await two.receive())["result"] == {"who": "two"}
        assert (await one.receive())["result"] == {"who": "one"}


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/messages/peer", 400, "session_id is missing"),
        ("/messages/peer?session_id=unknown", 404, "session not found"),
        ("/messages/nobody?session_id=x", 404, "no server"),
    ],
)
async def test_a_post_without_its_stream_is_refused(bridge: Running, path: str, status: int, words: str) -> None:
    async with bridge.post(path, message("ping", 1)) as response:
        assert response.status == status
        assert words in (await response.json())["error"]["message"]


async def test_a_session_of_the_other_transport_is_refused(bridge: Running) -> None:
    session = await bridge.session()
    async with bridge.post(f"/messages/peer?session_id={session.id}", message("ping", 1)) as response:
        assert response.status == 404
        assert "POST to /mcp/peer" in (await response.json())["error"]["message"]


async def test_what_is_no_message_is_refused(bridge: Running) -> None:
    async with connected(bridge) as client:
        assert "parse error" in await client.send(b"{", status=400)
        assert "batches" in await client.send([message("ping", 1)], status=400)
