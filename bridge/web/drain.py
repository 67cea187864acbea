"""The way out: no new work, and time for the calls that run (``SHUTDOWN_TIMEOUT_MS``).

Only requests are work. A notification, or the answer to a question of the child, is part of a call that already runs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from bridge.protocol.errors import Fault, Rejection

#: Seconds between two looks at whether the last session has ended.
DRAIN_LOOK = 0.25


class Drain:
    """Counts running calls: ``with drain:`` is one. After :meth:`begin` it lets no new one in."""

    def __init__(self) -> None:
        self.admits = True  # new sessions
        self.hands_over = False  # its sessions to others, and new ones too
        self.running = 0
        self._quiet = asyncio.Event()
        self.begun = False

    def __enter__(self) -> None:
        """Count a call. Raises :class:`Rejection` (503) once draining has begun."""
        if self.begun:
            self.check()
        self.running += 1

    def __exit__(self, *_: object) -> None:
        self.running -= 1
        if self.begun and self.running == 0:
            self._quiet.set()

    @contextlib.contextmanager
    def passing(self) -> Iterator[None]:
        """Count a call that another bridge answers, and that may begin here as long as there is a connection."""
        self.running += 1
        try:
            yield
        finally:
            self.__exit__()

    @property
    def is_ready(self) -> bool:
        """Whether new work should be sent here."""
        return self.admits and not self.begun and not self.hands_over

    def check(self) -> None:
        """Raise :class:`Rejection` (503) once draining has begun."""
        if self.begun:
            raise Rejection(Fault.UNAVAILABLE, "the bridge is shutting down", retry_in=5)

    def check_new_session(self) -> None:
        """Raise :class:`Rejection` (503) where only what is open already may go on."""
        self.check()
        if not self.admits:
            raise Rejection(Fault.UNAVAILABLE, "the bridge is being drained: it takes no new sessions", retry_in=30)

    def begin(self) -> int:
        """Refuse new work from now on; return how many calls still run."""
        self.begun = True
        if self.running == 0:
            self._quiet.set()
        return self.running

    async def wait(self, seconds: float) -> int:
        """Wait until no call runs, at most ``seconds``; return how many still do."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._quiet.wait()
        return self.running
