"""Whether another bridge writes to the same folder of logs: then their lines mix, and nobody can tell whose they are.

Each bridge keeps a lock there for as long as it runs, which any number of them can have. Whoever is alone could have
it for itself. The system takes it back, however the bridge ends.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger(__name__)

#: What is locked. It stays empty.
NAME = ".lock"


@contextlib.contextmanager
def claimed(directory: Path, *, is_heir: bool = False) -> Iterator[None]:
    """Warn where another bridge uses this folder; the next one is warned of this one until the end of the block.

    ``is_heir``: this one takes over from the one that uses it.
    """
    with contextlib.ExitStack() as held:
        # A folder that cannot be written has no log files; the log has said so. Windows has no such locks.
        if sys.platform != "win32":
            with contextlib.suppress(OSError):
                descriptor = os.open(directory / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
                held.callback(os.close, descriptor)
                if _is_taken(descriptor) and not is_heir:
                    log.warning("LOG_DIR: another bridge writes to %s too; set another LOG_DIR for one", directory)
        yield


def _is_taken(descriptor: int) -> bool:
    """Lock it, together with whoever has locked it already; say whether there is anybody. Raises :class:`OSError`."""
    import fcntl  # which Windows has not

    is_taken = False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        is_taken = True
    with contextlib.suppress(BlockingIOError):  # somebody is just finding out the same
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return is_taken
