"""Nothing of a bridge outlives it, however it ends: a process beside it that cleans up, and a sweep at the start.

Children go by end-of-file on stdin when the bridge is killed; those that ignore it, and what they have started, would
stay. ``foreign/watchdog.py`` says how they are found.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from bridge.process.foreign import watchdog
from bridge.process.foreign.watchdog import MARK, is_of

log = logging.getLogger(__name__)

#: Seconds for the watchdog to end, after everything it could look for has.
PATIENCE = 2.0

_children = itertools.count(1)
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@functools.cache
def mark() -> str:
    """Return what begins the :data:`MARK` that the environment of every child of this process holds."""
    return f"{os.getpid()}.{_start_of(os.getpid())}.{_numbering()}.{secrets.token_hex(8)}"


def mark_of_child() -> str:
    """Return the mark of one more child."""
    return f"{mark()}.{next(_children)}"


def marked(env: Mapping[str, str], own: str) -> dict[str, str]:
    """Return an environment with a mark in it."""
    return {**env, MARK: own}


def sweep() -> int:
    """End what bridges left behind that live no longer; return how many processes that were."""
    return watchdog.end_all(orphans)


def orphans() -> set[int]:
    """Return what bridges left behind that live no longer."""
    return watchdog.left_behind(_is_orphaned)


def _is_orphaned(found: str) -> bool:
    pid, _, rest = found.partition(".")
    start, _, rest = rest.partition(".")
    if is_of(mark(), found) or not pid.isdecimal() or rest.partition(".")[0] != _numbering():
        return False
    return start != _start_of(int(pid))


@functools.cache
def _numbering() -> str:
    """Name what process ids and start times are counted in, where this process is.

    The host sees the processes of a container too, and would look for their bridge under a number that belongs to
    somebody else here. A checkpoint may even bring them from another boot.
    """
    names = [_BOOT.read_text().strip()] if _BOOT.exists() else []
    for kind in ("pid", "time"):
        with contextlib.suppress(OSError):  # not every kernel has both
            names.append(str(Path(f"/proc/self/ns/{kind}").stat().st_ino))
    return "-".join(names)


def _start_of(pid: int) -> str | None:
    found = watchdog.parent_and_start(pid)
    return None if found is None else found[1]


class Watchdog:
    """The process beside this one: as a context manager, for as long as there may be children."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> None:
        if not sys.platform.startswith("linux"):
            return
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(Path(watchdog.__file__)), mark()],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={},  # without a mark of its own: a bridge can be the child of a bridge
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            log.warning("no watchdog (%s): what ignores the end of its input survives a kill -9 of the bridge", error)

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE)
