"""Event streams that break, and clients that come back (specification, resumability and redelivery)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bridge.sessions.backlog import KEPT_EMPTY
from tests.conftest import Running, Session, in_time, message, sse, tool


async def _waiting(session: Session, token: str = "p") -> tuple[Any, Any, str]:
    """A call that waits, with its event stream open: response, its events, id of the first."""
    response = await session.post(tool("wait", "mine", token=token, key="k")).__aenter__()
    stream = sse(response)
    event_id, message = await anext(stream)
    while message is None:
        event_id, message = await anext(stream)
    assert message["method"] == "notifications/message"
    return response, stream, event_id


async def _rest(session: Session, event_id: str) -> list[Any]:
    """What a client gets that comes back after an event."""
    async with session.get(event_id) as response:
        assert response.status == 200, await response.text()
        return [message async for _, message in sse(response)]


def _progress(messages: list[Any]) -> list[int]:
    return [message["params"]["progress"] for message in messages if message.get("method", "").endswith("progress")]


async def test_a_stream_cut_in_the_middle_of_five_events_goes_on_with_the_next(bridge: Running) -> None:
    session = await bridge.session()
    response, stream, event_id = await _waiting(session)
    for step in (1, 2):
        await session.call("say", key="k", progress=step)
        event_id, message = await anext(stream)
        assert message["params"]["progress"] == step
    response.close()
    for step in (3, 4, 5):
        await session.call("say", key="k", progress=step)
    await session.call("release", key="k")
    rest = await _rest(session, event_id)
    assert _progress(rest) == [3, 4, 5]
    assert rest[-1]["id"] == "mine"
    assert len(rest) == 4
    assert await _rest(session, event_id) == rest  # as often as it asks


async def test_a_client_that_comes_back_before_the_end_hears_the_rest_live(bridge: Running) -> None:
    session = await bridge.session()
    response, _, event_id = await _waiting(session)
    response.close()
    async with session.get(event_id) as resumed:
        stream = sse(resumed)
        await session.call("say", key="k", progress=1)
        assert (await anext(stream))[1]["params"]["progress"] == 1
        await session.call("release", key="k")
        assert (await anext(stream))[1]["result"] == {"released": "k"}
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_a_stream_can_be_taken_over_although_its_connection_still_seems_open(bridge: Running) -> None:
    session = await bridge.session()
    _, old, event_id = await _waiting(session)
    async with session.get(event_id) as resumed:
        await session.call("release", key="k")
        assert [message["id"] async for _, message in sse(resumed)] == ["mine"]
    with pytest.raises(StopAsyncIteration):
        await anext(old)


async def test_a_get_stream_goes_on_after_the_event_that_was_seen_last(bridge: Running) -> None:
    session = await bridge.session()
    async with session.get() as response:
        stream = sse(response)
        await session.call("list_changed")
        await session.call("list_changed")
        first, _ = await anext(stream)
        second, _ = await anext(stream)
    assert first.split("-")[0] == second.split("-")[0]
    async with session.get(first) as resumed:
        stream = sse(resumed)
        assert (await anext(stream))[0] == second
        await session.call("list_changed")
        third, message = await anext(stream)
        assert message["method"] == "notifications/tools/list_changed"
        assert third not in (first, second)


async def _left(bridge: Running) -> None:
    """Wait until the bridge knows that the client of its one session reads no stream."""
    [entry] = bridge.service.core.stream_pool.entries()
    async with in_time():
        while entry.session.is_heard or any(each.read for each in entry.session._calls):  # noqa: ASYNC110 - the bridge tells nobody
            await asyncio.sleep(0.001)


async def test_what_came_while_a_client_was_away_follows_what_it_missed_once(bridge: Running) -> None:
    session = await bridge.session()
    async with session.get() as response:
        stream = sse(response)
        for uri in "ab":
            await session.call("updated", uri=uri)
        seen, _ = await anext(stream)
        await anext(stream)  # was sent, and is said never to have come
    await _left(bridge)
    for uri in "cd":
        await session.call("updated", uri=uri)
    for _ in range(2):
        async with in_time(), session.get(seen) as resumed:
            stream = sse(resumed)
            found = [await anext(stream) for _ in "bcd"]
            assert [note["params"]["uri"] for _, note in found] == ["b", "c", "d"]
            assert [event_id for event_id, _ in found] == ["1-2", "1-3", "1-4"]
        await _left(bridge)
    await session.call("updated", uri="e")
    async with in_time(), session.get("1-4") as resumed:
        assert (await anext(sse(resumed)))[1]["params"]["uri"] == "e"


@pytest.mark.parametrize("way", ["GET", "POST"])
async def test_a_question_that_came_while_a_client_was_away_waits_for_it(bridge: Running, way: str) -> None:
    session = await bridge.session(protocolVersion="2025-11-25", capabilities={"roots": {}})
    async with session.get() as response:
        get_id, _ = await anext(sse(response))
        lost, _, post_id = await _waiting(session)
        lost.close()
    await _left(bridge)
    async with session.post(message("notifications/ask", key="k")) as taken:
        assert taken.status == 202
    async with in_time():
        while not (await bridge.get("/children"))[0]["open_questions"]:
            pass
    async with in_time(), session.get(get_id if way == "GET" else post_id) as resumed:
        stream = sse(resumed)
        question = None
        while question is None:  # what a stream begins with
            _, question = await anext(stream)
        assert question["method"] == "roots/list"
        async with session.post({"jsonrpc": "2.0", "id": question["id"], "result": {"roots": []}}) as taken:
            assert taken.status == 202
        assert (await _rest(session, post_id))[-1]["id"] == "mine"


@pytest.mark.parametrize(("version", "most"), [("2025-06-18", 0), ("2025-11-25", KEPT_EMPTY)])
async def test_streams_that_are_opened_and_left_leave_little_behind(bridge: Running, version: str, most: int) -> None:
    session = await bridge.session(protocolVersion=version)
    [entry] = bridge.service.core.stream_pool.entries()
    for _ in range(KEPT_EMPTY + 4):
        async with session.get() as response:
            last_id, _ = (await anext(sse(response))) if most else ("", None)
    async with in_time():
        while entry.session.is_heard:  # noqa: ASYNC110 - the bridge tells nobody
            await asyncio.sleep(0.001)
    assert len(entry.session.backlog._tracks) == most
    if most:
        async with session.get(last_id) as resumed:
            stream = sse(resumed)
            assert await anext(stream) == (last_id, None)
            await session.call("list_changed")
            assert (await anext(stream))[1]["method"] == "notifications/tools/list_changed"


async def test_only_what_followed_on_that_stream_is_sent_again(bridge: Running) -> None:
    session = await bridge.session()
    async with session.post(tool("progress", 1, token="a", steps=3)) as response:
        one = [event async for event in sse(response)]
    async with session.post(tool("progress", 2, token="b", steps=3)) as response:
        two = [event async for event in sse(response)]
    ids = [event_id for event_id, _ in one + two]
    assert len(set(ids)) == 8
    assert [message for _, message in one[1:]] == await _rest(session, one[0][0])
    assert [message for _, message in two[3:]] == await _rest(session, two[2][0])
    assert await _rest(session, two[-1][0]) == []


@pytest.mark.parametrize("event_id", ["77-1", "1-99", "nonsense", "", "-", "1-x", "9" * 30 + "-1"])
async def test_an_id_that_was_never_given_out_is_refused_and_the_session_lives(bridge: Running, event_id: str) -> None:
    session = await bridge.session()
    async with session.post(tool("progress", 1, token="a", steps=1)) as response:
        assert response.status == 200
        await response.read()
    async with session.get(event_id) as response:
        assert response.status == 400
        assert "Last-Event-ID" in (await response.json())["error"]["message"]
    assert (await session.call("echo", a=1))["result"] == {"a": 1}


async def test_an_id_that_is_too_old_is_refused(bridge: Running) -> None:
    session = await bridge.session()
    async with session.post(tool("progress", 1, token="a", steps=1200)) as response:
        events = [event async for event in sse(response)]
    async with session.get(events[0][0]) as response:
        assert response.status == 400
        assert "too old" in (await response.json())["error"]["message"]
    assert len(await _rest(session, events[-500][0])) == 499


async def test_a_stream_is_primed_from_2025_11_25_on(bridge: Running) -> None:
    session = await bridge.session(protocolVersion="2025-11-25")
    async with session.post(tool("progress", 1, token="a", steps=1)) as response:
        text = await response.text()
    assert text.startswith("retry: 1000\nid: 1-0\ndata: \n\n")
    assert len(await _rest(session, "1-0")) == 2
    async with session.get() as response:
        assert await anext(sse(response)) == ("2-0", None)


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18"])
async def test_older_clients_never_see_an_event_without_data(bridge: Running, version: str) -> None:
    session = await bridge.session(protocolVersion=version)
    async with session.post(tool("progress", 1, token="a", steps=1)) as response:
        text = await response.text()
    assert "data: \n" not in text
    assert "retry" not in text


async def test_each_message_goes_to_exactly_one_of_several_get_streams(bridge: Running) -> None:
    session = await bridge.session()
    async with session.get() as one, session.get() as two:
        for _ in range(3):
            await session.call("list_changed")
        newest = sse(two)
        assert [(await anext(newest))[1]["method"] for _ in range(3)] == ["notifications/tools/list_changed"] * 3
        two.close()
        older = sse(one)
        while (await bridge.get("/sessions"))[0]["in_use"] != 1:
            pass
        await session.call("list_changed")
        assert (await anext(older))[1]["method"] == "notifications/tools/list_changed"


async def test_a_question_on_a_lost_stream_is_asked_again_when_the_client_comes_back(bridge: Running) -> None:
    session = await bridge.session()
    async with session.post(tool("ask", "mine")) as response:
        event_id, question = await anext(sse(response))
    async with session.get(_before(event_id)) as resumed:
        stream = sse(resumed)
        assert (await anext(stream))[1] == question
        async with session.post({"jsonrpc": "2.0", "id": question["id"], "result": {"a": 1}}) as accepted:
            assert accepted.status == 202
        assert (await anext(stream))[1]["result"] == {"answer": {"a": 1}}


async def test_a_lost_call_keeps_its_session_from_being_idle(bridge: Running) -> None:
    session = await bridge.session()
    response, _, event_id = await _waiting(session)
    response.close()
    await asyncio.sleep(0)
    assert (await bridge.get("/sessions"))[0]["state"] == "active"
    await session.call("release", key="k")
    assert (await _rest(session, event_id))[0]["id"] == "mine"
    assert (await bridge.get("/sessions"))[0]["state"] == "idle"


def _before(event_id: str) -> str:
    stream, _, number = event_id.partition("-")
    return f"{stream}-{int(number) - 1}"
