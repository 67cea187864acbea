"""Clients that vanish, do not read, or use the same names: each request ends once, and nobody else notices."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from bridge.children.connection import ChildConnection
from bridge.protocol.states import SessionState
from bridge.sessions.room import SessionEntry
from tests.conftest import (
    INITIALIZE,
    PATIENCE,
    PEERS,
    Running,
    Session,
    StartBridge,
    events,
    in_time,
    last,
    message,
    peer,
    tool,
)
from tests.faults.conftest import babbler, until
from tests.faults.raw import Raw
from tests.modern_client import ModernClient

MIB = 1024 * 1024
MODERN = {"command": sys.executable, "args": ["-I", "-S", str(PEERS / "modern_peer.py")]}


@pytest.fixture
async def bridge(start_bridge: StartBridge) -> Running:
    return await start_bridge(
        {"peer": peer(), "shared": peer(sharing="shared"), "babbler": babbler(), "modern": MODERN}
    )


def request(path: str, body: Any, **headers: str) -> bytes:
    """A POST as it goes over the wire."""
    content = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    lines += ["Accept: application/json, text/event-stream", f"Content-Length: {len(content)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


def connections(bridge: Running, server: str) -> list[ChildConnection]:
    return [child.connection for child in bridge.service.core.registry.children() if child.server == server]


async def _is_served(session: Session, seconds: float = PATIENCE) -> None:
    async with asyncio.timeout(seconds):
        assert (await session.call("echo", "still", a=1))["id"] == "still"


# Resets

RESETS = 200


async def test_calls_of_a_session_go_on_when_200_connections_are_reset_at_once(bridge: Running) -> None:
    session, other = await bridge.session(), await bridge.session()
    clients = [await Raw.open(bridge) for _ in range(RESETS)]
    for number, client in enumerate(clients):
        client.writer.write(request("/mcp/peer", tool("wait", 7, key=str(number)), Mcp_Session_Id=session.id))
    [mine, _] = connections(bridge, "peer")
    await until(lambda: mine.open_exchanges == RESETS, "all calls wait")
    for client in clients:
        client.reset()
    await _is_served(other)
    assert (await session.call("cancelled"))["result"] == {"cancelled": []}
    for number in range(RESETS):
        assert (await session.call("release", number, key=str(number)))["result"] == {}
    assert mine.open_exchanges == 0
    rows = await bridge.get("/sessions")
    assert [row["in_use"] for row in rows] == [0, 0]


async def test_modern_calls_are_cancelled_when_200_connections_are_reset_at_once(bridge: Running) -> None:
    modern, other = ModernClient(bridge, "modern"), await bridge.session()
    await modern.call("echo")
    clients = [await Raw.open(bridge) for _ in range(RESETS)]
    headers = {"MCP_Protocol_Version": "2026-07-28", "Mcp_Method": "tools/call", "Mcp_Name": "wait"}
    for number, client in enumerate(clients):
        body = modern.body("tools/call", 7, {"progressToken": "p"}, name="wait", arguments={"key": str(number)})
        client.writer.write(request("/mcp/modern", body, **headers))
    [child] = connections(bridge, "modern")
    await until(lambda: child.open_exchanges == RESETS, "all calls wait")
    for client in clients:
        client.reset()
    await until(lambda: child.open_exchanges == 0, "none waits any more")
    cancelled = (await modern.call("cancelled"))["result"]["structuredContent"]["cancelled"]
    assert len({json.dumps(each, sort_keys=True) for each in cancelled}) == RESETS
    await _is_served(other)


async def test_bridge_calls_are_cancelled_when_200_connections_are_reset_at_once(bridge: Running) -> None:
    await bridge.bridge_call("peer", "ping")
    clients = [await Raw.open(bridge) for _ in range(RESETS)]
    for number, client in enumerate(clients):
        client.writer.write(request("/bridge/peer", tool("wait", 7, key=str(number))))
    [child] = connections(bridge, "peer")
    await until(lambda: child.open_exchanges == RESETS, "all calls wait")
    for client in clients:
        client.reset()
    await until(lambda: child.open_exchanges == 0, "none waits any more")
    answer = await bridge.bridge_call("peer", "tools/call", name="cancelled")
    assert len({each["requestId"] for each in answer["result"]["cancelled"]}) == RESETS


async def test_a_client_that_is_reset_during_initialize_leaves_no_session_and_no_process(
    start_bridge: StartBridge,
) -> None:
    # One server each, because a server does not start many at once.
    bridge = await start_bridge({f"slow{number}": {"command": "sleep", "args": ["1000"]} for number in range(20)})
    clients = [await Raw.open(bridge) for _ in range(20)]
    for number, client in enumerate(clients):
        client.writer.write(request(f"/mcp/slow{number}", message("initialize", 1, **INITIALIZE)))
    children = bridge.service.core.registry.children
    await until(lambda: [each.connection.open_exchanges for each in children()] == [1] * 20, "all are starting")
    for client in clients:
        client.reset()
    await until(lambda: children() == [], "none is left")
    assert await bridge.get("/sessions") == []


class Gate:
    """Holds back each start of a server until it is told to go on, or to fail."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self._path = path
        self.handle = os.open(path, os.O_RDWR)

    def entry(self, **more: Any) -> dict[str, Any]:
        """A ``servers.json`` entry of the peer behind it."""
        real = peer(**more)
        script = 'read word < "$0" && [ "$word" = go ] && exec "$@"'
        return {**real, "command": "sh", "args": ["-c", script, str(self._path), real["command"], *real["args"]]}

    def tell(self, word: str = "go") -> None:
        os.write(self.handle, f"{word}\n".encode())


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    made = Gate(tmp_path / "gate")
    yield made
    os.close(made.handle)


def _parked(bridge: Running) -> SessionEntry:
    """The one session, which has no process any more."""
    [entry] = bridge.service.core.stream_pool.entries()
    bridge.service.core.sessions.seating.park(entry, "a test")
    return entry


async def _lose(bridge: Running, sent: bytes, entry: SessionEntry) -> None:
    """Send a request that waits for its session to get a process, and lose its connection."""
    client = await Raw.open(bridge)
    client.writer.write(sent)
    await until(lambda: entry.state is SessionState.OPENING, "the session gets a process")
    client.reset()
    await until(lambda: bridge.service._drain.running == 0, "the bridge knows that the client has gone")


@pytest.mark.parametrize("calls", [1, 3])
async def test_a_call_is_sent_whose_connection_is_reset_while_its_session_gets_a_process(
    start_bridge: StartBridge, gate: Gate, calls: int
) -> None:
    bridge = await start_bridge({"peer": gate.entry(maxConcurrent=3)})
    gate.tell()
    session = await bridge.session(protocolVersion="2025-03-26")
    entry = _parked(bridge)
    body = [tool("count", number) for number in range(calls)]
    await _lose(bridge, request("/mcp/peer", body if calls > 1 else body[0], Mcp_Session_Id=session.id), entry)
    assert entry.in_use == 1
    gate.tell()
    await until(lambda: entry.in_use == 0, "all are answered")
    for number in (1, 2, 3):  # and hold no place
        assert (await session.call("count", number))["result"] == {"count": calls + number}


async def test_a_call_that_waits_without_its_client_holds_its_place(start_bridge: StartBridge, gate: Gate) -> None:
    bridge = await start_bridge({"peer": gate.entry(maxConcurrent=1)})
    gate.tell()
    session = await bridge.session()
    entry = _parked(bridge)
    await _lose(bridge, request("/mcp/peer", tool("count"), Mcp_Session_Id=session.id), entry)
    async with session.post(tool("count", 2)) as response:
        assert response.status == 429
    gate.tell()
    await until(lambda: entry.in_use == 0, "it is answered")
    assert (await session.call("count", 3))["result"] == {"count": 2}


async def test_a_call_on_http_sse_is_answered_though_its_post_is_reset_while_it_waits(
    start_bridge: StartBridge, gate: Gate
) -> None:
    bridge = await start_bridge({"peer": gate.entry(maxConcurrent=1)})
    gate.tell()
    stream = await Raw.open(bridge)
    stream.writer.write(b"GET /sse/peer HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with in_time():
        await stream.reader.readuntil(b"data: ")
        path = (await stream.reader.readline()).decode().strip()
        async with bridge.post(path, message("initialize", 0, **INITIALIZE)) as response:
            assert response.status == 202
        found = _rest(stream)
        assert (await anext(found))["id"] == 0
        await _lose(bridge, request(path, tool("echo", "mine", a=1)), _parked(bridge))
        gate.tell()
        assert await anext(found) == {"jsonrpc": "2.0", "id": "mine", "result": {"a": 1}}


async def test_what_is_asked_for_a_call_without_its_client_comes_on_another_stream(
    start_bridge: StartBridge, gate: Gate
) -> None:
    bridge = await start_bridge({"peer": gate.entry()})
    gate.tell()
    session = await bridge.session(capabilities={"elicitation": {}})
    entry = _parked(bridge)
    await _lose(bridge, request("/mcp/peer", tool("ask"), Mcp_Session_Id=session.id), entry)
    gate.tell()
    async with in_time(), session.get() as stream:
        question = await anext(events(stream))
        assert question["method"] == "elicitation/create"
        async with session.post({"jsonrpc": "2.0", "id": question["id"], "result": {}}) as response:
            assert response.status == 202
        await until(lambda: not entry.session.is_busy, "the call is answered")


async def test_a_call_without_its_client_ends_when_there_is_no_process_for_it(
    start_bridge: StartBridge, gate: Gate
) -> None:
    bridge = await start_bridge({"peer": gate.entry(restartDelay=1, maxConcurrent=1)})
    gate.tell()
    session = await bridge.session()
    entry = _parked(bridge)
    await _lose(bridge, request("/mcp/peer", tool("count"), Mcp_Session_Id=session.id), entry)
    gate.tell("fail")
    await until(lambda: entry.in_use == 0, "it has ended")
    gate.tell()
    assert (await session.call("count"))["result"] == {"count": 1}


async def test_a_call_without_its_client_ends_with_its_session(start_bridge: StartBridge, gate: Gate) -> None:
    bridge = await start_bridge({"peer": gate.entry()})
    gate.tell()
    session = await bridge.session()
    entry = _parked(bridge)
    await _lose(bridge, request("/mcp/peer", tool("count"), Mcp_Session_Id=session.id), entry)
    async with session.delete() as response:
        assert response.status == 204
    gate.tell()
    await until(lambda: bridge.service.core.registry.children() == [], "its process is stopped")
    assert entry.in_use == 0


async def test_a_call_is_sent_whose_connection_is_reset_while_it_waits_for_a_pooled_process(
    start_bridge: StartBridge,
) -> None:
    bridge = await start_bridge({"peer": peer(sharing={"holders": 1, "hold": "exchange", "limit": 1})})
    holder, session = await bridge.session(), await bridge.session()
    async with holder.post(tool("wait", 1, key="a")) as response:
        await response.content.readany()
        client = await Raw.open(bridge)
        client.writer.write(request("/mcp/peer", tool("wait", 2, key="b"), Mcp_Session_Id=session.id))
        entry = bridge.service.core.stream_pool.find(session.id)
        assert entry is not None
        await until(lambda: entry.in_use == 1, "the second call waits")
        client.reset()
        await until(lambda: bridge.service._drain.running == 1, "the bridge knows that the client has gone")
        async with holder.delete() as deleted:  # its process is not clean, and another one comes
            assert deleted.status == 204
        await response.read()
    await until(lambda: [each.open_exchanges for each in connections(bridge, "peer")] == [1], "the second is sent")
    async with session.delete() as deleted:
        assert deleted.status == 204


# Readers that do not read

FLOOD = 100_000
#: Seconds until a child has written all of it, on a machine that is busy.
FLOODED = 120.0


def _flood(method: str, after: bool = False) -> dict[str, Any]:
    return {"method": method, "params": {"progressToken": "@TOKEN@"}, "times": FLOOD, "size": 1000, "after": after}


async def _open_stream(bridge: Running, face: str) -> tuple[Raw, Session | None]:
    """Have 100 MB of notifications sent to a client that reads the head of the answer and no more."""
    stalled = await Raw.open(bridge)
    call = tool("flood", "mine", token="p", flood=_flood("notifications/progress"))
    session = None
    if face == "post":
        session = await bridge.session("babbler")
        stalled.writer.write(request("/mcp/babbler", call, Mcp_Session_Id=session.id))
    elif face == "get":
        session = await bridge.session("babbler")
        head = (
            f"GET /mcp/babbler HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nMcp-Session-Id: {session.id}"
        )
        stalled.writer.write(head.encode() + b"\r\n\r\n")
        await stalled.reader.readuntil(b": ping")
        flood = {**_flood("notifications/tools/list_changed", after=True), "params": {}}
        assert (await session.call("flood", 1, flood=flood))["result"] == {}
        return stalled, session
    elif face == "sse":
        stalled.writer.write(b"GET /sse/babbler HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await stalled.reader.readuntil(b"data: ")
        path = (await stalled.reader.readline()).decode().strip()
        for body in (message("initialize", 0, **INITIALIZE), message("notifications/initialized"), call):
            async with bridge.post(path, body) as response:
                assert response.status == 202
        return stalled, session
    else:
        body = ModernClient(bridge, "babbler").body(
            "tools/call", "mine", {"progressToken": "p"}, name="flood", arguments=call["params"]["arguments"]
        )
        headers = {"MCP_Protocol_Version": "2026-07-28", "Mcp_Method": "tools/call", "Mcp_Name": "flood"}
        stalled.writer.write(request("/mcp/babbler", body, **headers))
    await stalled.reader.readuntil(b"\r\n\r\n")
    return stalled, session


async def _rest(stalled: Raw) -> AsyncIterator[dict[str, Any]]:
    """The messages that are still there for a client which begins to read."""
    while line := await stalled.reader.readline():
        if line.startswith(b"data: {"):
            yield json.loads(line[6:])


@pytest.mark.parametrize("face", ["post", "get", "sse", "modern"])
async def test_a_reader_that_reads_nothing_costs_a_fixed_amount_and_slows_nobody(
    bridge: Running, face: str, caplog: pytest.LogCaptureFixture
) -> None:
    other = await bridge.session()
    before = psutil.Process().memory_info().rss
    stalled, session = await _open_stream(bridge, face)
    done = asyncio.create_task(_until_written(bridge, session))
    served = 0
    while not done.done():
        await _is_served(other)
        served += 1
    await done
    assert served > 2
    assert psutil.Process().memory_info().rss < before + 80 * MIB  # of 100
    seen = []
    async for event in _rest(stalled):
        if event.get("id") == "mine":
            assert "result" in event
            break
        if "params" in event:
            seen.append(event["params"]["progress"])
        if face == "get" and seen[-1] == FLOOD - 1:
            break
    assert seen == sorted(set(seen))
    assert seen[-1] == FLOOD - 1  # the newest is there
    assert 10_000 < len(seen) < 40_000  # the oldest are not: 16 MiB, and what was on its way
    await stalled.close()
    await until(lambda: "reads too slowly" in caplog.text, "it is told")
    assert f"; {FLOOD - len(seen)} of its oldest notifications were dropped" in caplog.text
    await _is_served(other)


async def _until_written(bridge: Running, session: Session | None) -> None:
    """Wait until the child has written all: only then it answers something else."""
    if session is not None:
        await _is_served(session, FLOODED)
    else:
        child = connections(bridge, "babbler")[-1]
        await until(lambda: child.open_exchanges == 0, "the flood is over", FLOODED)


async def test_a_client_that_sends_requests_and_reads_no_answers_costs_a_fixed_amount(bridge: Running) -> None:
    other = await bridge.session()
    await bridge.bridge_call("peer", "ping")
    before = psutil.Process().memory_info().rss
    client = await Raw.open(bridge)
    times, size = 2000, 60_000
    for number in range(times):
        client.writer.write(request("/bridge/peer", tool("big", number, size=size)))
    client.reader._transport.pause_reading()  # type: ignore[attr-defined]
    [child] = connections(bridge, "peer")[1:]
    calls = -1
    while calls != child.traffic.calls:  # until it comes to rest
        calls = child.traffic.calls
        for _ in range(20):
            await _is_served(other)
    assert calls < times
    assert psutil.Process().memory_info().rss < before + 40 * MIB  # of 120
    client.reader._transport.resume_reading()  # type: ignore[attr-defined]
    for number in range(times):
        status, _, content = await client.response()
        assert status == 200
        assert json.loads(content)["id"] == number


# Names

IDS = [0, -1, 7, "7", 2**53 - 1, 2**53 + 1, 10**30, "", " ", "ключ 🔑", 'a\n"b"\\', "\u2028", "null", "x" * 100_000]


@pytest.mark.parametrize("server", ["peer", "shared"])
async def test_calls_with_any_ids_are_in_flight_at_once_and_each_is_answered_under_its_own(
    bridge: Running, server: str
) -> None:
    session, other = await bridge.session(server), await bridge.session(server)
    keys = {f"{who}-{number}" for who in "ab" for number in range(len(IDS))}
    calls = [
        asyncio.create_task(each.call("wait", id_, token=id_ or "t", key=f"{who}-{number}"))
        for who, each in (("a", session), ("b", other))
        for number, id_ in enumerate(IDS)
    ]
    await until(lambda: sum(each.open_exchanges for each in connections(bridge, server)) == len(calls), "all wait")
    for key in sorted(keys, reverse=True):  # not in the order in which they came
        owner = session if key.startswith("a") or server == "shared" else other
        assert (await owner.call("release", "r", key=key))["result"] == {}
    answers = await asyncio.gather(*calls)
    expected = [(id_, f"{who}-{number}") for who in "ab" for number, id_ in enumerate(IDS)]
    assert [(answer["id"], answer["result"]["released"]) for answer in answers] == expected
    assert [type(answer["id"]) for answer in answers] == [type(id_) for id_, _ in expected]


async def test_two_calls_with_one_id_in_flight_are_two_calls(bridge: Running) -> None:
    session = await bridge.session()
    first, second = (asyncio.create_task(session.call("wait", 5, key=key)) for key in ("one", "two"))
    [child] = connections(bridge, "peer")
    await until(lambda: child.open_exchanges == 2, "both wait")
    for key in ("two", "one"):
        await session.call("release", 5, key=key)
    assert {(await first)["result"]["released"], (await second)["result"]["released"]} == {"one", "two"}


async def test_a_cancellation_of_7_is_none_of_the_text_7(bridge: Running) -> None:
    session = await bridge.session()
    number, text = (asyncio.create_task(session.call("wait", id_, key=repr(id_))) for id_ in (7, "7"))
    [child] = connections(bridge, "peer")
    await until(lambda: child.open_exchanges == 2, "both wait")
    wire = {exchange.request.id: exchange.number for exchange in child.exchanges}
    async with session.post(message("notifications/cancelled", requestId="7")) as response:
        assert response.status == 202
    [seen] = (await session.call("cancelled"))["result"]["cancelled"]
    assert seen["requestId"] == wire[b'"7"']
    for key in ("7", "'7'"):
        await session.call("release", key=key)
    assert (await number)["id"] == 7
    assert (await text)["id"] == "7"


@pytest.mark.parametrize("server", ["peer", "shared"])
async def test_nobody_cancels_the_call_of_another(bridge: Running, server: str) -> None:
    mine, stranger = await bridge.session(server), await bridge.session(server)
    call = asyncio.create_task(mine.call("wait", 5, key="k"))
    await until(lambda: sum(each.open_exchanges for each in connections(bridge, server)) == 1, "it waits")
    number = next(each for child in connections(bridge, server) for each in child.exchanges).number
    for id_ in (5, "5", number, str(number), None, [5]):
        async with stranger.post(message("notifications/cancelled", requestId=id_)) as response:
            assert response.status == 202
    for session in (mine, stranger):
        assert (await session.call("cancelled"))["result"] == {"cancelled": []}
    await mine.call("release", key="k")
    assert (await call)["result"] == {"released": "k"}


async def test_a_session_of_one_server_is_none_of_another(bridge: Running) -> None:
    session = await bridge.session()
    for method in ("post", "get", "delete"):
        async with bridge.http.request(
            method,
            bridge.url + "/mcp/shared",
            headers={"Mcp-Session-Id": session.id, "Accept": "*/*"},
            json=tool("echo"),
        ) as response:
            assert response.status == 404
            assert (await response.json())["error"]["code"] == -32001
    await _is_served(session)


async def test_a_stream_of_another_session_cannot_be_resumed(bridge: Running) -> None:
    mine, stranger = await bridge.session(), await bridge.session()
    async with mine.post(tool("progress", 1, token="secret", steps=5)) as response:
        assert [event async for event in events(response)]
    for number in range(1, 5):
        async with stranger.get(f"{number}-0") as response:
            assert response.status == 400
    async with mine.get("1-0") as response:
        assert (await last(response))["id"] == 1
