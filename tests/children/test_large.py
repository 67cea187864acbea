"""A large message is read in one turn of the event loop and passed on in the next, and stays in its place."""

from __future__ import annotations

from typing import cast

import pytest

from bridge.children.connection import LARGE, ChildConnection, Exchange
from bridge.children.transport import Hearing, Transport
from bridge.protocol.messages import Request
from tests.conftest import in_time


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
