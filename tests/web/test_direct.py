"""A call that is answered without a task is answered as any other, and what cannot be goes the usual way unharmed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from bridge.auth import tokens
from bridge.children.stream import Kind
from bridge.observe import audit
from bridge.web import reply
from bridge.web.direct_answer import DirectAnswer, Taken
from bridge.web.front import Front
from bridge.web.heads import Head
from bridge.web.limits import GUESSES, Guesses
from bridge.web.server import Connection
from tests.conftest import ACCEPT, Running, Session, StartBridge, last, message, peer, tool
from tests.faketime import FakeTime
from tests.faults.conftest import until as until_seen

Fields = dict[str, str]


@pytest.fixture(autouse=True, params=["a new head", "a known head"])
def ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Which way requests have gone."""
    gone: Counter[str] = Counter()
    if request.param == "a new head":
        monkeypatch.setattr(Head, "of", lambda *_: None)

    def counted(owner: Any, method: str, way: str) -> None:
        real = getattr(owner, method)

        def counting(*args: Any) -> Any:
            gone[way] += 1
            return real(*args)

        monkeypatch.setattr(owner, method, counting)

    counted(DirectAnswer, "begin", "direct")
    counted(Taken, "begin", "taken")
    counted(DirectAnswer, "rest", "task")
    counted(Front, "answer", "usual")
    return gone


#: Seconds, less than ``reply.KEEP_ALIVE``: what is forgotten in silence would be remembered when that is broken.
SOON = 10.0


def soon() -> asyncio.Timeout:
    return asyncio.timeout(SOON)


class Wire:
    """One connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, session: Session, body: Any, extra: str = "", version: str = "1.1") -> None:
        self.writer.write(request(session, body, extra, version))

    async def head(self) -> tuple[int, Fields]:
        async with soon():
            first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        fields = (line.partition(": ") for line in lines)
        return int(first.split()[1]), {name.lower(): value for name, _, value in fields}

    async def answer(self) -> tuple[int, Fields, bytes]:
        """The next answer, of either kind, whole."""
        status, head = await self.head()
        if "content-length" in head:
            return status, head, await self.reader.readexactly(int(head["content-length"]))
        body = b""
        while chunk := await self.chunk():
            body += chunk
        return status, head, body

    async def chunk(self) -> bytes:
        async with soon():
            size = int(await self.reader.readline(), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def result(self) -> Any:
        status, _, body = await self.answer()
        assert status == 200, body
        return json.loads(body)["result"]


def request(session: Session, body: Any, extra: str = "", version: str = "1.1") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = {"Host": "localhost", "Content-Type": "application/json", "Accept": ACCEPT, "Mcp-Session-Id": session.id}
    given = {line.partition(":")[0] for line in extra.split("\r\n")}
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items() if name not in given)
    path = urlsplit(session.url).path
    text = f"POST {path} HTTP/{version}\r\n{lines}{extra}Content-Length: {len(data)}\r\n\r\n"
    return text.encode(errors="surrogateescape") + data


@contextlib.asynccontextmanager
async def wired(bridge: Running, session: Session | None = None) -> AsyncIterator[Wire]:
    """A connection on which one request was answered, so that it waits for the next one; one with the head that
    requests of ``session`` have.
    """
    address = urlsplit(bridge.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    wire = Wire(reader, writer)
    assert (await wire.answer())[0] == 200
    if session is not None:
        wire.send(session, b"{")
        assert (await wire.answer())[0] == 400
    try:
        yield wire
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def connections(bridge: Running) -> list[Connection]:
    server = bridge.service.faces._server
    assert server is not None
    return [each for each in server.connections if isinstance(each, Connection)]


async def until(holds: Callable[[], bool]) -> None:
    await until_seen(holds, "it did not happen", SOON)


async def taken(ways: Counter[str]) -> None:
    """Wait until the call that was sent is with its child, and its connection waits for it."""
    await until(lambda: ways["direct"] == 1)


def event_id(events: bytes) -> str:
    """The id of an event, behind the primer of its stream."""
    return next(line[4:] for line in events.decode().split("\n") if line.startswith("id: ") and "-0" not in line)


def waiting(bridge: Running) -> Connection:
    """The connection that waits for a call."""
    [found] = [each for each in connections(bridge) if each.waiting is not None]
    return found


async def row(bridge: Running) -> dict[str, Any]:
    [found] = await bridge.get("/sessions")
    return dict(found)


async def test_a_call_is_answered_without_a_task(bridge: Running, ways: Counter[str]) -> None:
    session = await bridge.session()
    async with wired(bridge, session) as wire:
        ways.clear()
        for number in range(50):  # more than aiohttp puts aside
            wire.send(session, tool("echo", 7, x=number))
            status, head, body = await wire.answer()
            assert status == 200
            assert head["mcp-session-id"] == session.id
            assert head["content-type"] == "application/json"
            assert json.loads(body) == {"jsonrpc": "2.0", "id": 7, "result": {"x": number}}
        assert ways == {"direct": 50}
    assert (await row(bridge))["in_use"] == 0
    assert bridge.service._drain.running == 0


async def test_both_ways_give_the_same_answer(bridge: Running, ways: Counter[str]) -> None:
    session = await bridge.session()
    answers = []
    async with wired(bridge, session) as wire:
        ways.clear()
        for extra in ("", "X: y\r\nAccept: application/json, text/event-stream, */*\r\n"):
            wire.send(session, tool("echo", "a b", x="é"), extra)
            status, head, body = await wire.answer()
            answers.append((status, {**head, "date": ""}, body))
    assert ways == {"direct": 1, "usual": 1}
    assert answers[0] == answers[1]


WITHOUT_ANSWER: dict[str, Any] = {
    "a notification": message("notifications/roots/list_changed", None),
    "an answer to nothing": {"jsonrpc": "2.0", "id": 5, "result": {}},
}


@pytest.mark.parametrize("what", WITHOUT_ANSWER)
async def test_what_wants_no_answer_is_taken_the_same_either_way(
    bridge: Running, ways: Counter[str], what: str
) -> None:
    session = await bridge.session()
    taken = []
    async with wired(bridge, session) as wire:
        ways.clear()
        for extra in ("", "X: y\r\nAccept: application/json, text/event-stream, */*\r\n"):
            wire.send(session, WITHOUT_ANSWER[what], extra)
            status, head, body = await wire.answer()
            assert (status, head["content-length"], body) == (202, "0", b"")
            taken.append({**head, "date": ""})
        assert ways == {"taken": 1, "usual": 1}
        assert taken[0] == taken[1]
        wire.send(session, tool("echo", 1, x=1))
        assert await wire.result() == {"x": 1}


async def test_a_cancellation_reaches_the_child(bridge: Running, ways: Counter[str]) -> None:
    session = await bridge.session()
    async with wired(bridge, session) as wire, wired(bridge, session) as other:
        ways.clear()
        wire.send(session, tool("never", 1))
        await until(lambda: ways["direct"] == 1)
        other.send(session, message("notifications/cancelled", None, requestId=1))
        assert (await other.answer())[0] == 202
        assert len((await session.call("cancelled"))["result"]["cancelled"]) == 1
        assert ways["taken"] == 1


UNUSUAL: dict[str, Callable[[], tuple[Any, str]]] = {
    "no JSON": lambda: (b"{", ""),
    "no message": lambda: (b'{"jsonrpc":"2.0"}', ""),
    "not UTF-8": lambda: (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"\xff"}}', ""),
    "a batch": lambda: ([message("ping", 1)], ""),
    "an empty body": lambda: (b"", ""),
    "initialize once more": lambda: (message("initialize", 1), ""),
    "another content type": lambda: (message("ping", 1), "Content-Type: text/plain\r\n"),
    "accepts too little": lambda: (message("ping", 1), "Accept: text/html\r\n"),
    "another host": lambda: (message("ping", 1), "Host: evil.example\r\n"),
    "another page": lambda: (message("ping", 1), "Origin: http://evil.example\r\n"),
    "a version of the other era": lambda: (message("ping", 1), "MCP-Protocol-Version: 2026-07-28\r\n"),
    "an envelope": lambda: (
        message("ping", 1, _meta={"io.modelcontextprotocol/protocolVersion": "2026-07-28"}),
        "MCP-Protocol-Version: 2025-06-18\r\n",
    ),
    "another session": lambda: (message("ping", 1), f"Mcp-Session-Id: {'0' * 8}\r\n"),
}


@pytest.mark.parametrize("what", UNUSUAL)
async def test_what_is_unusual_is_told_as_ever_and_the_connection_lives_on(
    bridge: Running, ways: Counter[str], what: str
) -> None:
    body, extra = UNUSUAL[what]()
    session = await bridge.session()
    async with wired(bridge, session) as wire:
        ways.clear()
        wire.send(session, body, extra)
        status, _, answer = await wire.answer()
        assert ways == {"usual": 1}
        assert 400 <= status < 500
        assert json.loads(answer)["error"]["message"]
        wire.send(session, tool("echo", 1, x=1))
        assert await wire.result() == {"x": 1}
        assert ways == {"usual": 1, "direct": 1}
    assert bridge.service._drain.running == 0


@pytest.mark.parametrize(
    ("version", "extra"), [("1.0", ""), ("1.1", "Connection: close\r\n"), ("1.0", "Connection: keep-alive\r\n")]
)
async def test_a_connection_that_its_client_wants_closed_is(
    bridge: Running, ways: Counter[str], version: str, extra: str
) -> None:
    session = await bridge.session()
    async with wired(bridge, session) as wire:
        ways.clear()
        wire.send(session, tool("echo", 1, x=1), extra, version)
        assert await wire.result() == {"x": 1}
        assert ways == {"usual": 1}
        if "keep-alive" not in extra:
            assert await wire.reader.read() == b""


@pytest.mark.parametrize("cut", [1, 30, -40, -1])
async def test_a_request_in_two_pieces_is_one_request(bridge: Running, cut: int) -> None:
    session = await bridge.session()
    data = request(session, tool("echo", 1, x=1))
    async with wired(bridge, session) as wire:
        [connection] = [each for each in connections(bridge) if each._keepalive_handle is not None][-1:]
        before = connection.waits
        wire.writer.write(data[:cut])
        await until(lambda: connection.waits is not before)
        wire.writer.write(data[cut:])
        assert await wire.result() == {"x": 1}


async def test_requests_that_come_together_are_answered_in_their_order(bridge: Running, ways: Counter[str]) -> None:
    session = await bridge.session()
    async with wired(bridge, session) as wire:
        ways.clear()
        wire.writer.write(b"".join(request(session, tool("echo", 1, x=number)) for number in range(80)))
        assert [await wire.result() for _ in range(80)] == [{"x": number} for number in range(80)]
        assert sum(ways.values()) == 80
        wire.send(session, tool("echo", 1, x="then"))
        assert await wire.result() == {"x": "then"}


async def test_a_request_that_comes_before_the_answer_waits_for_it(bridge: Running, ways: Counter[str]) -> None:
    session = await bridge.session()
    async with wired(bridge, session) as wire:
        ways.clear()
        wire.send(session, tool("never", 1))
        await taken(ways)
        wire.writer.write(b"".join(request(session, tool("echo", 1, x=number)) for number in range(40)))
        async with session.post(message("notifications/cancelled", None, requestId=1)):
            pass
        session_, [exchange] = _running(bridge, session)
        exchange.connection._give_up(exchange)
        assert b"cancelled" in (await wire.answer())[2]
        assert [await wire.result() for _ in range(40)] == [{"x": number} for number in range(40)]
    assert session_.closed is False


def _running(bridge: Running, session: Session) -> tuple[Any, list[Any]]:
    entry = bridge.service.core.sessions.pool.find(session.id)
    assert entry is not None
    return entry.session, list(entry.session._calls)


async def test_a_client_that_hangs_up_leaves_its_call_running(bridge: Running, ways: Counter[str]) -> None:
    session = await bridge.session()
    async with wired(bridge, session) as wire:
        ways.clear()
        wire.send(session, tool("never", 1))
        await taken(ways)
        assert bridge.service._drain.running == 1
        wire.writer.transport.abort()
    await until(lambda: bridge.service._drain.running == 0)
    found, [exchange] = _running(bridge, session)
    assert not exchange.ended
    assert exchange.read is False  # what the child asks is asked elsewhere
    assert (await session.call("cancelled"))["result"] == {"cancelled": []}
    exchange.finish(b'{"jsonrpc":"2.0","id":1,"result":{}}')
    assert found.is_busy is False


async def test_progress_comes_before_the_answer_in_one_stream(bridge: Running, ways: Counter[str]) -> None:
    session = await bridge.session()
    async with wired(bridge, session) as wire:
        ways.clear()
        wire.send(session, tool("progress", 1, token="t", steps=2))
        status, head, body = await wire.answer()
        assert (status, head["content-type"]) == (200, "text/event-stream")
        sent = [json.loads(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: {")]
        assert [each.get("method") for each in sent] == ["notifications/progress"] * 2 + [None]
        assert body.count(b"id: ") == 3 + body.startswith(b"retry")
        assert ways == {"direct": 1}
        wire.send(session, tool("echo", 1, x=1))
        assert await wire.result() == {"x": 1}
    assert bridge.service._drain.running == 0


async def test_events_come_one_by_one_as_the_server_sends_them(bridge: Running, ways: Counter[str]) -> None:
    session = await bridge.session()
    async with wired(bridge, session) as wire:
        ways.clear()
        wire.send(session, tool("wait", 1, token="t", key="k"))
        await wire.head()
        assert b"waits k" in await wire.chunk()
        for step in (1, 2):
            await session.call("say", 2, key="k", progress=step)
            assert b'"progress":%d' % step in (await wire.chunk()).replace(b" ", b"")
        await session.call("release", 3, key="k")
        assert b'"released"' in await wire.chunk()
        assert await wire.chunk() == b""
        assert ways["task"] == 0


async def test_more_than_is_written_at_once_is_written_all_the_same(bridge: Running, ways: Counter[str]) -> None:
    session = await bridge.session()
    async with wired(bridge, session) as wire:
        ways.clear()
        wire.send(session, tool("progress", 1, token="t" * 4000, steps=200))
        _, _, body = await wire.answer()
        assert body.count(b"data: {") == 201
        wire.send(session, tool("echo", 1, x=1))
        assert await wire.result() == {"x": 1}


async def test_what_is_lost_with_its_connection_is_not_begun(bridge: Running, ways: Counter[str]) -> None:
    session = await bridge.session()
    async with wired(bridge, session) as wire:
        wire.send(session, tool("never", 1))
        await taken(ways)
        connection = waiting(bridge)
        found, [exchange] = _running(bridge, session)
        exchange.put(b'{"jsonrpc":"2.0","method":"notifications/message","params":{}}', Kind.NOTE)
        connection.connection_lost(None)  # before what has come is written
        await asyncio.sleep(0)
        assert found.backlog.opened == 0
        assert bridge.service._drain.running == 0


async def test_what_the_bridge_answers_itself_is_answered_at_once(
    start_bridge: StartBridge, ways: Counter[str]
) -> None:
    bridge = await start_bridge({"peer": peer(sharing="shared")})
    session = await bridge.session()
    async with wired(bridge, session) as wire:
        ways.clear()
        wire.send(session, message("resources/unsubscribe", 1, uri="a://b"))
        assert await wire.result() == {}
        assert ways == {"direct": 1}


async def test_a_client_that_loses_its_stream_goes_on_with_it(bridge: Running, ways: Counter[str]) -> None:
    session = await bridge.session()
    async with wired(bridge, session) as wire:
        wire.send(session, tool("wait", 1, key="k"))
        await wire.head()
        seen = event_id(await wire.chunk())
        wire.writer.transport.abort()
    await until(lambda: bridge.service._drain.running == 0)
    _, [exchange] = _running(bridge, session)
    assert exchange.read is False
    await session.call("release", 2, key="k")
    async with session.get(seen) as response:
        assert (await last(response))["result"] == {"released": "k"}
    assert ways["task"] == 0


async def test_a_stream_that_is_taken_over_ends_and_its_connection_serves_on(bridge: Running) -> None:
    session = await bridge.session()
    async with wired(bridge, session) as wire:
        wire.send(session, tool("wait", 1, key="k"))
        await wire.head()
        seen = event_id(await wire.chunk())
        async with session.get(seen) as response:
            assert await wire.chunk() == b""
            wire.send(session, tool("release", 2, key="k"))
            assert await wire.result() == {}
            assert (await last(response))["result"] == {"released": "k"}
    assert bridge.service._drain.running == 0


@pytest.mark.parametrize("begun", [False, True])
async def test_a_long_silence_is_broken_in_a_task(
    start_bridge: StartBridge, ways: Counter[str], monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    monkeypatch.setattr(reply, "KEEP_ALIVE", 0.02)
    bridge = await start_bridge()
    session = await bridge.session()
    async with wired(bridge, session) as wire:
        ways.clear()
        wire.send(session, tool("wait", 1, key="k") if begun else tool("never", 1))
        status, head = await wire.head()
        assert (status, head["content-type"]) == (200, "text/event-stream")
        comments = 0
        while comments < 3:
            comments += (await wire.chunk()).count(b": ping\n\n")
        assert ways == {"direct": 1, "task": 1}
        if begun:
            await session.call("release", 2, key="k")
            text = b""
            while chunk := await wire.chunk():
                text += chunk
            assert b'"released"' in text
            wire.send(session, tool("echo", 1, x=1))
            assert await wire.result() == {"x": 1}


async def test_a_client_that_does_not_read_is_waited_for_in_a_task(bridge: Running, ways: Counter[str]) -> None:
    session = await bridge.session()
    async with wired(bridge, session) as wire:
        ways.clear()
        wire.send(session, tool("wait", 1, token="t", key="k"))
        await wire.head()
        await wire.chunk()
        connection = waiting(bridge)
        connection.pause_writing()  # as the transport does when its buffer is full
        await session.call("say", 2, key="k", progress=1)
        await until(lambda: ways["task"] == 1)
        assert b'"progress"' in await wire.chunk()  # had been written before
        connection.resume_writing()
        await session.call("release", 3, key="k")
        text = b""
        while chunk := await wire.chunk():
            text += chunk
        assert b'"released"' in text


async def test_no_answer_is_put_behind_one_that_is_not_read(bridge: Running, ways: Counter[str]) -> None:
    session = await bridge.session()
    async with wired(bridge, session) as wire:
        connection = connections(bridge)[-1]
        for each in connections(bridge):
            each.pause_writing()
        ways.clear()
        wire.send(session, tool("echo", 1, x=1))
        assert await wire.result() == {"x": 1}
        assert ways == {"usual": 1}
        connection.resume_writing()


async def test_the_end_of_its_session_answers_a_call(bridge: Running, ways: Counter[str]) -> None:
    session = await bridge.session()
    async with wired(bridge, session) as wire:
        ways.clear()
        wire.send(session, tool("never", 1))
        await taken(ways)
        async with session.delete() as response:
            assert response.status == 204
        status, _, body = await wire.answer()
        assert status == 200
        assert "session ended" in json.loads(body)["error"]["message"]
        wire.send(session, tool("echo", 1))
        assert (await wire.answer())[0] == 404


async def test_the_death_of_its_child_answers_a_call(bridge: Running, ways: Counter[str]) -> None:
    session = await bridge.session()
    async with wired(bridge, session) as wire:
        wire.send(session, tool("die", 1))
        status, _, body = await wire.answer()
        assert status == 200
        assert "peer" in json.loads(body)["error"]["message"]
    assert ways["direct"] == 1


async def test_a_shutdown_waits_for_a_call(start_bridge: StartBridge, ways: Counter[str]) -> None:
    bridge = await start_bridge()
    session = await bridge.session()
    async with wired(bridge, session) as wire, wired(bridge, session) as other:
        wire.send(session, tool("never", 1))
        await taken(ways)
        _, [exchange] = _running(bridge, session)
        stopping = asyncio.create_task(bridge.service.stop())
        await until(lambda: bridge.service.draining)
        other.send(session, tool("echo", 2))
        assert (await other.answer())[0] == 503
        exchange.finish(b'{"jsonrpc":"2.0","id":1,"result":{"at":"last"}}')
        assert await wire.result() == {"at": "last"}
        await stopping
        assert await wire.reader.read() == b""


@pytest.mark.parametrize("how", ["close", "shutdown"])
async def test_a_connection_is_not_closed_before_its_answer(bridge: Running, ways: Counter[str], how: str) -> None:
    session = await bridge.session()
    async with wired(bridge, session) as wire:
        wire.send(session, tool("never", 1))
        await taken(ways)
        connection = waiting(bridge)
        _, [exchange] = _running(bridge, session)
        closing = asyncio.ensure_future(connection.shutdown(20)) if how == "shutdown" else connection.close()
        await asyncio.sleep(0)
        exchange.finish(b'{"jsonrpc":"2.0","id":1,"result":{"at":"last"}}')
        assert await wire.result() == {"at": "last"}
        assert await wire.reader.read() == b""
        if closing is not None:
            await closing


async def test_an_idle_connection_is_kept_as_long_after_a_direct_call(bridge: Running) -> None:
    session = await bridge.session()
    async with wired(bridge, session) as wire:
        connection = connections(bridge)[-1]
        connection._next_keepalive_close_time = 0.0
        wire.send(session, tool("echo", 1, x=1))
        assert await wire.result() == {"x": 1}
        assert connection._next_keepalive_close_time > connection._loop.time() + 600


async def test_a_connection_is_not_idle_while_it_waits_for_a_direct_call(bridge: Running, ways: Counter[str]) -> None:
    session = await bridge.session()
    async with wired(bridge, session) as wire:
        ways.clear()
        wire.send(session, tool("never", 1))
        await taken(ways)
        connection = waiting(bridge)
        connection._next_keepalive_close_time = 0.0
        connection._process_keepalive()
        server = bridge.service.faces._server
        assert server is not None
        server.look()
        server.look()
        _, [exchange] = _running(bridge, session)
        exchange.finish(b'{"jsonrpc":"2.0","id":1,"result":{}}')
        assert await wire.result() == {}
        assert connection._keepalive_handle is not None


@pytest.mark.parametrize("token", ["good", "bad", ""])
async def test_a_token_is_asked_for_each_time(start_bridge: StartBridge, ways: Counter[str], token: str) -> None:
    bridge = await start_bridge(ACCESS_TOKEN="good")
    bridge.http.headers["Authorization"] = "Bearer good"
    session = await bridge.session()
    async with wired(bridge) as wire:
        ways.clear()
        wire.send(session, tool("echo", 1), f"Authorization: Bearer {token}\r\n" if token else "")
        assert (await wire.answer())[0] == (200 if token == "good" else 401)
        assert ways == ({"direct": 1} if token == "good" else {"usual": 1})


async def test_an_allowed_page_sees_the_answer(start_bridge: StartBridge, ways: Counter[str]) -> None:
    page = "https://app.example"
    bridge = await start_bridge(ALLOWED_ORIGINS=page)
    session = await bridge.session()
    seen = []
    async with wired(bridge, session) as wire:
        ways.clear()
        note = message("notifications/roots/list_changed", None)
        for call in (tool("echo", 1), tool("echo", 1), tool("progress", 1, token=1, steps=1), note):
            wire.send(session, call, f"Origin: {page}\r\n")
            _, head, _ = await wire.answer()
            assert head["access-control-allow-origin"] == page
            seen.append({name: value for name, value in head.items() if name.startswith(("access", "vary"))})
    assert ways == {"usual": 1, "direct": 2, "taken": 1}
    assert seen[0] == seen[1] == seen[2] == seen[3]


async def test_a_page_without_a_printable_name_does_no_harm(start_bridge: StartBridge, ways: Counter[str]) -> None:
    bridge = await start_bridge(ALLOWED_ORIGINS="*")
    session = await bridge.session()
    async with wired(bridge, session) as wire:
        ways.clear()
        for _ in range(2):
            wire.writer.write(request(session, tool("echo", 1, x=1), "Origin: http://?\r\n").replace(b"?", b"\xff"))
            assert await wire.result() == {"x": 1}
        assert ways == {"usual": 2}


async def test_a_token_that_may_have_been_guessed_has_to_wait(start_bridge: StartBridge) -> None:
    bridge = await start_bridge(ACCESS_TOKEN="short", TRUST_PROXY="127.0.0.1")
    bridge.http.headers["Authorization"] = "Bearer short"
    session = await bridge.session()
    far = "X-Forwarded-For: 203.0.113.9\r\nAuthorization: Bearer"
    async with wired(bridge) as wire:
        wire.send(session, tool("echo", 1), f"{far} short\r\n")
        assert (await wire.answer())[0] == 200
        for _ in range(40):
            wire.send(session, tool("echo", 1), f"{far} wrong\r\n")
            assert (await wire.answer())[0] in (401, 429)
        wire.send(session, tool("echo", 1), f"{far} short\r\n")
        assert (await wire.answer())[0] == 429


@pytest.mark.parametrize("token", ["short", "one-that-nobody-finds-by-trying"])
async def test_a_wrong_token_of_somebody_makes_nobody_slower_for_ever(
    start_bridge: StartBridge, ways: Counter[str], monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    time = FakeTime()
    monkeypatch.setattr(Guesses.__init__, "__defaults__", (time.clock,))
    bridge = await start_bridge(ACCESS_TOKEN=token, TRUST_PROXY="127.0.0.1")
    bridge.http.headers["Authorization"] = f"Bearer {token}"
    session = await bridge.session()
    is_guessable = token == "short"

    async def way(tokens: int) -> Counter[str]:
        for _ in range(tokens):
            wire.send(session, tool("echo", 1), "X-Forwarded-For: 203.0.113.9\r\nAuthorization: Bearer wrong\r\n")
            assert (await wire.answer())[0] == 401
        ways.clear()
        wire.send(session, tool("echo", 1), f"Authorization: Bearer {token}\r\n")
        assert (await wire.answer())[0] == 200
        return Counter(ways)

    async with wired(bridge) as wire:
        assert await way(1) == {"direct": 1}
        assert await way(GUESSES.count - 1) == ({"usual": 1} if is_guessable else {"direct": 1})
        time.now += GUESSES.seconds
        assert await way(0) == {"direct": 1}


@pytest.mark.parametrize("host", ["bridge.example", "evil.example"])
async def test_the_host_that_a_proxy_names_is_checked_each_time(
    start_bridge: StartBridge, ways: Counter[str], host: str
) -> None:
    bridge = await start_bridge(TRUST_PROXY="127.0.0.1", ALLOWED_HOSTS="bridge.example")
    session = await bridge.session()
    async with wired(bridge, session) as wire:
        wire.send(session, tool("echo", 1), "X-Forwarded-Host: bridge.example\r\n")
        assert (await wire.answer())[0] == 200
        ways.clear()
        wire.send(session, tool("echo", 1), f"X-Forwarded-Host: {host}\r\n")
        assert (await wire.answer())[0] == (200 if host == "bridge.example" else 403)
        assert ways == ({"direct": 1} if host == "bridge.example" else {"usual": 1})


@pytest.mark.parametrize(
    ("servers", "settings"),
    [
        ({"peer": peer(maxConcurrent=1)}, {}),
        ({"peer": peer(rateLimit="1000/second")}, {}),
        ({"peer": peer()}, {"RATE_LIMIT": "1000/second"}),
        ({"peer": peer(sharing="pooled")}, {}),
    ],
)
async def test_where_calls_are_counted_or_wait_for_a_child_they_go_the_usual_way(
    start_bridge: StartBridge, ways: Counter[str], servers: dict[str, Any], settings: dict[str, str]
) -> None:
    bridge = await start_bridge(servers, **settings)
    session = await bridge.session()
    async with wired(bridge, session) as wire:
        ways.clear()
        wire.send(session, tool("echo", 1, x=1))
        assert await wire.result() == {"x": 1}
        assert ways == {"usual": 1}


async def test_a_session_without_a_child_gets_one_on_the_usual_way(
    start_bridge: StartBridge, ways: Counter[str]
) -> None:
    bridge = await start_bridge()
    session = await bridge.session()
    entry = bridge.service.core.sessions.pool.find(session.id)
    assert entry is not None
    bridge.service.core.sessions.seating.park(entry, "a test wants it")
    async with wired(bridge, session) as wire:
        ways.clear()
        for _ in range(2):
            wire.send(session, tool("echo", 1, x=1))
            assert await wire.result() == {"x": 1}
        assert ways == {"usual": 1, "direct": 1}
    assert (await row(bridge))["in_use"] == 0


@pytest.mark.parametrize("scopes", [["servers:peer"], ["servers:other"], []])
async def test_a_session_is_its_owners_and_a_server_for_whom_it_may_use(
    start_bridge: StartBridge, ways: Counter[str], tmp_path: Path, scopes: list[str]
) -> None:
    now = datetime.now(UTC)
    owner, row_of_owner = tokens.mint("owner", ["servers:peer"], None, now)
    guest, row_of_guest = tokens.mint("guest", scopes, None, now)
    tokens.write(tmp_path / "t.json", [row_of_owner, row_of_guest])
    bridge = await start_bridge(TOKENS_FILE=tmp_path / "t.json")
    bridge.http.headers["X-API-Key"] = owner
    session = await bridge.session()
    async with wired(bridge) as wire:
        for token, statuses in ((owner, {200}), (guest, {403, 404}), (guest, {403, 404}), (owner, {200})):
            ways.clear()
            wire.send(session, tool("echo", 1, x=1), f"Authorization: Bearer {token}\r\n")
            assert (await wire.answer())[0] in statuses
            wire.send(session, tool("echo", 1, x=1), f"X-API-Key: {token}\r\n")
            assert (await wire.answer())[0] in statuses
        assert ways == {"direct": 2}
        tokens.write(tmp_path / "t.json", [replace(row_of_owner, scopes=("servers:other",)), row_of_guest])
        bridge.service.faces.guards._keyring._looked -= 10
        for _ in range(2):
            wire.send(session, tool("echo", 1, x=1), f"Authorization: Bearer {owner}\r\n")
            assert (await wire.answer())[0] == 403
        tokens.write(tmp_path / "t.json", [row_of_guest])
        bridge.service.faces.guards._keyring._looked -= 10  # the second until the next look
        wire.send(session, tool("echo", 1, x=1), f"Authorization: Bearer {owner}\r\n")
        assert (await wire.answer())[0] == 401


async def test_a_session_of_one_server_is_none_of_another(start_bridge: StartBridge, ways: Counter[str]) -> None:
    bridge = await start_bridge({"peer": peer(), "other": peer()})
    session = await bridge.session()
    elsewhere = replace(session, url=session.url.replace("peer", "other"))
    async with wired(bridge, session) as wire:
        ways.clear()
        wire.send(elsewhere, tool("echo", 1, x=1))
        assert (await wire.answer())[0] == 404
        assert ways == {"usual": 1}


async def test_calls_that_are_audited_are_all_written_down(
    start_bridge: StartBridge, ways: Counter[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, audit.LOGGER)
    bridge = await start_bridge()
    session = await bridge.session()
    async with wired(bridge, session) as wire:
        ways.clear()
        wire.send(session, tool("echo", 1, x=1))
        assert await wire.result() == {"x": 1}
    assert ways["direct"] == 0
    written = [each for each in caplog.records if each.name == audit.LOGGER and each.msg == "tool_call"]
    assert [vars(each)["members"]["tool"] for each in written] == ["echo"]


Early = Callable[..., None]


@pytest.fixture
def early(monkeypatch: pytest.MonkeyPatch) -> Early:
    """Has pieces come as soon as the next answer has been sent, when nobody waits for a request yet. ``then`` is called
    on the connection when somebody does. With ``is_first`` they come while the answer is being sent.
    """

    def come(*pieces: bytes, then: Callable[[Connection], object] = lambda _: None, is_first: bool = False) -> None:
        finish = Connection.finish_response

        async def finishing(connection: Connection, *args: Any) -> Any:
            await asyncio.sleep(0)  # since Python 3.12 a handler that never waits is done before its connection waits
            found = await finish(connection, *args)
            monkeypatch.setattr(Connection, "finish_response", finish)
            if is_first:
                arrive(connection)
            else:
                asyncio.get_running_loop().call_soon(arrive, connection)
            return found

        def arrive(connection: Connection) -> None:
            asyncio.get_running_loop().call_soon(then, connection)
            for piece in pieces:
                connection.data_received(piece)

        monkeypatch.setattr(Connection, "finish_response", finishing)

    return come


OTHER = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize("cut", [None, 1, 60, -9])
async def test_one_that_comes_before_its_connection_waits_again(
    bridge: Running, ways: Counter[str], early: Early, cut: int | None
) -> None:
    session = await bridge.session()
    data = request(session, tool("echo", 1, x=1))
    async with wired(bridge) as wire:
        early(*([data] if cut is None else [data[:cut], data[cut:]]))
        ways.clear()
        wire.writer.write(OTHER)
        assert (await wire.answer())[0] == 200
        assert await wire.result() == {"x": 1}
        assert ways == ({"usual": 2} if cut == 1 else {"usual": 1, "direct": 1})  # one byte is no sign of it
        wire.send(session, tool("echo", 1, x=2))
        assert await wire.result() == {"x": 2}


async def test_it_comes_so_again_and_again(bridge: Running, ways: Counter[str], early: Early) -> None:
    session = await bridge.session()
    async with wired(bridge) as wire:
        for x in range(6):
            ways.clear()
            early(request(session, tool("echo", 1, x=x)), is_first=x % 2 == 1)
            wire.writer.write(OTHER)
            assert (await wire.answer())[0] == 200
            assert await wire.result() == {"x": x}
            assert ways == ({"usual": 2} if x % 2 else {"usual": 1, "direct": 1})


async def test_another_one_that_comes_before_its_connection_waits_again(
    bridge: Running, ways: Counter[str], early: Early
) -> None:
    session = await bridge.session()
    async with wired(bridge) as wire:
        early(request(session, tool("echo", 1, x=1)) + OTHER)
        wire.writer.write(OTHER)
        assert (await wire.answer())[0] == 200
        assert await wire.result() == {"x": 1}
        assert (await wire.answer())[0] == 200


@pytest.mark.parametrize("how", ["close", "force_close", "abort"])
async def test_one_that_comes_at_the_end_of_its_connection_is_not_taken(
    bridge: Running, ways: Counter[str], early: Early, how: str
) -> None:
    session = await bridge.session()
    ended: list[Connection] = []
    tasks: list[asyncio.Task[None] | None] = []

    def end(connection: Connection) -> None:
        ended.append(connection)
        tasks.append(connection._task_handler)
        if how == "abort":
            connection.transport.abort()
            connection.connection_lost(None)
        else:
            getattr(connection, how)()

    async with wired(bridge) as wire:
        early(request(session, tool("echo", 1, x=1)), then=end)
        ways.clear()
        wire.writer.write(OTHER)
        await until(lambda: bool(tasks) and all(task is None or task.done() for task in tasks))
        ended[0].force_close()  # which aiohttp leaves to whoever closes it
        with contextlib.suppress(ConnectionError):
            assert b'"x"' not in await wire.reader.read()
        assert ways["direct"] == 0
