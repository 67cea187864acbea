"""Batches, which exist in 2025-03-26 only."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bridge.web.mcp import MOST_PARTS, PARTS_AT_ONCE
from tests.conftest import Running, message, sse, tool

VERSION = "2025-03-26"


async def test_a_batch_is_split_and_answered_as_one_array(bridge: Running) -> None:
    session = await bridge.session(protocolVersion=VERSION)
    batch = [tool("echo", 1, a=1), message("notifications/roots/list_changed"), tool("echo", "1", a=2), tool("no", 3)]
    async with session.post(batch) as response:
        assert response.status == 200
        assert response.content_type == "application/json"
        answers = {repr(answer["id"]): answer for answer in await response.json()}
    assert answers["1"]["result"] == {"a": 1}
    assert answers["'1'"]["result"] == {"a": 2}
    assert answers["3"]["error"]["code"] == -32602
    assert len(answers) == 3


async def test_progress_makes_a_stream_of_it_with_all_answers(bridge: Running) -> None:
    session = await bridge.session(protocolVersion=VERSION)
    async with session.post([tool("progress", 1, token="p", steps=2), tool("echo", 2, a=1)]) as response:
        got = [body for _, body in [event async for event in sse(response)]]
    assert sorted(body["id"] for body in got if "id" in body) == [1, 2]
    assert [body["params"]["progress"] for body in got if "method" in body] == [1, 2]


async def test_a_lost_batch_can_be_resumed(bridge: Running) -> None:
    session = await bridge.session(protocolVersion=VERSION)
    async with session.post([tool("wait", 1, key="k"), tool("echo", 2, a=1)]) as response:
        event_id, _ = await anext(sse(response))
    await session.call("release", key="k")
    stream, _, _ = event_id.partition("-")
    async with session.get(f"{stream}-0") as resumed:
        got = [body async for _, body in sse(resumed)]
    assert sorted(body["id"] for body in got if "id" in body) == [1, 2]


async def test_notifications_and_answers_alone_are_accepted(bridge: Running) -> None:
    session = await bridge.session(protocolVersion=VERSION)
    async with session.post([message("notifications/cancelled", requestId=99)]) as response:
        assert response.status == 202
        assert await response.read() == b""


async def test_a_question_is_answered_within_a_batch(bridge: Running) -> None:
    session = await bridge.session(protocolVersion=VERSION)
    async with session.post(tool("ask", 1)) as response:
        stream = sse(response)
        _, question = await anext(stream)
        async with session.post([{"jsonrpc": "2.0", "id": question["id"], "result": {"b": 1}}]) as accepted:
            assert accepted.status == 202
        assert (await anext(stream))[1]["result"] == {"answer": {"b": 1}}


async def test_a_part_that_is_no_message_is_answered_with_an_error(bridge: Running) -> None:
    session = await bridge.session(protocolVersion=VERSION)
    async with session.post([tool("echo", 1), {"id": 5}, message("initialize", 9)]) as response:
        answers = {str(answer["id"]): answer for answer in await response.json()}
    assert "result" in answers["1"]
    assert answers["None"]["error"]["code"] == -32600
    assert "must not be in a batch" in answers["9"]["error"]["message"]


@pytest.mark.parametrize("version", ["2024-11-05", "2025-06-18", "2025-11-25"])
async def test_other_versions_refuse_batches(bridge: Running, version: str) -> None:
    session = await bridge.session(protocolVersion=version)
    async with session.post([tool("echo", 1)]) as response:
        assert response.status == 400
        assert "2025-03-26 only" in (await response.json())["error"]["message"]


@pytest.mark.parametrize(("body", "code"), [([], -32600), (b"[1,", -32700)])
async def test_an_empty_or_broken_batch_is_refused(bridge: Running, body: Any, code: int) -> None:
    session = await bridge.session(protocolVersion=VERSION)
    async with bridge.post("/mcp/peer", body, Mcp_Session_Id=session.id) as response:
        assert response.status == 400
        assert (await response.json())["error"]["code"] == code


async def test_a_dead_child_ends_every_part(bridge: Running) -> None:
    session = await bridge.session(protocolVersion=VERSION)
    async with session.post([tool("never", 1), tool("die", 2), tool("never", 3)]) as response:
        answers = await response.json()
    assert sorted(answer["id"] for answer in answers) == [1, 2, 3]
    assert all("error" in answer for answer in answers)


@pytest.mark.parametrize("part", [tool("echo", 1), message("notifications/cancelled", requestId=99)])
async def test_a_batch_that_is_too_long_is_refused_as_a_whole(bridge: Running, part: dict[str, Any]) -> None:
    session = await bridge.session(protocolVersion=VERSION)
    async with session.post([part] * (MOST_PARTS + 1)) as response:
        assert response.status == 400
        assert f"has {MOST_PARTS + 1} messages, may have {MOST_PARTS}" in (await response.json())["error"]["message"]


async def test_others_are_served_while_a_long_batch_is_sent(bridge: Running) -> None:
    session = await bridge.session(protocolVersion=VERSION)
    entry = bridge.service.core.stream_pool.find(session.id)
    assert entry is not None
    steps = []

    async def watch() -> None:
        while True:
            before = entry.in_use
            await asyncio.sleep(0)
            steps.append(entry.in_use - before)

    watching = asyncio.create_task(watch())
    async with session.post([tool("echo", number) for number in range(MOST_PARTS)]) as response:
        assert len(await response.json()) == MOST_PARTS
    watching.cancel()
    assert 0 < max(steps) <= PARTS_AT_ONCE
