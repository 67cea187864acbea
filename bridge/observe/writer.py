"""The thread that writes logs. A line costs the event loop little more than putting it into a queue.

The thread takes all that waits at once, because what costs is to go back and forth between the two: each time it wakes
for a line, the event loop waits for the interpreter's lock behind it. So it writes 50 times a second at most, and an
error at once.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import sys
import threading
from collections.abc import Callable, Sequence

#: Records that may wait for the disk.
QUEUE_RECORDS = 10_000
#: Seconds for which the first of them waits for more.
PAUSE = 0.02
#: Records that are formatted between two writes: the event loop may have to wait for so many.
AT_ONCE = 50


class Writer(logging.Handler):
    """Hands records to ``write``, in a thread. Loses records rather than time, and says how many when it has time."""

    def __init__(self, write: Callable[[Sequence[logging.LogRecord]], None]) -> None:
        super().__init__()
        self._lost = 0
        self._told = 0
        self._write = write
        self._waiting: queue.SimpleQueue[logging.LogRecord | None] = queue.SimpleQueue()
        # Not an Event: its lock may be held by the very thread that logs, where a collection of garbage logs within it.
        self._at_once: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="logs", daemon=True)
        self._thread.start()

    def handle(self, record: logging.LogRecord) -> bool:
        """Take a record, from any thread. It is formatted when it is written."""
        if self._waiting.qsize() >= QUEUE_RECORDS:
            self._lost += 1
            return False
        self._waiting.put(record)
        if record.levelno >= logging.ERROR and self._at_once.empty():
            self._at_once.put(None)
        return True

    def stop(self) -> None:
        """Write what waits, and end the thread."""
        self._waiting.put(None)
        self._at_once.put(None)
        self._thread.join()

    def _run(self) -> None:
        is_last = False
        while not is_last:
            found = [self._waiting.get()]
            with contextlib.suppress(queue.Empty):
                self._at_once.get(timeout=PAUSE)
            while found:
                is_last = is_last or None in found
                self._try_to_write([record for record in found if record is not None])
                found = self._next()
            self._tell_of_lost()

    def _tell_of_lost(self) -> None:
        lost = self._lost - self._told
        if lost:
            self._told += lost
            why = f"{lost} log lines were lost: the disk was too slow"
            self._try_to_write([logging.LogRecord(__name__, logging.WARNING, __file__, 0, why, (), None)])

    def _try_to_write(self, records: Sequence[logging.LogRecord]) -> None:
        try:
            self._write(records)
        except Exception as error:  # a mistake of ours, which must not cost all lines that follow
            with contextlib.suppress(OSError, ValueError, AttributeError):  # there may be no stderr
                sys.stderr.write(f"{len(records)} log lines were lost: {error!r}\n")

    def _next(self) -> list[logging.LogRecord | None]:
        found: list[logging.LogRecord | None] = []
        with contextlib.suppress(queue.Empty):
            while len(found) < AT_ONCE:
                found.append(self._waiting.get_nowait())
        return found
