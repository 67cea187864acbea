"""Files that people and programs change while the bridge runs: whether one has changed, how it is replaced whole, and
how nobody else does so meanwhile.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: What changes with a file; None while there is none.
Mark = tuple[int, int, int] | None
#: Readable for its owner only: it may hold keys.
PRIVATE = 0o600


def mark(path: Path) -> Mark:
    """Return what is different when a file was written, replaced or deleted.

    Nothing announces that on every file system, so who wants to know looks again.
    """
    try:
        found = os.stat(path)  # noqa: PTH116 - Path.stat is twice as slow, and this is on the way of requests
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def replace_file(path: Path, data: bytes, mode: int | None = None) -> None:
    """Write a file so that whoever reads meanwhile sees the old one or the new one. Raises :class:`OSError`.

    ``mode`` are its rights; None: those that it has, for its owner only when it is new. Of a link, what it leads to is
    replaced. A directory that is not there is made.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    if mode is None:
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else PRIVATE
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    new = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.chmod(mode)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes from changing a file meanwhile. It may be replaced, so its directory is locked."""
    import fcntl  # which Windows has not

    directory = path.resolve().parent
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
