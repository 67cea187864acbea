"""All pages of a list, asked for by the bridge itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Protocol

from bridge.children.exchange import Exchange
from bridge.protocol import jsontext, tools
from bridge.protocol.errors import METHOD_NOT_FOUND, BridgeError
from bridge.protocol.messages import Request
from bridge.sessions.bridge import last


class Asked(Protocol):
    """Who is asked: a seat, or what gets one first."""

    async def send(self, exchange: Exchange, silence: float | None) -> None:
        """Send a request. Raises what :meth:`Seat.send` raises."""
        ...


class Refused(Exception):
    """A page did not come. ``failure`` is set where the bridge had to say so, and not the server."""

    def __init__(self, error: bytes, failure: BridgeError | None) -> None:
        super().__init__(jsontext.string(jsontext.member(error, "message")) or "an error")
        self.failure = failure
        #: Whether the server has no tools at all.
        self.has_none = jsontext.decode(jsontext.member(error, "code")) == METHOD_NOT_FOUND


async def pages(
    seat: Asked, silence: float | None, params: Callable[[bytes], bytes], method: str = tools.LIST
) -> AsyncIterator[bytes]:
    """Yield the result of each page. ``params`` completes those that ask for one.

    Raises :class:`Refused`, and what :meth:`Seat.send` raises.
    """
    cursor: str | None = None
    for _ in range(tools.MOST_PAGES):
        asked = params(b"{}" if cursor is None else jsontext.encode({"cursor": cursor}))
        exchange = Exchange(Request(b"0", method, asked))
        await seat.send(exchange, silence)
        answer = jsontext.fields(await last(exchange))
        if "error" in answer:
            raise Refused(bytes(answer["error"]), exchange.failure)
        result = bytes(answer.get("result", b""))
        yield result
        cursor = tools.next_cursor(result, cursor)
        if cursor is None:
            break
