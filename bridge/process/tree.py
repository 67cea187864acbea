"""Who descends from a child: its children's children, also those that left its process group or lost their parent.

Most servers start nothing, and the kernel can say so in microseconds: it keeps a list of children per thread, and can
tell whether a group has anyone in it. Only where it does not, or where there is somebody, all processes are looked at.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

import psutil

from bridge.process.foreign.watchdog import left_behind

#: Seconds between two looks at whether they have ended.
POLL = 0.01


#: A process that has gone, and /proc that cannot be read because all descriptors are in use: then what is known is
#: ended, and the child itself in any case.
_UNREADABLE = (psutil.Error, OSError)


#: Signal a process group by a descriptor of its leader (``PIDFD_SIGNAL_PROCESS_GROUP``, Linux 6.9).
_TO_GROUP = 4


def may_have_children(pid: int) -> bool:
    """Whether a process has children, as far as the kernel tells; True where it does not (``CONFIG_PROC_CHILDREN``).

    While children end, the kernel may leave out others of a list (proc(5)), but never the first. The children of a
    thread that ends go to the first one of its process, which is therefore read last.
    """
    try:
        with os.scandir(f"/proc/{pid}/task") as found:
            threads = sorted((int(each.name) for each in found), reverse=True)
        return any(_begins(f"/proc/{pid}/task/{thread}/children") for thread in threads)
    except OSError:  # also when no descriptor is left, and where a thread has just ended
        return True


def _begins(path: str) -> bool:
    """Whether there is anything in a file."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return bool(os.read(fd, 1))
    finally:
        os.close(fd)


def open_pidfd(pid: int) -> int | None:
    """Return a descriptor that is readable when a process has ended; None where there is no such thing.

    Raises ProcessLookupError when it is gone. Not every kernel has them, and what stands before one may refuse them:
    gVisor, and the seccomp profiles of older container engines.
    """
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except OSError:
        return None


def wait_by_looking(pid: int) -> None:
    """Wait for the end of a process that is no child of ours."""
    while True:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return
        except psutil.Error:
            return
        except OSError:  # no descriptor is left to look with
            pass
        time.sleep(10 * POLL)


class ProcessGroup:
    """The group that a process leads, by a descriptor of that process, which is true when its number is another's."""

    def __init__(self, pidfd: int) -> None:
        self._pidfd = pidfd

    def signal(self, number: int) -> bool:
        """Send a signal; False when nobody is in the group. Raises :class:`OSError` where the kernel cannot do that."""
        try:
            signal.pidfd_send_signal(self._pidfd, number, None, _TO_GROUP)
        except ProcessLookupError:
            return False
        except PermissionError:  # somebody is, and is not ours any more
            return True
        return True


class ProcessTree:
    """The living processes below a child, as far as they can be found.

    :meth:`look` before the child is stopped, because afterwards nobody knows whose children its orphans were. Looking
    at all processes takes milliseconds: call these methods off the event loop.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._known: set[psutil.Process] = set()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is known to be below the child."""
        return not self._known

    def look(self) -> None:
        """Find what descends from the child now."""
        with contextlib.suppress(*_UNREADABLE):
            self._known.update(psutil.Process(self.pid).children(recursive=True))

    def look_for(self, mark: str) -> None:
        """Find what carries the mark of a child that has ended: nobody knows any more what descended from it."""
        for pid in left_behind(lambda found: found == mark):
            with contextlib.suppress(*_UNREADABLE):
                self._known.add(psutil.Process(pid))

    def refresh(self) -> bool:
        """Add what is in the child's group or below a known process by now; tell whether anything lives."""
        for process in list(self._known):
            with contextlib.suppress(*_UNREADABLE):
                self._known.update(process.children(recursive=True))
        with contextlib.suppress(*_UNREADABLE):
            for pid in psutil.pids():
                with contextlib.suppress(*_UNREADABLE):
                    if pid != self.pid and os.getpgid(pid) == self.pid:
                        self._known.add(psutil.Process(pid))
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
