"""A handshake client's seat at a modern child: each call ends, whenever the seat is given back."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from bridge.children.exchange import Exchange
from bridge.children.seat import Seat
from bridge.children.upseat import UpSeat
from bridge.protocol.errors import ConnectionClosed
from bridge.protocol.messages import Request
from tests.conftest import in_time


class Silent:
    """A child that takes everything and never says a word."""

    def __init__(self) -> None:
        self.legs: list[Exchange] = []

    async def send(self, exchange: Exchange, _: float | None) -> None:
        self.legs.append(exchange)

    def release(self) -> None:
        """Nothing is held."""


@pytest.mark.parametrize("turns", [0, 1, 5])
@pytest.mark.parametrize("method", ["tools/call", "resources/subscribe"])
async def test_a_call_ends_with_its_seat_although_its_work_has_not_begun(method: str, turns: int) -> None:
    seat = UpSeat(cast("Seat", Silent()))
    exchange = Exchange(Request(b"1", method, b'{"uri":"a:b"}'))
    await seat.send(exchange, None)
    for _ in range(turns):
        await asyncio.sleep(0)
    seat.release()
    async with in_time():
        assert b'"error"' in await exchange.receive()


@pytest.mark.parametrize("turns", [0, 1, 5])
async def test_a_call_whose_child_dies_and_whose_seat_is_given_back_for_that_says_so(turns: int) -> None:
    child = Silent()
    seat = UpSeat(cast("Seat", child))
    exchange = Exchange(Request(b"1", "tools/call", b"{}"))
    await seat.send(exchange, None)
    for _ in range(turns):
        await asyncio.sleep(0)
    child.legs[0].fail(ConnectionClosed("modern", "it was killed by signal 9"))
    seat.release()
    async with in_time():
        assert b"signal 9" in await exchange.receive()
