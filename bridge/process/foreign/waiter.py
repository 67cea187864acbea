"""What becomes of the first process of a bridge that was restarted: it holds nothing, and waits for the newest one.

Whoever has started it (a terminal, a container, supervisord) watches it, so it stays, passes signals on, and ends with
the exit code of the newest bridge. Bridges between the two just end: what they leave becomes a child of this one
(PR_SET_CHILD_SUBREAPER, Linux), and each says who comes after it into a pipe that all of them have.

Standard library only, and only a little of it, so that it stays small.
"""

from __future__ import annotations

import os
import signal
import sys

#: What is passed on.
PASSED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

_SET_CHILD_SUBREAPER = 36


def wait(pid: int, told: int) -> int:
    """Wait for a process and those that come after it, as ``told`` names them; return the exit code of the last."""
    signal.signal(signal.SIGCHLD, _nothing)
    signal.pthread_sigmask(signal.SIG_BLOCK, (*PASSED, signal.SIGCHLD))
    if told >= 0:
        import ctypes  # here, because a bridge that waits for nobody reads this too

        os.set_blocking(told, False)
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    number: int = signal.SIGCHLD
    while True:
        code = _reap(pid)
        if code is not None:
            newest = _newest(told, pid)
            if newest == pid:
                return code
            pid = newest
            continue
        if number != signal.SIGCHLD:
            _send(pid, number)  # after the reaping: what has ended takes signals as well, and they are lost
        number = signal.sigwait((*PASSED, signal.SIGCHLD))


def _reap(wanted: int) -> int | None:
    """Take leave of every child that has ended; return the exit code of the one that counts, None while it lives."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return 1 if found is None else found
        if pid == 0:
            return found
        if pid == wanted:
            code = os.waitstatus_to_exitcode(status)
            found = code if code >= 0 else 128 - code


def _newest(told: int, pid: int) -> int:
    """Return the process that was named last, ``pid`` where none was that lives."""
    said = b""
    while told >= 0:
        try:
            chunk = os.read(told, 4096)
        except BlockingIOError:
            break
        if not chunk:
            break
        said += chunk
    lines = said.split()
    return int(lines[-1]) if lines and _send(int(lines[-1]), 0) else pid


def _send(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except OSError:
        return False
    return True


def _nothing(*_: object) -> None:
    """A signal that is waited for needs somebody who would take it."""


if __name__ == "__main__":
    sys.exit(wait(int(sys.argv[1]), int(sys.argv[2])))
