"""A bridge without workers, as far as :mod:`bridge.cli.restarting` has to know it."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Callable, Sequence

from bridge.cluster.hosting import Inheritance, new_key
from bridge.cluster.side import Between, Side, lone
from bridge.web.app import Service
from bridge.web.listening import private_directory


class Alone:
    """The whole bridge in this process. ``end`` ends it; it is told why."""

    def __init__(self, service: Service, end: Callable[[str], object]) -> None:
        self._service = service
        self.end = end

    @property
    def sockets(self) -> Sequence[socket.socket]:
        """Those of the port."""
        return self._service.port.sockets

    @property
    def stopped(self) -> Sequence[str]:
        """The servers that an operator has stopped."""
        return self._service.core.registry.stopped

    async def is_busy(self) -> bool:
        """Whether the bridge before this one still lives."""
        return not await self._service.handover.is_alone()

    def side(self) -> Side:
        """Make what the other one needs to reach this one."""
        return new_side()

    def discard(self, own: Side) -> None:
        """Nobody came who would have used it."""
        shutil.rmtree(own.directory, ignore_errors=True)

    async def give_way(self, own: Side, other: Side, patience: float) -> None:
        """Leave what comes to the other one."""
        await self._service.handover.give_way(_between(own, other), patience)

    async def come_back(self) -> None:
        """Take it again: the other one has died."""
        await self._service.handover.come_back()


def place_of(inherited: Inheritance | None) -> Between | None:
    """Return the place of a bridge without workers that takes over from another; None where there is no other."""
    return None if inherited is None else _between(new_side(), inherited.other)


def new_side() -> Side:
    """Return a side that nobody knows yet."""
    return Side(str(private_directory()), new_key())


def _between(own: Side, other: Side) -> Between:
    return Between(lone(own, time.time_ns() // 1_000_000), own, other)
