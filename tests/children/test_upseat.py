"""A handshake client's seat at a modern child: each call ends, whenever the seat is given back."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from bridge.children import upseat
from bridge.children.exchange import Exchange
from bridge.children.seat import Listener, Seat
from bridge.children.stream import Kind
from bridge.children.upseat import UpSeat
from bridge.protocol import messages
from bridge.protocol.errors import ConnectionClosed
from bridge.protocol.messages import Request, Response
from bridge.protocol.modern import ACKNOWLEDGED
from bridge.protocol.mux import Undirected
from bridge.protocol.subscriptions import UPDATED, named
from tests.conftest import in_time


class Silent:
    """A child that takes everything and never says a word."""

    def __init__(self) -> None:
        self.legs: list[Exchange] = []
        self.coming: asyncio.Queue[Exchange] = asyncio.Queue()

    async def send(self, exchange: Exchange, _: float | None) -> None:
        self.legs.append(exchange)
        self.coming.put_nowait(exchange)

    def listen(self, _: Listener) -> None:
        """It says nothing."""

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


async def _listens(child: Silent) -> Exchange:
    """Acknowledge the next subscription on the child."""
    async with in_time():
        leg = await child.coming.get()
    leg.put(named(ACKNOWLEDGED, b'{"notifications":{"resourceSubscriptions":["a:b"]}}', b"0"), Kind.NOTE)
    return leg


async def test_a_subscription_that_its_server_ends_in_good_order_is_opened_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upseat, "FIRST_WAIT", 0.0)
    heard: asyncio.Queue[Undirected] = asyncio.Queue()
    child = Silent()
    seat = UpSeat(cast("Seat", child))
    seat.introduce(b"{}")
    seat.listen(heard.put_nowait)
    exchange = Exchange(Request(b"1", "resources/subscribe", b'{"uri":"a:b"}'))
    await seat.send(exchange, None)
    first = await _listens(child)
    async with in_time():
        assert b'"result"' in await exchange.receive()
    first.finish(messages.response_line(Response(b"0", b'{"resultType":"complete"}')))
    second = await _listens(child)
    async with in_time():
        assert (await heard.get()).method == UPDATED  # what was missed
        second.put(named(UPDATED, b'{"uri":"a:b"}', b"0"), Kind.NOTE)
        assert (await heard.get()).method == UPDATED
    await seat.send(Exchange(Request(b"2", "resources/unsubscribe", b'{"uri":"a:b"}')), None)
    assert second.ended
    await seat.send(Exchange(Request(b"3", "resources/subscribe", b'{"uri":"a:b"}')), None)
    third = await _listens(child)
    third.fail(ConnectionClosed("modern", "it was killed by signal 9"))
    seat.release()
