"""A handshake client's seat at a modern child: each call ends, whenever the seat is given back."""

from __future__ import annotations

import asyncio
import json
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

    closed = False
    obituary = ""

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


def _asks(leg: Exchange, **questions: str) -> None:
    """Answer a call with questions of these methods by key, or only with a state."""
    asked = {"inputRequests": {key: {"method": method} for key, method in questions.items()}} if questions else {}
    result = json.dumps({"resultType": "input_required", "requestState": "state", **asked}).encode()
    leg.finish(messages.response_line(Response(leg.request.id, result)))


async def test_a_server_that_asks_nothing_yet_is_asked_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def slept(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    child = Silent()
    seat = UpSeat(cast("Seat", child))
    seat.introduce(b'{"capabilities":{"roots":{}}}')
    asked: asyncio.Queue[Undirected] = asyncio.Queue()
    seat.listen(asked.put_nowait)
    exchange = Exchange(Request(b"1", "tools/call", b'{"name":"t"}'))
    monkeypatch.setattr(asyncio, "sleep", slept)
    await seat.send(exchange, None)
    async with in_time():
        for questions in ({}, {}, {}, {}, {"q": "roots/list"}, {}):
            _asks(await child.coming.get(), **questions)
            if questions:
                question = (await asked.get()).question
                assert seat.answer(Response(b"%d" % (question or 0), b'{"roots":[]}'))
        leg = await child.coming.get()
        leg.finish(messages.response_line(Response(leg.request.id, b'{"resultType":"complete"}')))
        assert b'"result"' in await exchange.receive()
    assert pauses == [0.05, 0.1, 0.2, 0.25, 0.05]
    params = [json.loads(each.request.params) for each in child.legs[1:]]
    assert [each["requestState"] for each in params] == ["state"] * 6
    assert [each.get("inputResponses") for each in params] == [None] * 4 + [{"q": {"roots": []}}, None]


@pytest.mark.parametrize("questions", [{}, {"q": "roots/list"}])
async def test_who_has_cancelled_a_call_is_asked_nothing_and_it_ends(questions: dict[str, str]) -> None:
    child = Silent()
    seat = UpSeat(cast("Seat", child))
    seat.introduce(b'{"capabilities":{"roots":{}}}')
    asked: list[Undirected] = []
    seat.listen(asked.append)
    exchange = Exchange(Request(b"1", "tools/call", b'{"name":"t"}'))
    await seat.send(exchange, None)
    exchange.cancel()
    _asks(await child.coming.get(), **questions)
    async with in_time():
        assert b'"error"' in await exchange.receive()
    assert (len(child.legs), asked) == (1, [])


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
