"""Workers whose event loop does not turn any more: they are killed, so that others take their place."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from bridge.cluster.board import Board, name_of

log = logging.getLogger(__name__)

#: Seconds without a sign of life after which a worker is killed, and between two looks.
HUNG, LOOK = 60.0, 5.0


class Process(Protocol):
    """A worker, as far as it matters here."""

    def kill(self) -> None:
        """End it at once."""
        ...


async def end_the_hung(
    board: Board,
    processes: Mapping[int, Process],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Look for ever at which of these workers, by their numbers, still say something; kill those that do not."""
    seen: dict[int, tuple[int, float]] = {}
    while True:
        await sleep(LOOK)
        now = clock()
        for index, process in list(processes.items()):
            beats = board.beats(index)
            if seen.get(index, (-1, now))[0] != beats or not board.epoch(index):
                seen[index] = beats, now
            elif now - seen[index][1] >= HUNG:
                log.error("worker %s gives no sign of life for %g s and is killed", name_of(index), HUNG)
                process.kill()
                del seen[index]  # killed once: it may take its time to end
