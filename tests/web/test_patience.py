"""What happens when somebody is silent for long: comments, questions without answer, children that do not read."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from bridge.process import pipes, stdin
from bridge.sessions import streamable
from bridge.web import reply
from tests.conftest import Running, StartBridge, events, last, message, peer, tool


async def test_silence_turns_an_answer_into_a_stream_with_comments(
    start_bridge: StartBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reply, "KEEP_ALIVE", 0.02)
    bridge = await start_bridge()
    session = await bridge.session()
    async with session.post(tool("never", 1)) as response:
        assert response.content_type == "text/event-stream"
        for _ in range(3):
            assert await response.content.readline() == b": ping\n"
            assert await response.content.readline() == b"\n"


async def test_a_get_stream_begins_with_a_comment_at_once(bridge: Running) -> None:
    session = await bridge.session()
    async with session.get() as response:
        assert await response.content.readline() == b": ping\n"


async def test_an_sse_stream_is_kept_open_by_comments(
    start_bridge: StartBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reply, "KEEP_ALIVE", 0.02)
    bridge = await start_bridge()
    async with bridge.http.get(bridge.url + "/sse/peer") as response:
        text = b""
        while b": ping\n\n: ping" not in text:
            text += await response.content.readany()


async def test_a_question_that_is_never_answered_is_answered_with_an_error(
    bridge: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamable, "QUESTION_TIMEOUT", 0.05)
    session = await bridge.session()
    async with session.post(tool("ask", 1)) as response:
        assert "did not answer" in (await last(response))["result"]["answer"]["message"]
    [row] = await bridge.get("/sessions")
    assert row["in_use"] == 0


async def test_a_question_keeps_its_call_from_timing_out(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"peer": peer(requestTimeout=30)})
    session = await bridge.session()
    async with session.post(tool("ask", 1)) as response:
        stream = events(response)
        question = await anext(stream)
        async with session.post(message("ping", 2)) as pong:  # a person takes their time
            assert pong.status == 200
        async with session.post({"jsonrpc": "2.0", "id": question["id"], "result": {"late": True}}) as accepted:
            assert accepted.status == 202
        assert (await anext(stream))["result"] == {"answer": {"late": True}}


async def test_a_question_that_the_server_takes_back_counts_no_longer(bridge: Running) -> None:
    session = await bridge.session()
    async with session.post(tool("ask_later", 1)) as response:
        question, _ = [event async for event in events(response)]
    assert question["method"] == "roots/list"
    assert (await bridge.get("/children"))[0]["open_questions"] == 1
    assert (await bridge.get("/sessions"))[0]["in_use"] == 1
    async with session.post(tool("withdraw", 2)) as response:
        withdrawn, _ = [event async for event in events(response)]
    assert withdrawn["params"]["requestId"] == question["id"]
    assert (await bridge.get("/children"))[0]["open_questions"] == 0
    assert (await bridge.get("/sessions"))[0]["in_use"] == 0


async def test_a_child_that_reads_nothing_fails_what_it_is_asked_and_nothing_else(
    bridge: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stdin, "BACKLOG", 100_000)
    monkeypatch.setattr(pipes, "WIDE", 64 * 1024)
    frozen, other = await bridge.session(), await bridge.session()
    os.kill((await frozen.call("pid"))["result"]["pid"], signal.SIGSTOP)
    first = asyncio.create_task(frozen.call("echo", 1, text="x" * 300_000))
    while not any(row["open_calls"] for row in await bridge.get("/children")):
        pass
    assert "does not read its input" in (await frozen.call("echo", 2))["error"]["message"]
    async with frozen.post(message("notifications/roots/list_changed")) as response:
        assert response.status == 202  # dropped, and said in the log
    assert (await other.call("echo", 3, a=1))["result"] == {"a": 1}
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
