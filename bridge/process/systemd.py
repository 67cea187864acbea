"""What systemd wants to hear (``sd_notify``): that the bridge is ready, still turns, and stops.

One datagram per message to the socket in ``NOTIFY_SOCKET``; without one there is nobody to tell, and nothing is done.
Source: systemd's manual, sd_notify(3) and sd_watchdog_enabled(3).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping


class Notifier:
    """Tells the manager that started this process. ``environ`` says where it listens, and how often it wants a sign."""

    def __init__(self, environ: Mapping[str, str], pid: int | None = None) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # A name that begins with @ is abstract: its first byte is zero.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.is_silent = False  # another process speaks now
        self.interval = _interval(environ, os.getpid() if pid is None else pid)

    @property
    def is_heard(self) -> bool:
        """Whether there is anybody to tell."""
        return bool(self._address)

    def say(self, *lines: str, patience: float = 1.0) -> bool:
        """Send one message; False where nobody listens, or nobody has read what came before for ``patience`` seconds,
        in which the event loop stands still.
        """
        if not self._address or self.is_silent:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(patience)
                sender.connect(self._address)
                sender.sendall("\n".join(lines).encode())
        except OSError:
            return False
        return True

    async def keep_watched(self) -> None:
        """Give a sign of life in time, until cancelled. It comes from the event loop, so one that hangs gives none."""
        while self.interval is not None:
            self.say("WATCHDOG=1", patience=0)  # there is another one soon
            await asyncio.sleep(self.interval)


def _interval(environ: Mapping[str, str], pid: int) -> float | None:
    """Seconds between two signs of life: half of what the manager waits. None when it does not wait for any."""
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    try:
        limit = int(environ["WATCHDOG_USEC"]) / 1_000_000
    except (KeyError, ValueError):
        return None
    return limit / 2 if limit > 0 else None
