"""What a client has told its child that the next child must hear again: the handshake, log level, subscriptions.

A session outlives its child when it is parked, restored, or when its child died. The next child then gets what is
recorded here before anything else, so that it stands where the first one stood - as far as MCP can say it. What a
server keeps in its memory besides is gone: ``restore: refuse`` is for servers where that matters.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from bridge.children.audience import uri_of
from bridge.children.crowd import SET_LEVEL, SUBSCRIBE, UNSUBSCRIBE, is_granted
from bridge.children.exchange import Exchange
from bridge.children.seat import Seat
from bridge.protocol import handshake, jsontext
from bridge.protocol.capabilities import has
from bridge.protocol.errors import OtherEra, StartFailed
from bridge.protocol.messages import Request

#: Requests that change what the next child must hear.
RECORDED = frozenset((SET_LEVEL, SUBSCRIBE, UNSUBSCRIBE))


class Recording:
    """``initialize`` holds the params of the client's request, verbatim; None where the bridge greets by itself.

    ``of_many``: whether the level was meant for many servers, so that this one may be without a log, and never answer.
    """

    __slots__ = ("_of_many", "initialize", "level", "subscriptions")

    def __init__(
        self,
        initialize: bytes | None = None,
        level: str | None = None,
        subscriptions: Iterable[str] = (),
        *,
        of_many: bool = False,
    ) -> None:
        self.initialize = initialize
        self.level = level
        self._of_many = of_many
        self.subscriptions: dict[str, None] = dict.fromkeys(subscriptions)

    def hear(self, exchange: Exchange) -> None:
        """Record a request of :data:`RECORDED` that has ended, unless it failed."""
        if not is_granted(exchange):
            return
        method, params = exchange.request.method, exchange.request.params
        if method == SET_LEVEL:
            self.level = jsontext.string(jsontext.member(params, "level"))
        elif method == SUBSCRIBE:
            self.subscriptions[uri_of(params)] = None
        else:
            self.subscriptions.pop(uri_of(params), None)

    async def replay(self, seat: Seat, server: str, seconds: float) -> bytes:
        """Tell a new child everything; return its InitializeResult. It has ``seconds`` to answer ``initialize``, as at
        any start, and as many for the rest.

        Raises :class:`StartFailed` when it does not take the handshake, :class:`OtherEra` when it is of the modern one.
        Level and subscriptions are sent and not insisted on: a child that refuses one can still serve.
        """
        result = seat.greeting or await self._greet(seat, server, seconds)
        try:
            async with asyncio.timeout(seconds):
                if self.initialize is not None:
                    seat.introduce(self.initialize)
                if self.level is not None and (not self._of_many or has(result, "logging")):
                    await self._ask(seat, SET_LEVEL, level=self.level)
                for uri in [*self.subscriptions]:  # the child before this one may still grant or end one
                    await self._ask(seat, SUBSCRIBE, uri=uri)
        except TimeoutError:
            raise StartFailed(server, f"it did not take the recorded handshake within {seconds:g} s") from None
        return result

    async def _greet(self, seat: Seat, server: str, seconds: float) -> bytes:
        assert self.initialize is not None
        exchange = Exchange(Request(b"0", "initialize", self.initialize))
        await seat.send(exchange, seconds)
        answer = jsontext.fields(await exchange.receive())
        if exchange.failure is not None:
            raise exchange.failure
        if "result" not in answer:
            error = bytes(answer.get("error", b""))
            why = jsontext.string(jsontext.member(error, "message")) or "without a message"
            refused = OtherEra if handshake.is_other_era(error) else StartFailed
            raise refused(server, f"it refused the recorded initialize: {why}")
        seat.greeted()
        seat.tell(handshake.INITIALIZED)
        return bytes(answer["result"])

    async def _ask(self, seat: Seat, method: str, **params: str) -> None:
        exchange = Exchange(Request(b"0", method, jsontext.encode(params)))
        await seat.send(exchange, None)
        await exchange.receive()
