"""One request on a child, from being asked to its answer, whoever gives that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from bridge.children.silence import SilenceWatch
from bridge.children.stream import Kind, RequestStream, Stream
from bridge.protocol import messages
from bridge.protocol.errors import BridgeError
from bridge.protocol.messages import Request


class Carrier(Protocol):
    """Whatever has sent an exchange to a child."""

    def cancel(self, exchange: Exchange, params: bytes = b"") -> None:
        """Tell the child that the client has cancelled it."""
        ...

    def abandon(self, exchange: Exchange, failure: BridgeError) -> None:
        """Cancel it on the child, forget it there, and end it with ``failure``."""
        ...


class Exchange(RequestStream):
    """One request on a child: a stream that ends with the answer.

    ``answer`` is the final message, ``failure`` is set when the bridge had to make it. ``on_end`` is called once,
    whoever ended it. With ``into``, its messages go on that stream instead of its own.
    """

    number = 0
    connection: Carrier | None = None
    answer = b""
    failure: BridgeError | None = None
    log_level: str | None = None  # what a modern request wants to hear of the child's log
    asker = ""  # digest of the principal that hears it
    is_cancelled = False  # whether its client has said that it wants no answer
    relay: Exchange | None = None  # the exchange that the child sees, where it is another one
    on_cancel: Callable[[], object] | None = None  # what to do while the child sees none at all
    watch: SilenceWatch[Exchange] | None = None
    greets = False  # whether it greets a child that may still have to be installed
    began = 0.0  # loop time, where it greets
    sent = 0.0  # perf_counter

    def __init__(
        self,
        request: Request,
        on_end: Callable[[Exchange], None] | None = None,
        into: RequestStream | None = None,
    ) -> None:
        Stream.__init__(self)  # super() would be made for each
        self.request = request
        self.on_end = on_end
        self.into = into

    @property
    def carrier(self) -> RequestStream:
        """The stream that is read for this exchange."""
        return self if self.into is None else self.into

    def put(self, message: bytes, kind: Kind = Kind.ANSWER) -> None:
        """Add a message, to the stream that is read for this exchange."""
        if self.into is None:
            Stream.put(self, message, kind)  # super() would be made for each
        else:
            self.into.put(message, kind)

    async def relay_to(self, other: Exchange) -> None:
        """Pass on what precedes the answer, and return when that has come."""
        other.relay = self
        while True:
            message = await self.receive()
            if message is self.answer:
                return
            other.put(message, Kind.NOTE)

    def before_end(self, callback: Callable[[Exchange], None]) -> None:
        """Call this at the end too, before what is to be called already."""
        then = self.on_end

        def both(exchange: Exchange) -> None:
            callback(exchange)
            if then is not None:
                then(exchange)

        self.on_end = both

    def finish(self, message: bytes) -> None:
        """End with this answer; a second one is ignored."""
        if self.ended:
            return
        self.answer = message
        self.put(message)
        self.end()
        if self.watch is not None:
            self.watch.end(self)
        if self.on_end is not None:
            self.on_end(self)

    def fail(self, failure: BridgeError) -> None:
        """End with an error of the bridge."""
        if not self.ended:
            self.failure = failure
            self.finish(messages.error_line(self.request.id, failure.fault.code, str(failure), failure.data))

    def cancel(self, params: bytes = b"") -> None:
        """Pass a client's cancellation on. It stays open: the child may still answer, and often does."""
        self.is_cancelled = True
        if self.on_cancel is not None:
            self.on_cancel()
        elif self.relay is not None:
            self.relay.cancel(params)
        elif self.connection is not None:
            self.connection.cancel(self, params)

    def abandon(self, failure: BridgeError) -> None:
        """Cancel it on the child, forget it there, and end it with ``failure``."""
        if self.relay is not None:
            self.relay.abandon(failure)
        if self.connection is not None:
            self.connection.abandon(self, failure)
        else:
            self.fail(failure)
