"""The rest of a large body, received in place.

A connection gets what comes in pieces, each a copy of what the system has handed over, and joins them to one body: two
copies of every byte. Where a body ends is known once its head has been read. So what is still to come of a large one is
read into the memory that it is used from, by a protocol that stands in for that of the connection until it is whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

#: Bytes that are still to come from which it is worth it: about what one reading from a socket brings.
MANY = 128 * 1024
#: Bytes that must have come before: no memory for a body of which there is nothing but its length.
BEGUN = 32 * 1024
#: So many times what has come there is room for, where the body has more.
GROWTH = 4


class Rest(asyncio.BufferedProtocol):
    """Takes the ``missing`` bytes of a body that has ``begun``; ``on_whole`` is called with all of it.

    ``usual`` is the protocol of the connection, and hears all else that happens to it. It stands in for it at
    ``transport``, until :meth:`leave`.
    """

    def __init__(
        self,
        usual: asyncio.Protocol,
        transport: asyncio.Transport,
        begun: Sequence[memoryview],
        missing: int,
        on_whole: Callable[[bytearray], None],
    ) -> None:
        self._usual = usual
        self._transport = transport
        self._first = self._come = sum(map(len, begun))
        self._length = self._come + missing
        self._on_whole = on_whole
        self._body, self._view = self._more_room(begun)
        transport.set_protocol(self)

    def leave(self) -> memoryview:
        """Return what has come of the rest, and hold nothing any more: a loop may keep who has received for it."""
        self._transport.set_protocol(self._usual)
        found = self._view[self._first : self._come]
        self._body, self._view = bytearray(), memoryview(b"")
        return found

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes belong: never more than the body has."""
        if self._come == len(self._body):
            self._body, self._view = self._more_room([self._view])
        return self._view[self._come :]

    def buffer_updated(self, nbytes: int) -> None:
        """So many have come."""
        self._come += nbytes
        if self._come == self._length:
            self._on_whole(self._body)

    def _more_room(self, come: Sequence[memoryview]) -> tuple[bytearray, memoryview]:
        """Return memory to go on in, with what has come."""
        body = bytearray(min(self._length, max(GROWTH * self._come, BEGUN)))
        view = memoryview(body)
        at = 0
        for piece in come:
            view[at : at + len(piece)] = piece
            at += len(piece)
        return body, view

    def eof_received(self) -> bool | None:
        """The client says no more."""
        return self._usual.eof_received()

    def pause_writing(self) -> None:
        """The client does not read."""
        self._usual.pause_writing()

    def resume_writing(self) -> None:
        """It does again."""
        self._usual.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self._usual.connection_lost(exc)
