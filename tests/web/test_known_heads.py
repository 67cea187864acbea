"""A call with a head that came before is answered without aiohttp, however it comes; anything else is aiohttp's."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from bridge.children.connection import LARGE
from bridge.web import aside, partial, reply
from bridge.web.aside import Waits
from bridge.web.rest import BEGUN, GROWTH, MANY, Rest
from bridge.web.server import Connection
from tests.conftest import Running, Session, StartBridge, message, tool
from tests.modern_client import ModernClient
from tests.web.test_direct import Wire, connections, request, taken, until, waiting, ways, wired
from tests.web.test_direct_modern import Modern

__all__ = ["ways"]


@pytest.fixture(params=["pieces", "in place"])
def rests(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the rest of a body is received, however small it is."""
    if request.param != "as it is":
        monkeypatch.setattr(partial, "MANY", 1 if request.param == "in place" else LARGE)
        monkeypatch.setattr(partial, "BEGUN", 0)
    return str(request.param)


@pytest.fixture(autouse=True)
def read(ways: Counter[str], rests: str, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often something has come, and how often something was given to aiohttp, as ``come`` and ``given``; and how
    often what has come was ``placed`` in its body.
    """
    seen: Counter[str] = Counter()
    give, receive, place = aside._data_received, Connection.data_received, Rest.buffer_updated

    def giving(connection: Connection, data: bytes) -> None:
        seen["given"] += 1
        give(connection, data)

    def receiving(connection: Connection, data: bytes) -> None:
        seen["come"] += 1
        receive(connection, data)

    def placing(rest: Rest, nbytes: int) -> None:
        seen["come"] += 1
        seen["placed"] += 1
        place(rest, nbytes)

    monkeypatch.setattr(Rest, "buffer_updated", placing)
    monkeypatch.setattr(aside, "_data_received", giving)
    monkeypatch.setattr(Connection, "data_received", receiving)
    return seen


pytestmark = pytest.mark.parametrize("ways", ["a known head"], indirect=True)

Pieces = Callable[..., Awaitable[None]]


@pytest.fixture
def in_pieces(read: Counter[str]) -> Pieces:
    """Sends pieces that are seen one by one."""

    async def send(wire: Wire, *pieces: bytes) -> None:
        for piece in pieces:
            before = read["come"]
            wire.writer.write(piece)
            await until(lambda before=before: read["come"] > before)  # type: ignore[misc]

    return send


@dataclass(frozen=True)
class Half:
    """A call of which all but ``rest`` has come over ``wire``; ``task`` is that of its ``connection``, and sleeps."""

    session: Session
    wire: Wire
    connection: Connection
    task: asyncio.Task[None]
    rest: bytes


@pytest.fixture
async def half(bridge: Running, in_pieces: Pieces, ways: Counter[str]) -> AsyncIterator[Half]:
    session = await bridge.session()
    data = request(session, tool("echo", 1, x=1))
    async with wired(bridge, session) as wire:
        ways.clear()
        await in_pieces(wire, data[:-9])
        [connection] = [each for each in connections(bridge) if each.waits is Waits.BODY]
        assert connection._task_handler is not None
        yield Half(session, wire, connection, connection._task_handler, data[-9:])


async def test_it_is_not_given_to_aiohttp(bridge: Running, read: Counter[str], ways: Counter[str]) -> None:
    session = await bridge.session()
    async with wired(bridge, session) as wire:
        read.clear()
        ways.clear()
        for size in (0, 1, 1000, 60_000, 2):
            wire.send(session, tool("echo", 1, x="y" * size))
            assert await wire.result() == {"x": "y" * size}
        assert ways == {"direct": 5}
        assert read["given"] == 0


async def test_it_comes_in_pieces_cut_anywhere(
    bridge: Running, read: Counter[str], ways: Counter[str], in_pieces: Pieces
) -> None:
    session = await bridge.session()
    data = request(session, tool("echo", 1, x=1))
    head = data.index(b"\r\n\r\n") + 4
    async with wired(bridge, session) as wire:
        for cut in range(head, len(data)):
            read.clear()
            ways.clear()
            await in_pieces(wire, data[:cut], data[cut:])
            assert await wire.result() == {"x": 1}
            assert ways == {"direct": 1}
            assert read["given"] == 0


@pytest.mark.parametrize("cut", [1, 60, -60])
async def test_half_a_head_is_for_aiohttp(
    bridge: Running, ways: Counter[str], in_pieces: Pieces, read: Counter[str], cut: int
) -> None:
    session = await bridge.session()
    data = request(session, tool("echo", 1, x=1))
    end = data.index(b"\r\n\r\n") + 4
    async with wired(bridge, session) as wire:
        await in_pieces(wire, data[:end][:cut], data[:end][cut:], data[end:])
        assert await wire.result() == {"x": 1}
        for _ in range(2):  # and nothing is guessed about what follows
            wire.send(session, tool("echo", 1, x=2))
            assert await wire.result() == {"x": 2}


async def test_one_that_was_read_in_pieces_is_known_as_well(
    bridge: Running, read: Counter[str], ways: Counter[str], in_pieces: Pieces
) -> None:
    session = await bridge.session()
    data = request(session, tool("echo", 1, x=1))
    end = data.index(b"\r\n\r\n") + 4
    async with wired(bridge) as wire:
        for _ in range(3):
            read.clear()
            ways.clear()
            await in_pieces(wire, data[:end], data[end:-1], data[-1:])
            assert await wire.result() == {"x": 1}
        assert ways == {"direct": 1}
        assert read["given"] == 0


@pytest.mark.parametrize("size", [300_000, 1_000_000, LARGE - 1000])
async def test_a_large_one_is_put_together(bridge: Running, read: Counter[str], ways: Counter[str], size: int) -> None:
    session = await bridge.session()
    text = "".join(map(str, range(size // 6)))[:size]
    async with wired(bridge, session) as wire:
        read.clear()
        ways.clear()
        wire.send(session, tool("echo", 1, x=text))
        assert await wire.result() == {"x": text}
        assert ways == {"direct": 1}
        assert read["given"] == 0
        assert read["come"] > 1 or read["placed"]


@pytest.mark.parametrize("rests", ["as it is"], indirect=True)
@pytest.mark.parametrize("size", [MANY - 1, MANY])
async def test_what_is_much_is_received_in_place_and_not_kept(
    bridge: Running, monkeypatch: pytest.MonkeyPatch, in_pieces: Pieces, size: int
) -> None:
    rests: set[Rest] = set()
    place = Rest.buffer_updated

    def placing(rest: Rest, nbytes: int) -> None:
        rests.add(rest)  # as uvloop does, for as long as the connection lives
        place(rest, nbytes)

    monkeypatch.setattr(Rest, "buffer_updated", placing)
    session = await bridge.session()
    text = "".join(map(str, range(40_000)))  # more than there is room for at first
    data = request(session, tool("echo", 1, x=text))
    async with wired(bridge, session) as wire:
        await in_pieces(wire, data[:1000], data[1000:-size], data[-size:])
        assert await wire.result() == {"x": text}
        assert len(rests) == (size == MANY)
        assert not any(each._body or each._view for each in rests)


@pytest.mark.parametrize("rests", ["as it is"], indirect=True)
async def test_there_is_memory_for_what_has_come_and_not_for_what_is_said_to_come(
    bridge: Running, ways: Counter[str], in_pieces: Pieces
) -> None:
    session = await bridge.session()
    data = request(session, tool("echo", 1, x="y" * 1_000_000))
    async with wired(bridge, session) as wire:
        await in_pieces(wire, data[: BEGUN - 1])
        [connection] = [each for each in connections(bridge) if each.waits is Waits.BODY]
        assert connection._partial._rest is None
        await in_pieces(wire, data[BEGUN - 1 : BEGUN])
        assert connection._partial._rest is not None
        assert len(connection._partial._rest._body) <= GROWTH * BEGUN


async def test_what_has_come_goes_with_its_connection(bridge: Running, half: Half) -> None:
    rest, before = half.connection._partial._rest, len(connections(bridge))
    half.wire.writer.transport.abort()
    await until(lambda: len(connections(bridge)) < before)
    assert not half.connection._partial.pieces
    assert half.connection._partial._rest is None
    assert rest is None or not rest._body


async def test_its_connection_hears_what_happens_meanwhile(half: Half) -> None:
    protocol = half.connection.transport.get_protocol()
    protocol.pause_writing()
    assert half.connection.writing_paused
    protocol.resume_writing()
    assert not half.connection.writing_paused
    half.wire.writer.write_eof()
    assert await half.wire.reader.read() == b""
    await until(half.task.done)


async def test_one_that_comes_while_nothing_can_be_sent_has_to_wait(
    bridge: Running, ways: Counter[str], in_pieces: Pieces, half: Half
) -> None:
    protocol = half.connection.transport.get_protocol()
    protocol.pause_writing()
    await in_pieces(half.wire, half.rest)
    await until(lambda: ways == {"usual": 1})
    assert half.connection.transport.get_protocol() is half.connection
    half.connection.resume_writing()
    assert await half.wire.result() == {"x": 1}


async def test_of_a_large_one_that_waits_nothing_is_kept(
    bridge: Running, ways: Counter[str], in_pieces: Pieces
) -> None:
    session = await bridge.session()
    async with wired(bridge, session) as wire:
        ways.clear()
        data = request(session, tool("never", 1, x="y" * 1000))
        await in_pieces(wire, data[:-500], data[-500:])
        await taken(ways)
        assert sum(map(len, waiting(bridge)._partial.pieces)) < len(data) - 1000


@pytest.mark.parametrize(("limit", "status"), [(2 * LARGE, 200), (1_000_000, 413)])
async def test_one_that_is_too_large_is_for_aiohttp(
    start_bridge: StartBridge, ways: Counter[str], limit: int, status: int
) -> None:
    bridge = await start_bridge(MAX_REQUEST_BYTES=limit)
    session = await bridge.session()
    async with wired(bridge, session) as wire:
        ways.clear()
        data = request(session, tool("echo", 1, x="y" * LARGE))
        wire.writer.write(data if status == 200 else data[: limit + 1000])
        assert (await wire.answer())[0] == status
        assert ways == {"usual": 1}


@pytest.mark.parametrize("cut", [0, 1, 40, -1, None])
async def test_what_comes_behind_it_is_the_next_one(bridge: Running, in_pieces: Pieces, cut: int | None) -> None:
    session = await bridge.session()
    one, two = (request(session, tool("echo", 1, x=x)) for x in (1, 2))
    async with wired(bridge, session) as wire:
        await in_pieces(wire, one[:-3], one[-3:] + two[:cut], *([] if cut is None else [two[cut:]]))
        for x in (1, 2):
            assert await wire.result() == {"x": x}
        wire.send(session, tool("echo", 1, x=3))
        assert await wire.result() == {"x": 3}


@pytest.mark.parametrize("extra", ["", "X: y\r\n"])
async def test_a_body_that_looks_like_a_request_is_a_body(
    bridge: Running, in_pieces: Pieces, ways: Counter[str], extra: str
) -> None:
    session = await bridge.session()
    body = request(session, tool("die", 1))
    data = request(session, body, extra)
    async with wired(bridge, session) as wire:
        ways.clear()
        await in_pieces(wire, data[: -len(body)], body)
        assert (await wire.answer())[0] == 400
        assert ways == {"usual": 1}
        wire.send(session, tool("echo", 1, x=1))
        assert await wire.result() == {"x": 1}


async def test_more_than_its_length_says_is_not_its_body(bridge: Running, in_pieces: Pieces) -> None:
    session = await bridge.session()
    data = request(session, tool("echo", 1, x=1))
    async with wired(bridge, session) as wire:
        await in_pieces(wire, data[:-9], data[-9:] + b" ")
        assert await wire.result() == {"x": 1}
        wire.send(session, tool("echo", 1, x=2))
        assert (await wire.answer())[0] == 400  # a line cannot begin with a space


@pytest.mark.parametrize("extra", ["", "X: y\r\n"])
async def test_a_known_head_inside_of_another_is_none(
    bridge: Running, ways: Counter[str], in_pieces: Pieces, extra: str
) -> None:
    session = await bridge.session()
    data = request(session, tool("echo", 1, x=1), extra)
    async with wired(bridge, session) as wire:
        await in_pieces(wire, data[:-9], data[-9:] + b"GET /livez HTTP/1.1\r\nX: ")
        assert await wire.result() == {"x": 1}
        ways.clear()
        await in_pieces(wire, request(session, tool("echo", 1, x=2)))
        status, _, body = await wire.answer()
        assert (status, b'"x"' in body) != (200, True)
        assert ways["direct"] == 0


@pytest.mark.parametrize("token", ["", "Authorization: Bearer wrong\r\n"])
async def test_nothing_is_kept_of_whoever_may_not_come_in(
    start_bridge: StartBridge, in_pieces: Pieces, token: str
) -> None:
    bridge = await start_bridge(ACCESS_TOKEN="good")
    bridge.http.headers["Authorization"] = "Bearer good"
    session = await bridge.session()
    data = request(session, tool("echo", 1, x="y" * 1_000_000), token)
    async with wired(bridge) as wire:
        wire.send(session, tool("echo", 1), token)
        assert (await wire.answer())[0] == 401
        assert any(each._head is not None for each in connections(bridge))
        await in_pieces(wire, data[:-1000])
        assert (await wire.answer())[0] == 401  # before the rest has come


async def test_a_length_with_thousands_of_zeros_is_a_length(bridge: Running, caplog: pytest.LogCaptureFixture) -> None:
    session = await bridge.session()
    data = request(session, tool("echo", 1, x=1)).replace(b"Content-Length: ", b"Content-Length: " + b"0" * 5000)
    async with wired(bridge, session) as wire:
        for _ in range(2):
            wire.writer.write(data)
            assert await wire.result() == {"x": 1}
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


async def test_half_a_body_is_waited_for_in_a_task_at_last(
    bridge: Running, ways: Counter[str], in_pieces: Pieces, half: Half
) -> None:
    assert ways == {}
    server = bridge.service.faces._server
    assert server is not None
    server.look()
    server.look()
    await until(lambda: ways == {"usual": 1})
    server.look()
    server.look()  # as long as it has patience
    await in_pieces(half.wire, half.rest)
    assert await half.wire.result() == {"x": 1}
    half.wire.send(half.session, tool("echo", 1, x=2))
    assert await half.wire.result() == {"x": 2}
    assert ways == {"usual": 1, "direct": 1}


async def test_a_connection_is_not_idle_while_a_body_comes(in_pieces: Pieces, half: Half) -> None:
    half.connection._next_keepalive_close_time = 0.0
    half.connection._process_keepalive()
    await in_pieces(half.wire, half.rest)
    assert await half.wire.result() == {"x": 1}
    assert half.connection.waits is Waits.NOTHING


async def test_whoever_answers_now_answers_what_is_coming(
    bridge: Running, ways: Counter[str], in_pieces: Pieces, half: Half
) -> None:
    server = bridge.service.faces._server
    assert server is not None
    server.use(server._handler)  # as during a restart
    await in_pieces(half.wire, half.rest)
    assert await half.wire.result() == {"x": 1}
    assert ways == {"usual": 1}


async def test_a_client_that_goes_in_the_middle_leaves_nothing(bridge: Running, half: Half) -> None:
    before = len(connections(bridge))
    half.wire.writer.transport.abort()
    await until(lambda: len(connections(bridge)) < before)
    await until(half.task.done)
    assert bridge.service._drain.running == 0


async def test_a_shutdown_does_not_wait_for_the_rest_of_a_body(bridge: Running, half: Half) -> None:
    async with asyncio.timeout(5):
        await bridge.service.stop()
        assert await half.wire.reader.read() == b""


async def test_a_connection_that_is_being_closed_has_nothing_to_go_on_with(ways: Counter[str], half: Half) -> None:
    half.connection._force_close = True  # as by force_close, until what waits to be sent has been
    half.connection.go_on()
    await until(half.task.done)
    assert half.task.cancelled()
    half.connection.force_close()
    assert ways == {}


@pytest.mark.parametrize("how", ["close", "force_close"])
async def test_what_comes_after_the_end_is_not_taken(ways: Counter[str], half: Half, how: str) -> None:
    transport = half.connection.transport
    protocol = transport.get_protocol()
    getattr(half.connection, how)()
    if isinstance(protocol, Rest):
        protocol.get_buffer(-1)[:] = half.rest
        protocol.buffer_updated(len(half.rest))
        assert how == "force_close" or transport.get_protocol() is half.connection  # else there is no room for more
    else:
        protocol.data_received(half.rest)
    half.connection.data_received(request(half.session, tool("echo", 1, x=1)))
    await until(half.task.done)
    half.connection.force_close()
    assert await half.wire.reader.read() == b""
    assert ways == {}


async def test_what_comes_while_a_call_is_under_way_is_behind_it(
    bridge: Running, ways: Counter[str], in_pieces: Pieces
) -> None:
    session = await bridge.session()
    async with wired(bridge, session) as wire:
        ways.clear()
        wire.send(session, tool("wait", 1, key="k", token="t"))
        await taken(ways)
        await wire.head()
        await wire.chunk()
        data = request(session, tool("echo", 1, x=1))
        await in_pieces(wire, data[:-9], data[-9:])
        await session.call("release", 2, key="k")
        while await wire.chunk():
            pass
        assert await wire.result() == {"x": 1}
        wire.send(session, tool("echo", 1, x=2))
        assert await wire.result() == {"x": 2}


@pytest.mark.parametrize("is_last", [False, True])
async def test_a_call_that_goes_on_in_a_task_is_before_what_came_behind_it(
    start_bridge: StartBridge,
    ways: Counter[str],
    in_pieces: Pieces,
    monkeypatch: pytest.MonkeyPatch,
    is_last: bool,
) -> None:
    monkeypatch.setattr(reply, "KEEP_ALIVE", 0.02)
    bridge = await start_bridge()
    session = await bridge.session()
    async with wired(bridge, session) as wire:
        ways.clear()
        await in_pieces(wire, request(session, tool("wait", 1, key="k")))
        if is_last:
            waiting(bridge).close()
        else:
            await in_pieces(wire, request(session, tool("echo", 1, x=1)))
        await until(lambda: ways["task"] == 1)
        await session.call("release", 2, key="k")
        status, _, body = await wire.answer()
        assert (status, b'"released"' in body) == (200, True)
        if is_last:
            assert await wire.reader.read() == b""
        else:
            assert await wire.result() == {"x": 1}


@pytest.mark.parametrize(
    "other",
    [
        lambda session: b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        lambda session: request(session, tool("echo", 1), "X: y\r\n"),
        lambda session: request(session, message("notifications/roots/list_changed", None)),
        lambda session: request(session, tool("echo", 1), "Content-Type: text/plain\r\n"),
    ],
)
async def test_other_requests_between_are_no_trouble(
    bridge: Running, ways: Counter[str], other: Callable[[Session], bytes]
) -> None:
    session = await bridge.session()
    async with wired(bridge, session) as wire:
        for x in range(3):
            wire.writer.write(other(session))
            await wire.answer()
            for each in ("a", "b"):
                wire.send(session, tool("echo", 1, x=f"{x}{each}"))
                assert await wire.result() == {"x": f"{x}{each}"}


async def test_a_body_in_chunks_ends_where_it_ends(bridge: Running, in_pieces: Pieces) -> None:
    session = await bridge.session()
    data = request(session, tool("echo", 1, x=1))
    head, body = data.split(b"\r\n\r\n")
    head = head.rpartition(b"\r\n")[0] + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with wired(bridge, session) as wire:
        await in_pieces(wire, head, b"%x\r\n" % len(body), body, b"\r\n0\r\n\r\n")
        assert await wire.result() == {"x": 1}
        wire.send(session, tool("echo", 1, x=2))
        assert await wire.result() == {"x": 2}


async def test_modern_calls_of_one_tool_have_one_head(
    start_bridge: StartBridge, ways: Counter[str], read: Counter[str]
) -> None:
    bridge = await start_bridge()
    await ModernClient(bridge, "peer").call("echo", x=1)
    async with wired(bridge) as wire:
        modern = Modern(bridge, "peer", wire)
        for name, given in (("echo", 1), ("echo", 0), ("add", 1), ("add", 0), ("echo", 1)):
            read.clear()
            ways.clear()
            modern.call(name, a=1, b=20)
            assert (await modern.answer())[0] == 200
            assert read["given"] == given
            assert ways == {"direct": 1}


async def test_calls_in_another_session_have_another_head(bridge: Running, ways: Counter[str]) -> None:
    one, two = await bridge.session(), await bridge.session()
    asked: list[Any] = []
    async with wired(bridge, one) as wire:
        for session in (one, two, one, one):
            wire.send(session, tool("echo", 1, x=session.id))
            _, head, body = await wire.answer()
            asked.append((head["mcp-session-id"], json.loads(body)["result"]["x"]))
    assert asked == [(each.id, each.id) for each in (one, two, one, one)]
