"""Requests that wait for a child."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from bridge.children.exchange import Exchange
from bridge.children.waiting import while_wanted
from bridge.protocol.errors import Fault, Rejection
from bridge.protocol.messages import Request
from bridge.sessions.vacant import Vacant
from tests.conftest import in_time


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (Exchange.cancel, b"the client cancelled the call"),
        (lambda exchange: exchange.fail(Rejection(Fault.UNKNOWN_SESSION, "session ended")), b"session ended"),
    ],
)
async def test_a_request_that_ends_waits_no_longer(end: Callable[[Exchange], None], words: bytes) -> None:
    exchange = Exchange(Request(b"1", "ping"))
    child: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    sending = asyncio.create_task(Vacant(lambda: child).send(exchange, None))  # type: ignore[arg-type, return-value]
    await asyncio.sleep(0)
    end(exchange)
    async with in_time():
        await sending
    assert child.cancelled()
    assert words in exchange.answer


async def test_what_comes_in_time_is_returned_and_a_later_end_changes_nothing() -> None:
    exchange = Exchange(Request(b"1", "ping"))
    assert await while_wanted(exchange, asyncio.sleep(0, "child")) == "child"
    exchange.cancel()
    assert not exchange.ended
    exchange.fail(Rejection(Fault.TIMED_OUT, "late"))
    await asyncio.sleep(0)


async def test_a_time_that_is_up_elsewhere_is_no_end_of_the_request() -> None:
    exchange = Exchange(Request(b"1", "ping"))
    with pytest.raises(TimeoutError):
        await while_wanted(exchange, asyncio.wait_for(asyncio.sleep(10), 0))
