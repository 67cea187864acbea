"""Ends what a bridge leaves behind that was killed and could not do it itself.

It runs beside the bridge as a process of its own, with the mark of the bridge as its argument, and hears of the end of
the bridge by end-of-file on stdin, which no signal can prevent. Whatever carries the mark in its environment was
started by that bridge, or by something that was, wherever it is now: in another session, without a parent, with stdin
held open by somebody. After an orderly end there is nothing left, and nothing happens.

Standard library only, and only a little of it, so that it starts at once and stays small. Linux: elsewhere /proc does
not tell, and children have to go by their end-of-file.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

#: The variable in the environment of every child.
MARK = "MCP_BRIDGE_RUN"
#: Seconds that a process gets to end by itself, and until nobody is waited for any longer.
POLITE = 0.5
PATIENCE = 5.0

_PROC = Path("/proc")
_PREFIX = MARK.encode() + b"="


def mark_of(pid: int) -> str | None:
    """Return the mark that a process carries, None if it has none, or belongs to somebody else."""
    try:
        if _PROC.joinpath(str(pid)).stat().st_uid != os.geteuid():
            return None
        entries = _PROC.joinpath(str(pid), "environ").read_bytes().split(b"\0")
    except OSError:
        return None
    found = [entry for entry in entries if entry.startswith(_PREFIX)]
    return found[0][len(_PREFIX) :].decode(errors="replace") if found else None


def is_of(bridge: str, found: str) -> bool:
    """Whether a mark is that of a bridge, or of one of its children."""
    return found == bridge or found.startswith(bridge + ".")


def parent_and_start(pid: int) -> tuple[int, str] | None:
    """Return the parent of a process and when it began, in ticks since boot; None when it has ended."""
    try:
        after_name = _PROC.joinpath(str(pid), "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    if after_name[0] in (b"Z", b"X"):  # what it has left is a number that waits to be read
        return None
    return int(after_name[1]), after_name[19].decode()


def left_behind(is_ours: Callable[[str], bool]) -> set[int]:
    """Return the processes whose mark is one of ``is_ours``, and everything below them."""
    try:
        if os.readlink(_PROC / "self") != str(os.getpid()):  # its numbers are those of another PID namespace
            return set()
        pids = [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]
    except OSError:
        return set()
    parents = {pid: found[0] for pid in pids if (found := parent_and_start(pid)) is not None}
    ours = {pid for pid in parents if (mark := mark_of(pid)) is not None and is_ours(mark)}
    grown = True
    while grown:
        below = {pid for pid, parent in parents.items() if parent in ours and pid not in ours}
        ours |= below
        grown = bool(below)
    return ours - {os.getpid()}


def end_all(find: Callable[[], set[int]]) -> int:
    """End what ``find`` finds, politely first, until there is nothing more; return how many that were."""
    begun = time.monotonic()
    seen: set[int] = set()
    while (found := find()) and (spent := time.monotonic() - begun) < PATIENCE:
        for pid in found:
            if spent >= POLITE or pid not in seen:
                _signal(pid, signal.SIGTERM if spent < POLITE else signal.SIGKILL)
        seen |= found
        time.sleep(0.05)
    return len(seen)


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
        os.kill(pid, signal.SIGCONT)  # one that is stopped hears it only then
    except OSError:  # it has gone by itself
        pass


def main() -> None:
    """Wait for the end of the bridge, then end what it left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # whoever ends the bridge in order needs no help, and may come later
    mark = sys.argv[1]
    while os.read(0, 4096):
        pass
    end_all(lambda: left_behind(lambda found: is_of(mark, found)))


if __name__ == "__main__":
    main()
