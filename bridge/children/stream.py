"""A response stream: messages on their way to one reader, bounded.

An exchange is one, and so is what a client reads by GET. Messages wait here in order; over the limit notifications are
dropped and counted, the oldest first, so a reader that stalls costs a fixed amount of memory and nobody else anything
(users' scar 19). A final answer is always kept: there is one per exchange, and its size is limited where it is read.
"""

from __future__ import annotations

import asyncio
import enum
import functools
from collections import deque
from collections.abc import Callable

from bridge.children.silence import Loop, SilenceWatch

#: Bytes that may wait for a reader before notifications are dropped.
BACKLOG_BYTES = 16 * 1024 * 1024
#: Bytes that are made room for at once: looking through all that waits for each message more would take for ever.
SHED_BYTES = BACKLOG_BYTES // 4
#: Bytes that are read together, where as many wait.
TOGETHER = 64 * 1024


class Kind(enum.Enum):
    """What a message means to its stream."""

    ANSWER = "answer"  # ends a request
    QUESTION = "question"  # wants an answer of the client; any of its streams will do
    NOTE = "note"  # may be lost when the reader is slow


class StreamEnded(Exception):
    """Nothing more will come on this stream, or another reader has taken it over."""


class Stream:
    """A queue of messages with one reader at a time."""

    # Defaults stand on the class, because each call makes a stream and changes few of them.
    _bytes = 0
    _room = BACKLOG_BYTES
    _reader = 0
    _waiter: Callable[[], None] | None = None
    ended = False
    dropped = 0

    def __init__(self) -> None:
        self._queue: deque[tuple[bytes, Kind]] = deque()

    def put(self, message: bytes, kind: Kind = Kind.ANSWER) -> None:
        """Add a message."""
        if self.ended:
            return
        self._queue.append((message, kind))
        self._bytes += len(message)
        if self._bytes > self._room:
            self._shed()
        if self._waiter is not None:
            self.wake()

    def wake(self) -> None:
        """Let the reader look again."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter()

    def call_back(self, callback: Callable[[], None] | None) -> None:
        """Call this once, instead of a reader that waits, when there is something to look at; None: nobody looks."""
        self._waiter = callback

    def end(self) -> None:
        """Nothing more will come; what waits can still be read."""
        self.ended = True
        if self._waiter is not None:
            self.wake()

    def take_over(self) -> int:
        """Become the reader: whoever read so far gets :class:`StreamEnded`. Return the token to read with."""
        self._reader += 1
        self.wake()
        return self._reader

    async def receive(self, reader: int = 0) -> bytes:
        """Return the next message. ``reader`` is the token of :meth:`take_over`, 0 for the first reader.

        Raises :class:`StreamEnded` when there is none and none will come, or when someone else has taken over.
        """
        while self._is_silent(reader):
            await self._change(asyncio.get_running_loop())
        return self._next(reader)

    async def receive_within(self, silence: SilenceWatch[Stream], reader: int = 0) -> list[bytes]:
        """Return what waits, ``TOGETHER`` bytes and one message at most; nothing when nothing comes in time.

        Raises what :meth:`receive` raises.
        """
        if self._is_silent(reader):
            silence.start(self)
            try:
                await self._change(silence.loop)
            finally:
                silence.end(self)
            if self._is_silent(reader):
                return []
        return self.take(reader)

    def take(self, reader: int = 0) -> list[bytes]:
        """Return what waits, ``TOGETHER`` bytes and one message at most.

        Raises :class:`StreamEnded` when nothing waits, or when someone else has taken over.
        """
        messages = [self._next(reader)]
        size = len(messages[0])
        while self._queue and size < TOGETHER:
            messages.append(self._next(reader))
            size += len(messages[-1])
        return messages

    async def first_within(self, silence: SilenceWatch[Stream]) -> tuple[bytes, Kind] | None:
        """Return the first message and leave it where it is; None when it does not come in time, or never will.

        For the first reader only.
        """
        if not self._queue and not self.ended:
            silence.start(self)
            try:
                await self._change(silence.loop)
            finally:
                silence.end(self)
        return self.next

    @property
    def next(self) -> tuple[bytes, Kind] | None:
        """The first message that has not been read, which stays where it is; None while there is none."""
        return self._queue[0] if self._queue else None

    @property
    def is_over(self) -> bool:
        """Whether there is nothing to read and never will be."""
        return self.ended and not self._queue

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
            if kind is Kind.NOTE and self._bytes > BACKLOG_BYTES - SHED_BYTES:
                self._bytes -= len(message)
                self.dropped += 1
            else:
                kept.append((message, kind))
        self._queue = kept
        # What may not be dropped can be more than the limit; it need not be looked through each time either.
        self._room = max(BACKLOG_BYTES, self._bytes + SHED_BYTES)

    def _is_silent(self, reader: int) -> bool:
        return reader == self._reader and not self._queue and not self.ended

    def _next(self, reader: int) -> bytes:
        if reader != self._reader or not self._queue:
            raise StreamEnded
        message, _ = self._queue.popleft()
        self._bytes -= len(message)
        return message

    def _change(self, loop: Loop) -> asyncio.Future[None]:
        """Done when there is something to look at."""
        change = loop.create_future()
        self._waiter = functools.partial(_done, change)
        return change


def _done(change: asyncio.Future[None]) -> None:
    if not change.done():
        change.set_result(None)


class RequestStream(Stream):
    """The stream that requests of a client opened. ``read`` is False once the client has lost it."""

    read = True
