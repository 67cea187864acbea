"""Several requests that are answered together (specification 2025-03-26, batches)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bridge.children.exchange import Exchange
from bridge.children.stream import Kind, RequestStream
from bridge.protocol import messages
from bridge.protocol.errors import Rejection
from bridge.protocol.messages import Message, Request


class Batch(RequestStream):
    """The stream that carries the answers to all requests of a batch, and ends with the last."""

    def __init__(self, parts: Sequence[Message | Rejection]) -> None:
        super().__init__()
        self._open = sum(1 for part in parts if isinstance(part, Request | Rejection))
        self.asked = [part.id for part in parts if isinstance(part, Request)]
        self._decided = asyncio.Event()

    def put(self, message: bytes, kind: Kind = Kind.ANSWER) -> None:
        """Add a message; one that is no answer means that there will be events."""
        super().put(message, kind)
        if kind is not Kind.ANSWER:
            self._decided.set()

    def refuse(self, rejection: Rejection, request_id: bytes | None = None) -> None:
        """Answer one part with an error."""
        self.put(messages.error_line(request_id, rejection.fault.code, str(rejection), rejection.data))
        self._one_less()

    def one_ended(self, exchange: Exchange) -> None:
        """One request has its answer."""
        self._one_less()

    async def answers(self, seconds: float) -> list[bytes] | None:
        """All answers, once they are there; None when something else came first, or silence lasted too long."""
        try:
            async with asyncio.timeout(seconds):
                await self._decided.wait()
        except TimeoutError:
            return None
        waiting = self.waiting
        if self.ended and all(kind is Kind.ANSWER for _, kind in waiting):
            return [message for message, _ in waiting]
        return None

    def _one_less(self) -> None:
        self._open -= 1
        if self._open == 0:
            self.end()
            self._decided.set()
