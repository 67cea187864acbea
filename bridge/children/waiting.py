"""Requests that wait for a child, and end before it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from bridge.children.exchange import Exchange
from bridge.protocol.errors import cancelled

T = TypeVar("T")


async def while_wanted(exchange: Exchange, coming: Awaitable[T]) -> T | None:
    """Wait for what a request needs before it can be sent; None when the request ends first.

    Its client may cancel it, or its session may end: nobody waits any longer then, and ``coming`` is cancelled. What
    comes at that very moment is returned all the same, so whoever has to give it back looks at ``exchange.ended``.
    """
    waits = True

    def give_up(_: Exchange) -> None:
        if waits:
            waiting.reschedule(asyncio.get_running_loop().time())

    exchange.before_end(give_up)
    exchange.on_cancel = lambda: exchange.fail(cancelled())
    try:
        async with asyncio.timeout(None) as waiting:
            return await coming
    except TimeoutError:
        if exchange.ended:
            return None
        raise
    finally:
        waits = False
        exchange.on_cancel = None
