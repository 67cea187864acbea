"""A large message is read in one turn of the event loop and passed on in the next, and stays in its place."""

from __future__ import annotations

import io
import json
from typing import cast

import pytest

from bridge.children.connection import LARGE, ChildConnection
from bridge.children.exchange import Exchange
from bridge.protocol.messages import Request
from bridge.protocol.transport import Hearing, Transport
from bridge.web import body, mcp, sse
from bridge.web import bridge as bridge_face
from tests.conftest import ACCEPT, StartBridge, in_time, tool


class Scripted:
    """A child that says what a test says."""

    obituary = "it was killed by signal 9"
    hearing: Hearing

    def connect(self, hearing: Hearing) -> Transport:
        self.hearing = hearing
        return cast("Transport", self)

    def write(self, line: bytes) -> None:
        """Nobody reads it."""


def _answer(number: int, size: int) -> bytes:
    return b'{"jsonrpc":"2.0","id":%d,"result":{"text":"%b"}}' % (number, b"x" * size)


def _connected(calls: int) -> tuple[Scripted, list[Exchange], list[int]]:
    child, ended = Scripted(), list[int]()
    connection = ChildConnection("scripted", child.connect, lambda _line: None)
    exchanges = [Exchange(Request(b"%d" % n, "x"), lambda each: ended.append(each.number)) for n in range(1, calls + 1)]
    for exchange in exchanges:
        connection.exchange(exchange)
    return child, exchanges, ended


async def test_others_have_a_turn_between_reading_a_large_message_and_passing_it_on() -> None:
    child, [first, _], ended = _connected(2)
    child.hearing.on_line(_answer(1, LARGE))
    assert ended == []
    async with in_time():
        await first.receive()
    assert ended == [1]
    assert len(first.answer) > LARGE
    child.hearing.on_line(_answer(2, 10))
    assert ended == [1, 2]


@pytest.mark.parametrize("sizes", [(LARGE, 10, 10), (LARGE, LARGE, 10), (10, LARGE, LARGE), (LARGE, 10, LARGE)])
@pytest.mark.parametrize("dies", [False, True])
async def test_messages_keep_their_order_and_none_is_lost_when_the_child_ends(
    sizes: tuple[int, ...], dies: bool
) -> None:
    child, exchanges, ended = _connected(4)
    for number, size in enumerate(sizes, 1):
        child.hearing.on_line(_answer(number, size))
    child.hearing.on_line(_answer(1, 5))  # a second answer, which is ignored
    if dies:
        child.hearing.on_end()
    async with in_time():
        for each in exchanges[: 3 + dies]:
            await each.receive()
    assert ended == [1, 2, 3, *([4] if dies else [])]
    assert [len(each.answer) > size for each, size in zip(exchanges, sizes, strict=False)] == [True] * 3
    assert (b"signal 9" in exchanges[3].answer) == dies


@pytest.mark.parametrize(("face", "turns"), [("mcp", 2), ("bridge", 3), ("sse", 2)])
async def test_others_are_served_between_the_pieces_of_work_on_a_large_request(
    start_bridge: StartBridge, monkeypatch: pytest.MonkeyPatch, face: str, turns: int
) -> None:
    bridge = await start_bridge(MAX_REQUEST_BYTES=2 * LARGE)
    other = await bridge.session()
    served: list[int] = []

    async def others() -> None:
        served.append((await other.call("count"))["result"]["count"])

    for module in (body, mcp, bridge_face, sse):
        monkeypatch.setattr(module, "others_first", others)
    call = io.BytesIO(json.dumps(tool("echo", 1, text="x" * LARGE)).encode())
    headers = {"Content-Type": "application/json", "Accept": ACCEPT}
    if face == "sse":
        async with bridge.http.get(bridge.url + "/sse/peer") as stream:
            await stream.content.readuntil(b"data: ")
            path = (await stream.content.readline()).decode().strip()
            async with bridge.http.post(bridge.url + path, data=call, headers=headers) as response:
                assert response.status == 202
    else:
        headers["Mcp-Session-Id"] = (await bridge.session()).id  # which means nothing to /bridge
        async with bridge.http.post(f"{bridge.url}/{face}/peer", data=call, headers=headers) as response:
            assert (await response.json())["result"]["text"] == "x" * LARGE
    assert served == list(range(1, turns + 1))
