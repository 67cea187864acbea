"""A response stream: messages on their way to one reader, bounded.

An exchange is one, and so is what a client reads by GET. Messages wait here in order; over the limit notifications are
dropped and counted, the oldest first, so a reader that stalls costs a fixed amount of memory and nobody else anything
(users' scar 19). A final answer is always kept: there is one per exchange, and its size is limited where it is read.
"""

from __future__ import annotations

import asyncio
import enum
from collections import deque

#: Bytes that may wait for a reader before notifications are dropped.
BACKLOG_BYTES = 16 * 1024 * 1024


class Kind(enum.Enum):
    """What a message means to its stream."""

    ANSWER = "answer"  # ends a request
    QUESTION = "question"  # wants an answer of the client; any of its streams will do
    NOTE = "note"  # may be lost when the reader is slow


class StreamEnded(Exception):
    """Nothing more will come on this stream, or another reader has taken it over."""


class Stream:
    """A queue of messages with one reader at a time."""

    __slots__ = ("_bytes", "_queue", "_reader", "_waiter", "dropped", "ended")

    def __init__(self) -> None:
        self._queue: deque[tuple[bytes, Kind]] = deque()
        self._bytes = 0
        self._reader = 0
        self._waiter: asyncio.Future[None] | None = None
        self.ended = False
        self.dropped = 0

    def put(self, message: bytes, kind: Kind = Kind.ANSWER) -> None:
        """Add a message."""
        if self.ended:
            return
        self._queue.append((message, kind))
        self._bytes += len(message)
        if self._bytes > BACKLOG_BYTES:
            self._shed()
        self._wake()

    def end(self) -> None:
        """Nothing more will come; what waits can still be read."""
        self.ended = True
        self._wake()

    def take_over(self) -> int:
        """Become the reader: whoever read so far gets :class:`StreamEnded`. Return the token to read with."""
        self._reader += 1
        self._wake()
        return self._reader

    async def receive(self, reader: int = 0) -> bytes:
        """Return the next message. ``reader`` is the token of :meth:`take_over`, 0 for the first reader.

        Raises :class:`StreamEnded` when there is none and none will come, or when someone else has taken over.
        """
        message = await self.peek(reader)
        self._queue.popleft()
        self._bytes -= len(message)
        return message

    async def peek(self, reader: int = 0) -> bytes:
        """Return the next message and leave it where it is. Raises what :meth:`receive` raises."""
        while reader == self._reader:
            if self._queue:
                return self._queue[0][0]
            if self.ended:
                break
            self._waiter = waiter = asyncio.get_running_loop().create_future()
            await waiter
        raise StreamEnded

    async def first_within(self, seconds: float) -> bytes | None:
        """Return the first message and leave it where it is; None when ``seconds`` pass without any.

        For the first reader only. Cheaper than a timeout around :meth:`peek`, and on the way of every call.
        """
        if not self._queue and not self.ended:
            loop = asyncio.get_running_loop()
            self._waiter = waiter = loop.create_future()
            timer = loop.call_later(seconds, self._wake)
            try:
                await waiter
            finally:
                timer.cancel()
        return self._queue[0][0] if self._queue else None

    def is_read_by(self, reader: int) -> bool:
        """Whether nobody has taken over from this reader."""
        return reader == self._reader

    @property
    def waiting(self) -> list[tuple[bytes, Kind]]:
        """What has not been read."""
        return list(self._queue)

    def take_waiting(self) -> list[tuple[bytes, Kind]]:
        """Return and forget what has not been read."""
        waiting = self.waiting
        self._queue.clear()
        self._bytes = 0
        return waiting

    def _shed(self) -> None:
        kept: deque[tuple[bytes, Kind]] = deque()
        for message, kind in self._queue:
            if kind is Kind.NOTE and self._bytes > BACKLOG_BYTES:
                self._bytes -= len(message)
                self.dropped += 1
            else:
                kept.append((message, kind))
        self._queue = kept

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class RequestStream(Stream):
    """The stream that requests of a client opened. ``read`` is False once the client has lost it."""

    __slots__ = ("read",)

    def __init__(self) -> None:
        super().__init__()
        self.read = True
