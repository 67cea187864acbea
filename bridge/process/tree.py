"""Who descends from a child: its children's children, also those that left its process group or lost their parent."""

from __future__ import annotations

import contextlib
import os
import time

import psutil

#: Seconds between two looks at whether they have ended.
POLL = 0.01


#: A process that has gone, and /proc that cannot be read because all descriptors are in use: then what is known is
#: ended, and the child itself in any case.
_UNREADABLE = (psutil.Error, OSError)


class ProcessTree:
    """The living processes below a child, as far as they can be found.

    Made before the child is stopped, because afterwards nobody knows whose children its orphans were. Scanning the
    process table takes milliseconds: call these methods off the event loop.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._known: set[psutil.Process] = set()
        with contextlib.suppress(*_UNREADABLE):
            self._known.update(psutil.Process(pid).children(recursive=True))

    def refresh(self) -> bool:
        """Add what is in the child's group or below a known process by now; tell whether anything lives."""
        for process in list(self._known):
            with contextlib.suppress(*_UNREADABLE):
                self._known.update(process.children(recursive=True))
        with contextlib.suppress(*_UNREADABLE):
            for process in psutil.process_iter():
                with contextlib.suppress(OSError):
                    if process.pid != self.pid and os.getpgid(process.pid) == self.pid:
                        self._known.add(process)
        self._known = {process for process in self._known if _lives(process)}
        return bool(self._known)

    def signal(self, number: int) -> None:
        """Send a signal to all of them. psutil compares start times, so a reused process id is never hit."""
        for process in self._known:
            with contextlib.suppress(*_UNREADABLE):
                process.send_signal(number)

    def wait(self, seconds: float) -> None:
        """Wait until all have ended, at most ``seconds``. What only waits to be reaped has ended."""
        deadline = time.monotonic() + seconds
        while any(map(_lives, self._known)) and time.monotonic() < deadline:
            time.sleep(POLL)  # they are not our children, so that nothing tells of their ends


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
    except OSError:  # nobody knows
        return True
