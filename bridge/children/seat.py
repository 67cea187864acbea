"""How one client reaches its server, whatever it sits on: a child of its own, one that many hold, one per request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from bridge.children.exchange import Exchange
from bridge.protocol.messages import Response
from bridge.protocol.mux import Undirected

Listener = Callable[[Undirected], None]


class Seat(Protocol):
    """What a client needs of its server. ``on_closed`` is called once when the child it depends on has ended."""

    on_closed: Callable[[], None]

    @property
    def greeting(self) -> bytes:
        """InitializeResult that the bridge was given; empty where the client greets."""
        ...

    @property
    def pid(self) -> int | None:
        """Process id of the child, None while it has none."""
        ...

    @property
    def frees(self) -> bool:
        """Whether its release ends a child."""
        ...

    @property
    def obituary(self) -> str:
        """How the child ended."""
        ...

    @property
    def closed(self) -> bool:
        """Whether the child it depends on has ended."""
        ...

    def listen(self, listener: Listener) -> None:
        """Hear what the child says outside of any request of ours."""
        ...

    async def send(self, exchange: Exchange, silence: float | None) -> None:
        """Send a request. Raises what :meth:`ChildConnection.exchange` and :meth:`ChildPool.lease` raise."""
        ...

    def send_now(self, exchange: Exchange, silence: float | None) -> bool:
        """Do the same where nothing has to be waited for, else nothing and return False."""
        ...

    def introduce(self, params: bytes) -> None:
        """The client's ``initialize`` params, where the bridge answers that for it."""
        ...

    def greeted(self) -> None:
        """The client's own ``initialize`` was accepted."""
        ...

    def tell(self, line: bytes) -> None:
        """Send a notification."""
        ...

    def answer(self, response: Response) -> bool:
        """Hand an answer to a question of the child to it; False when it did not ask that."""
        ...

    def refuse(self, question: int, why: str) -> None:
        """Answer a question of the child with an error."""
        ...

    def release(self) -> None:
        """Give back what is held."""
        ...

    async def gone(self) -> None:
        """Wait for the end of the child, if the release has made one."""
        ...


class EmptySeat:
    """What is so of each seat that holds no child."""

    @property
    def pid(self) -> int | None:
        """It has no process."""
        return None

    @property
    def frees(self) -> bool:
        """It holds none."""
        return False

    @property
    def closed(self) -> bool:
        """It depends on none."""
        return False
