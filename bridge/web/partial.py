"""A request that is kept until it is whole, by a connection that knows its head from the one before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bridge.web.heads import Head
from bridge.web.rest import BEGUN, MANY, Rest


class Whole:
    """The body of a request that was kept (:class:`bridge.web.waiting.Body`)."""

    __slots__ = ("_body", "total_bytes")

    def __init__(self, body: bytes | bytearray) -> None:
        self._body = body
        self.total_bytes = len(body)

    def read_nowait(self) -> bytes | bytearray:
        """Return it."""
        return self._body


class Partial:
    """A request of which ``pieces`` have come, the first of them with its head, and ``missing`` bytes have not."""

    __slots__ = ("_rest", "missing", "pieces")

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.missing = 0
        self._rest: Rest | None = None  # who receives them in place of the connection, where they are many

    def take(self, data: bytes) -> None:
        """Keep some more of it, which may be too much."""
        self.pieces.append(data)
        self.missing -= len(data)

    def body(self, head: Head) -> bytes:
        """Return the body, once it is whole."""
        return b"".join(head.body(self.pieces))

    def receive_in_place(
        self, head: Head, usual: asyncio.Protocol, transport: asyncio.Transport, on_whole: Callable[[bytearray], None]
    ) -> None:
        """Let the rest of the body come to where it is read, if it is worth it by now; ``on_whole`` is called then.

        ``usual`` is the protocol of the connection until then, and again after it.
        """
        if self.missing >= MANY and sum(map(len, self.pieces)) >= BEGUN:
            self._rest = Rest(usual, transport, head.body(self.pieces), self.missing, on_whole)

    def drop_body(self, head: Head) -> None:
        """It was read, and may be large; what is left is a request all the same."""
        self.pieces = [head.without_body]
        self._leave()

    def take_out(self) -> list[bytes]:
        """Return all that has come, and keep nothing."""
        pieces, self.pieces = self.pieces, []
        if self._rest is not None:
            pieces.append(bytes(self._leave()))
        return [piece for piece in pieces if piece]

    def forget(self) -> None:
        """Keep nothing: connection and rest hold each other, and a body."""
        self.pieces.clear()
        self._leave()

    def _leave(self) -> memoryview:
        """Let the connection receive again; return what came to another place."""
        rest, self._rest = self._rest, None
        return _NONE if rest is None else rest.leave()


_NONE = memoryview(b"")
