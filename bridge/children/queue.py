"""Who waits for a child of a pool to come back, the longest first.

A child is handed over to one who waits: nobody who comes later can take it meanwhile, and nobody waits longer than
everyone does. When no start is allowed for now, all that wait learn that, because nothing else would wake them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from bridge.children.child import Child
from bridge.children.policy import Sharing
from bridge.protocol.errors import AtCapacity, ChildUnavailable

Waiter = asyncio.Future[Child]


class LeaseQueue:
    """The callers that wait for a child.

    ``hold`` makes them holders of one, or raises :class:`ChildUnavailable`; ``waits`` says whether that is a reason to
    wait on; ``give_back`` takes a child from somebody who has gone meanwhile; ``make_room`` ends a child that nobody
    uses, for the principal that it is told, and says whether there was one.
    """

    def __init__(
        self,
        hold: Callable[[Sharing], Child],
        waits: Callable[[Sharing, ChildUnavailable], bool],
        give_back: Callable[[Child], None],
        make_room: Callable[[AtCapacity, str], Awaitable[bool]],
    ) -> None:
        self._hold = hold
        self._waits = waits
        self._give_back = give_back
        self._make_room = make_room
        self._waiting: dict[Sharing, deque[Waiter]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    async def child(self, sharing: Sharing, patience: float, asker: str) -> Child:
        """Return a child that is held, at once if there is one and nobody else waits, within ``patience`` seconds.

        ``asker`` is the digest of the principal that wants it: its own idle children make room first.

        Raises :class:`TimeoutError`, and what ``hold`` raises when waiting is of no use.
        """
        while sharing not in self._waiting:
            try:
                return self._hold(sharing)
            except AtCapacity as full:
                if await self._make_room(full, asker):
                    continue  # somebody else may have been faster
                if not self._waits(sharing, full):
                    raise
            except ChildUnavailable as why:
                if not self._waits(sharing, why):
                    raise
            break
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(sharing, deque()).append(waiter)
        self.serve()  # there may be room again of which nobody was told, left by children of another server
        try:
            async with asyncio.timeout(patience):
                return await waiter
        except BaseException:
            if waiter.cancelled():
                self._forget(sharing, waiter)
            elif waiter.done() and waiter.exception() is None:
                self._give_back(waiter.result())  # it came at the moment when the caller gave up
            raise

    def serve(self) -> None:
        """Give what there is now to those who wait."""
        for sharing in list(self._waiting):
            for waiter in list(self._waiting[sharing]):
                if waiter.done():
                    continue  # its caller has given up, and is about to say so
                try:
                    child = self._hold(sharing)
                except ChildUnavailable as why:
                    if self._waits(sharing, why):
                        break
                    waiter.set_exception(why)
                else:
                    waiter.set_result(child)
                self._forget(sharing, waiter)

    def _forget(self, sharing: Sharing, waiter: Waiter) -> None:
        self._waiting[sharing].remove(waiter)
        if not self._waiting[sharing]:
            del self._waiting[sharing]
