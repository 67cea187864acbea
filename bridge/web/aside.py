"""Requests that are answered without a task (:mod:`bridge.web.direct`).

For aiohttp such a request is one that it has put aside and not been told of yet. One with the same head as another
before it is not even given to aiohttp (:mod:`bridge.web.heads`). Where a task is wanted after all it is given and told.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Coroutine, Iterable
from typing import Any

from aiohttp import StreamReader, web
from aiohttp.http import HttpRequestParser, RawRequestMessage

from bridge.web.heads import UNKNOWN, Head, is_plain, rest_of
from bridge.web.partial import Partial, Whole
from bridge.web.waiting import Body, Direct, Waiting

#: Seconds for which a connection is kept between two requests: longer than proxies keep theirs (the longest known to
#: us does so for ten minutes), because a request that crosses with the end of its connection is lost.
KEEP_ALIVE = 630.0


class Waits(enum.Enum):
    """What a connection waits for."""

    HEAD = "head"  # the end of a head: no request has come yet, or some of the next one has
    LATE = "late"  # the same, and it did so at the last look
    BODY = "body"  # the rest of a body that is put aside until it is whole
    ANSWER = "answer"  # the bridge; or the rest of a body that the bridge did not want
    NOTHING = "nothing"  # idle: the only one that may last


# Each request looks three of them up, which costs a global 50 ns less than a class in Python 3.11.
_HEAD, _LATE, _BODY, _ANSWER, _NOTHING = Waits

#: Whether aiohttp's parser is told of each request that has been taken: not yet in 3.14.0.
_COUNTS = hasattr(HttpRequestParser, "message_consumed")


class Directed(web.Server):
    """A server whose connections ask ``direct`` for each request."""

    direct: Direct


# Not super(), which makes an object for each call of a function that each request calls three times.
_data_received = web.RequestHandler.data_received
_finish_response = web.RequestHandler.finish_response


class Aside(web.RequestHandler):
    """A connection whose requests may be put aside. ``waits`` is what it waits for, ``waiting`` the request that is
    answered without a task.

    A request that was put aside is either given to aiohttp, and then the first of its messages, or it is kept: one with
    a known head, of which nothing is given before it is known to need a task.
    """

    __slots__ = (
        "_early",
        "_head",
        "_idle",
        "_left",
        "_partial",
        "_peer",
        "_server",
        "waiting",
        "waits",
    )

    def __init__(self, server: Directed, **options: Any) -> None:
        super().__init__(server, **options)
        self.waits = _HEAD
        self.waiting: Waiting | None = None
        self._server = server
        self._idle: asyncio.Future[None] | None = None  # what aiohttp waits for while a request is put aside
        self._partial = Partial()
        self._early = b""  # what has come while nobody waited yet, for one turn of the loop
        self._head: Head | None = None  # that of the last request that was given to aiohttp, where it may come again
        self._left = 0  # bytes of that request that are still to come, or UNKNOWN
        self._peer: str | None = None

    def peer(self) -> str:
        """Return the address that it comes from, as requests have it."""
        if self._peer is None:
            found = None if self.transport is None else self.transport.get_extra_info("peername")
            self._peer = str((found[0] if isinstance(found, list | tuple) else found) or "")
        return self._peer

    def data_received(self, data: bytes) -> None:
        """Take what has come; on an idle connection a request begins."""
        idle = self._waiter
        if self._partial.missing:
            self._take_more(data)
        elif idle is not None and not idle.done():
            self._take(data, idle)
        elif self._early or (idle is None and self.waits is _NOTHING and self._server.direct.may_begin(data)):
            # The answer before it is out, and its client was faster than the task that waits for the next request.
            if not self._early:
                self._loop.call_soon(self._take_early)
            self._early += data
        else:
            self._give_partial()
            self._give(data)

    def _take_early(self) -> None:
        """Take what came in the turn before this."""
        early, self._early = self._early, b""
        idle = self._waiter
        if idle is not None and not idle.done():
            self._take(early, idle)
        else:
            self._give_partial()
            self._give(early)

    def resume_reading(self, *args: Any, **options: Any) -> None:
        """Go on reading. aiohttp does so whenever a body has been read, and looks for more to parse each time."""
        if self._reading_paused:
            super().resume_reading(*args, **options)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client has gone."""
        waiting, self.waiting = self.waiting, None
        super().connection_lost(exc)
        self._partial.forget()
        if waiting is not None:
            waiting.lost()

    def close(self) -> None:
        """Take no more requests, nor the rest of one that is coming."""
        if self._partial.missing:
            assert self._idle is not None
            self._idle.cancel()
        else:
            self._give_partial()  # before aiohttp takes nothing any more
        super().close()

    def put_back(self, body: bytes | bytearray) -> None:
        """The body of the request that has come was read, and is to be read again."""
        if self._partial.pieces:
            return
        message, content = self._messages[0]
        content = StreamReader(self, len(body), loop=self._loop)
        content.feed_data(bytes(body))
        content.feed_eof()
        self._messages[0] = message, content

    def send(self, pieces: Iterable[bytes]) -> None:
        """Send some of the answer of the request that was put aside."""
        transport = self.transport
        if transport is not None and not transport.is_closing():
            for piece in pieces:
                transport.write(piece)

    def answer(self, pieces: Iterable[bytes]) -> None:
        """Send the rest of the answer of the request that was put aside, and let the next one come."""
        self.send(pieces)
        self.waiting = None
        if self._partial.pieces:
            self._partial.pieces.clear()
        else:
            self._messages.popleft()
            if _COUNTS and self._parser is not None:
                self._parser.message_consumed()
        self._wait_for_the_next()

    def go_on(self) -> None:
        """Let aiohttp make a task for the request that was put aside, to answer what is not answered of it yet."""
        idle, self._idle = self._idle, None
        assert idle is not None
        self._partial.missing = 0
        self.waits = _ANSWER
        self._waiter = idle
        self._give_partial()
        if self._messages:
            _tell(idle)
        else:  # it is being closed
            idle.cancel()

    def _take(self, data: bytes, idle: asyncio.Future[None]) -> None:
        """Put the request aside that begins, so that aiohttp is not told of it before it is known to need a task."""
        if self.waits is _NOTHING:
            self.waits = _HEAD
        self._waiter = None
        if self._take_known(data, idle) or self._take_new(data, idle):
            return
        self._waiter = idle
        if self._messages:
            _tell(idle)

    def _take_known(self, data: bytes, idle: asyncio.Future[None]) -> bool:
        """Keep a request with a known head until it is whole, and have it answered; False where it is for aiohttp."""
        head = self._head
        found = None if head is None or self._left else head.begins(data)
        if head is None or found is None:
            return False
        start, length = found
        missing = start + length - len(data)
        direct = self._server.direct
        if missing < 0 or length > direct.most or (missing and not direct.lets_in(self, head.message)):
            return False
        partial = self._partial
        partial.pieces.append(data)
        if missing:
            self._idle, partial.missing = idle, missing
            self.waits = _BODY
            self._receive_in_place(head)
        elif not self._begin(head.message, Whole(data[start:]), idle):
            partial.pieces.clear()
            return False
        return True

    def _take_more(self, data: bytes) -> None:
        """The rest of a request that is kept, or some of it."""
        if self._close or self._force_close:
            return
        partial, head = self._partial, self._head
        assert head is not None
        partial.take(data)
        if partial.missing < 0:
            self.go_on()
        elif not partial.missing:
            self._is_whole(partial.body(head))
        else:
            self._receive_in_place(head)

    def _receive_in_place(self, head: Head) -> None:
        assert self.transport is not None
        self._partial.receive_in_place(head, self, self.transport, self._is_whole)

    def _is_whole(self, body: bytes | bytearray) -> None:
        """The last of what is kept has come."""
        if self._close or self._force_close:
            self._partial.forget()
            return
        head, idle = self._head, self._idle
        assert head is not None
        assert idle is not None
        self._partial.missing = 0
        if not self._begin(head.message, Whole(body), idle):
            self.go_on()

    def _take_new(self, data: bytes, idle: asyncio.Future[None]) -> bool:
        """Have aiohttp read the request, and have it answered; False where it needs a task."""
        self._give(data)
        if not self._messages:
            return False
        message, content = self._messages[0]
        if not isinstance(message, RawRequestMessage) or not is_plain(message) or not content.is_eof():
            return False  # an error, for one
        return self._begin(message, content, idle)

    def _begin(self, message: RawRequestMessage, body: Body, idle: asyncio.Future[None]) -> bool:
        if self.writing_paused:  # its answer would have to wait
            return False
        waiting = self._server.direct.begin(self, message, body)
        if waiting is None:
            return False
        if self._partial.pieces:
            assert self._head is not None
            self._partial.drop_body(self._head)
        self.waiting = waiting
        self.waits = _ANSWER
        self._idle = idle
        waiting.begin()
        return True

    def _give(self, data: bytes) -> None:
        """Let aiohttp read, and follow where a request ends."""
        left = self._left
        _data_received(self, data)
        if not data:  # aiohttp goes on with what it has
            return
        if left > 0:
            self._left = max(left - len(data), UNKNOWN)
        elif not left:
            message = self._messages[0][0] if len(self._messages) == 1 else None
            self._left = rest_of(data, message)
            if isinstance(message, RawRequestMessage) and self._left != UNKNOWN:
                self._head = Head.of(data, message)
        if self._left == UNKNOWN:
            self._head = None  # which would mean nothing any more

    def _give_partial(self) -> None:
        if self._partial.pieces:
            for data in self._partial.take_out():
                self._give(data)

    def _wait_for_the_next(self) -> None:
        """What aiohttp does behind each request."""
        idle, self._idle = self._idle, None
        assert idle is not None
        if self._close or self._force_close:
            idle.cancel()
            self.force_close()
            return
        self._waiter = idle
        self._next_keepalive_close_time = close_time = self._loop.time() + KEEP_ALIVE
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(close_time, self._process_keepalive)
        if self._messages:
            _tell(idle)
        else:
            self.waits = _NOTHING

    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        """Send what the handler has returned, or what became of what it has raised."""
        # What comes of a body that nobody has read is no head of the next request.
        self.waits = _NOTHING if request.content.is_eof() else _ANSWER
        return _finish_response(self, request, resp, start_time)


def _tell(idle: asyncio.Future[None]) -> None:
    """Let aiohttp take the request that has come."""
    if not idle.done():
        idle.set_result(None)
