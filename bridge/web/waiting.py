"""Requests that are answered without a task: what their connection and whoever answers them know of each other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from aiohttp import web
from aiohttp.http import RawRequestMessage


class Asker(Protocol):
    """A connection that has put a request aside."""

    @property
    def writing_paused(self) -> bool:
        """Whether its client does not read what it was sent."""
        ...

    def peer(self) -> str:
        """Return the address that it comes from."""
        ...

    def put_back(self, body: bytes | bytearray) -> None:
        """The body of the request was read, and is to be read again."""
        ...

    def send(self, pieces: Iterable[bytes]) -> None:
        """Send some of the answer."""
        ...

    def answer(self, pieces: Iterable[bytes]) -> None:
        """Send the rest of the answer."""
        ...

    def go_on(self) -> None:
        """Have what is not answered yet answered in a task."""
        ...


class Waiting(Protocol):
    """A request that is answered without a task: by :meth:`Asker.send` as often as it wants, and then either by
    :meth:`Asker.answer`, or in a task by :meth:`Asker.go_on`.
    """

    def begin(self) -> None:
        """The connection waits for it now."""
        ...

    def lost(self) -> None:
        """The connection has ended before it was answered."""
        ...

    async def rest(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer the rest of it in a task, after :meth:`Asker.go_on`."""
        ...


class Body(Protocol):
    """The body of a request, which has come as a whole, of ``total_bytes``."""

    total_bytes: int

    def read_nowait(self) -> bytes | bytearray:
        """Return it, once."""
        ...


class Direct(Protocol):
    """Answers requests without a task. ``most`` is the size in bytes of a body that such a request may have."""

    most: int

    def begin(self, connection: Asker, message: RawRequestMessage, body: Body) -> Waiting | None:
        """Begin to answer; None where that cannot be, and then the body is put back if it was read."""
        ...

    def may_begin(self, data: bytes) -> bool:
        """Whether what begins like this may be such a request: a guess, for which nothing is read."""
        ...

    def lets_in(self, connection: Asker, message: RawRequestMessage) -> bool:
        """Whether a request with this head may be kept until its body has come: no memory is for strangers."""
        ...


class Never:
    """No request is answered without a task."""

    most = 0

    def begin(self, *_: object) -> None:
        """Return None."""

    def may_begin(self, *_: object) -> bool:
        """Return False."""
        return False

    def lets_in(self, *_: object) -> bool:
        """Return False."""
        return False


NEVER: Direct = Never()
