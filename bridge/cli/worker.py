"""One worker of ``serve --workers N``: what it is given by its parent, and how it tells that it is ready."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Sequence
from socket import socket
from typing import Any

from bridge.aio.first import any_of
from bridge.cli.inherited import given
from bridge.cluster.board import Workers, name_of
from bridge.cluster.hosting import VARIABLE, Place, place_from
from bridge.cluster.side import Between, Side
from bridge.config.settings import Settings
from bridge.protocol.errors import Fault, Rejection
from bridge.web.app import Service

#: What a worker says on its standard output: that it is ready, that it has done what it was told, that a client asks
#: for a drain, and what begins the lines by which it asks for a restart, and says which servers are stopped.
READY, DONE, DRAIN, RESTART, STOPPED = b"ready\n", b"done\n", b"drain\n", b"restart ", b"stopped "


def place() -> Place | None:
    """Return the place of this process among workers; None when it is none. Raises what :func:`given` raises."""
    members = given(VARIABLE)
    if members is None:
        return None
    found = place_from(members)
    for descriptor in (*found.listening, found.board):  # no child of ours gets them
        os.set_inheritable(descriptor, False)
    return found


def own_share(settings: Settings, index: int, workers: int) -> Settings:
    """Return the settings of one worker: limits of the whole divided, and a place of its own for what one process may
    write only.
    """
    node = name_of(index)
    return dataclasses.replace(
        settings,
        session_dir=settings.session_dir / node,
        redis_prefix=f"{settings.redis_prefix}{node}:",
        pins_file=settings.pins_path,
        max_sessions=-(-settings.max_sessions // workers),
        max_children=-(-settings.max_children // workers),
    )


def sockets_of(descriptors: Sequence[int]) -> list[socket]:
    """Return the sockets that were handed to this process as descriptors."""
    return [socket(fileno=descriptor) for descriptor in descriptors]


async def obey_parent(
    service: Service, place: Place, members: Workers, stop: asyncio.Event, on_end: Callable[[], None]
) -> None:
    """Let the other workers see this one and the parent know, do what that says from now on, and return when this one
    listens, or is to ``stop``. ``on_end`` is called once the parent has ended.
    """
    line = ParentLine(service, place, members, on_end)
    service.on_restart = line.restart
    service.on_drain = line.drain
    if place.other is not None and not place.waits:
        await service.listen(sockets_of(place.listening))
    line.follow()
    members.publish(0)
    members.listens()
    await service.keep_stopped()
    say(READY)
    if place.waits:
        await any_of(line.may_listen.wait(), stop.wait())


class ParentLine:
    """What the parent says to a worker on its standard input, one JSON object a line, and what that answers."""

    def __init__(self, service: Service, place: Place, members: Workers, on_end: Callable[[], None]) -> None:
        self._service = service
        self._place = place
        self._members = members
        self._on_end = on_end
        self._rest = b""
        self._registry = service.core.registry
        self._stopped: Sequence[str] = self._registry.stopped
        self._tasks: set[asyncio.Task[None]] = set()
        self._asked: asyncio.Future[dict[str, Any]] | None = None
        self.may_listen = asyncio.Event()

    def follow(self) -> None:
        """Hear what it says, and let it know what it has to tell to the next worker."""
        self._registry.on_change.append(self._changed)
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self._heard)

    def _changed(self, *_: object) -> None:
        if (stopped := self._registry.stopped) != self._stopped:
            self._stopped = stopped
            say(STOPPED + json.dumps(stopped).encode() + b"\n")

    def drain(self) -> None:
        """Drain this worker, and let the parent know: none that starts now or later is to take a new session."""
        say(DRAIN)
        self._service.drain()

    async def restart(self, patience: float) -> dict[str, Any]:
        """Have the parent restart the bridge; return what to tell. Raises :class:`Rejection`."""
        if self._asked is not None:
            raise Rejection(Fault.CONFLICT, "a restart is under way")
        self._asked = asyncio.get_running_loop().create_future()
        say(b"%b%g\n" % (RESTART, patience))
        try:
            found = await self._asked
        finally:
            self._asked = None
        if "refused" in found:
            raise Rejection(Fault[found["fault"]], found["refused"])
        return found

    def _heard(self) -> None:
        data = os.read(sys.stdin.fileno(), 65536)
        if not data:
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            self._on_end()
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            task = asyncio.create_task(self._obey(**json.loads(line)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _obey(self, do: str, **words: Any) -> None:
        if do == "listen":
            await self._registry.keep_stopped(words["stopped"])
            await self._service.listen(sockets_of(self._place.listening))
            self.may_listen.set()
        elif do == "give way":
            place = Between(self._place.node(self._members), self._place.side, Side(**words["other"]))
            await self._service.handover.give_way(place, words["patience"])
        elif do == "come back":
            await self._service.handover.come_back()
        elif do == "drain":
            self._service.drain()
        elif do == "tell" and self._asked is not None and not self._asked.done():
            self._asked.set_result(words["found"])
        if do not in ("tell", "drain"):  # for which nobody waits
            say(DONE)


def say(line: bytes) -> None:
    """Say something to the parent; one that has gone is heard of elsewhere."""
    with contextlib.suppress(OSError):
        os.write(sys.stdout.fileno(), line)
