"""One worker of ``serve --workers N``: what it is given by its parent, and how it tells that it is ready."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Callable
from socket import socket

from bridge.cluster.board import Workers, name_of
from bridge.cluster.hosting import VARIABLE, Place, place_from
from bridge.config.settings import Settings

#: What a worker says on its standard output when it takes requests.
READY = b"ready\n"


def place() -> Place | None:
    """Return the place of this process among workers; None when it is none. Asks once: children do not inherit it."""
    if os.environ.pop(VARIABLE, None) is None:
        return None
    return place_from(json.loads(sys.stdin.buffer.readline()))


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


def sockets_of(place: Place) -> list[socket]:
    """Return the sockets that all workers listen on. No child of ours gets them."""
    for descriptor in (*place.listening, place.board):
        os.set_inheritable(descriptor, False)
    return [socket(fileno=descriptor) for descriptor in place.listening]


def tell_ready(members: Workers) -> None:
    """Let the other workers see this one, and the parent know."""
    members.publish(0)
    members.listens()
    with contextlib.suppress(OSError):  # a parent that has gone is heard of elsewhere
        os.write(sys.stdout.fileno(), READY)


def follow_parent(loop: asyncio.AbstractEventLoop, on_end: Callable[[], None]) -> None:
    """Call ``on_end`` once the parent has ended."""

    def heard() -> None:
        if not os.read(sys.stdin.fileno(), 1024):
            loop.remove_reader(sys.stdin.fileno())
            on_end()

    loop.add_reader(sys.stdin.fileno(), heard)
