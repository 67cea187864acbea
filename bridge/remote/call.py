"""One request on its way to a remote server and back, and what the dialects of HTTP do with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from bridge.protocol.framing import Oversized
from bridge.protocol.messages import Request, Response


@dataclass(eq=False, slots=True)
class Call:
    """A request and its line. ``on_sent`` is called once, when it is on the wire or never will be."""

    request: Request
    line: bytes
    on_sent: Callable[[Call], None]
    sent: asyncio.Event = field(default_factory=asyncio.Event)
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    answer: Response | None = None  # None too for an answer that was too long to be read
    waits: bool = True  # for its turn
    task: asyncio.Task[None] | None = None
    give_up_at: asyncio.TimerHandle | None = None

    @property
    def id(self) -> bytes:
        """Its id on the wire."""
        return self.request.id

    def went_out(self) -> None:
        """It is on the wire, or never will be."""
        if not self.sent.is_set():
            self.sent.set()
            self.on_sent(self)


#: Takes what the server says; the call names the request on whose response it came.
Hear = Callable[[bytes | Oversized, Call | None], None]


class Wire(Protocol):
    """How lines reach a remote server. ``hangs_up``: a request is cancelled by closing its connection."""

    hangs_up: bool

    async def call(self, call: Call) -> None:
        """Send a request and return when it is answered.

        Raises :class:`bridge.remote.http.HttpFailure` when it will not be, and
        :class:`bridge.remote.http.Gone`.
        """
        ...

    async def tell(self, line: bytes) -> None:
        """Send what wants no answer, and return when it was accepted. Raises what :meth:`call` raises."""
        ...

    async def listen(self) -> None:
        """Hear what belongs to no request, after the handshake; returns when there is nothing (more) to hear."""
        ...

    async def leave(self) -> None:
        """Tell the server that the session ends."""
        ...
