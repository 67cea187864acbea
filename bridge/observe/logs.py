"""Logs for ``tail -f`` and ``grep``: to the console and to files, rotated, written by a thread of their own.

The event loop only puts a record into a bounded queue. When the disk cannot follow, lines are lost and counted; the
bridge never waits for its own log.

* ``bridge.log``: everything from LOG_LEVEL on. ``error.log``: errors only.
* ``audit.log``: who did what, where that is wanted (:mod:`bridge.observe.audit`).
* ``servers/<id>.log``: what the children of a server write to stderr.
"""

from __future__ import annotations

import contextlib
import json
import logging
import logging.handlers
import queue
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO, cast

from bridge.observe import audit
from bridge.observe.outage import Outage
from bridge.observe.shared import ROTATE_BYTES, ROTATE_KEEP, SharedFile

#: Records that may wait for the disk.
QUEUE_RECORDS = 10_000
#: Longest line of a child's stderr in its log, in bytes.
STDERR_SHOWN = 8192

#: The logger whose records are lines of children; each has the server id as its attribute ``server``.
_CHILD_LOGGER = "bridge.child_stderr"
#: What could move a terminal's cursor or forge a line when a log is read.
_UNPRINTABLE = {code: f"\\x{code:02x}" for code in (*range(9), *range(10, 32), *range(127, 160))}


class _Text(logging.Formatter):
    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = f"{node} " if node else ""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        text = record.getMessage().translate(_UNPRINTABLE)
        if record.exc_info:  # the only text that has lines of its own
            lines = self.formatException(record.exc_info).split("\n")
            text = "\n".join([text, *(line.translate(_UNPRINTABLE) for line in lines)])
        return f"{stamp}.{int(record.msecs):03d}Z [{record.levelname}] {self._node}{text}"


class _Json(logging.Formatter):
    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = node

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if self._node:
            line["node"] = self._node
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class _BoundedQueueHandler(logging.handlers.QueueHandler):
    """Loses records rather than time."""

    lost = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Leave the formatting to the thread that writes."""
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        """Put it into the queue, or count it as lost."""
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.lost += 1


class _Listener(logging.handlers.QueueListener):
    """Ends behind what waits, also when the queue is full."""

    def enqueue_sentinel(self) -> None:
        """Wait for room: this is the end, and nobody else waits for it."""
        cast("queue.Queue[object]", self.queue).put(None)


class _ChildFiles(logging.Handler):
    """One file per server, opened with its first line."""

    def __init__(self, directory: Path, open_file: Callable[[Path], logging.Handler]) -> None:
        super().__init__()
        self._directory = directory
        self.open_file = open_file
        self.files: dict[str, logging.Handler] = {}

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != _CHILD_LOGGER:
            return
        server: str = getattr(record, "server", "unknown")
        if server not in self.files:
            self.files[server] = self._open(server)
        self.files[server].emit(record)

    def _open(self, server: str) -> logging.Handler:
        path = self._directory / f"{server}.log"
        try:
            file = self.open_file(path)
        except OSError as error:
            logging.getLogger(__name__).warning("%s cannot be written: %s; its lines are lost", path, error.strerror)
            return logging.NullHandler()
        file.setFormatter(self.formatter)
        return file

    def close(self) -> None:
        for file in self.files.values():
            file.close()
        super().close()


class Logs:
    """Set up logging for the length of a ``with`` block.

    ``level`` is a logging level name, ``layout`` is ``text`` or ``json``. A directory that cannot be written costs a
    warning and the files, nothing else. ``node`` is who of several processes writes this; they share the files, as a
    bridge does that takes over from another (``shared``).
    """

    def __init__(
        self,
        level: str,
        directory: Path,
        layout: str,
        console: TextIO = sys.stderr,
        *,
        audits: bool = False,
        node: str | None = None,
        shared: bool = False,
    ) -> None:
        self._open_file: Callable[[Path], logging.Handler] = SharedFile if shared or node is not None else _RotatedFile
        self._audits = audits
        self._level = level
        self._directory = directory
        self._formatter = (_Json if layout == "json" else _Text)(node or "")
        self._console = console
        self._queue: queue.Queue[logging.LogRecord] = queue.Queue(QUEUE_RECORDS)
        self._entry = _BoundedQueueHandler(self._queue)
        self._listener: _Listener | None = None
        self._handlers: list[logging.Handler] = []
        self._before: list[tuple[logging.Logger, int]] = []

    def __enter__(self) -> Logs:
        console = logging.StreamHandler(self._console)
        console.addFilter(_is_ours)
        self._handlers = [console]
        problem = self._open_files()
        for handler in self._handlers:
            if handler.formatter is None:
                handler.setFormatter(self._formatter)
        self._listener = _Listener(self._queue, *self._handlers, respect_handler_level=True)
        self._listener.start()
        wanted = logging.INFO if self._audits else audit.OFF
        for name, level in (("", "WARNING"), ("bridge", self._level), (_CHILD_LOGGER, "INFO"), (audit.LOGGER, wanted)):
            logger = logging.getLogger(name)
            self._before.append((logger, logger.level))
            logger.setLevel(level)
        logging.getLogger().addHandler(self._entry)
        if problem is not None:
            logging.getLogger(__name__).warning("LOG_DIR: %s; logging to the console only", problem)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger().removeHandler(self._entry)
        for logger, level in self._before:
            logger.setLevel(level)
        assert self._listener is not None
        self._listener.stop()
        if self._entry.lost:
            why = f"{self._entry.lost} log lines were lost: the disk was too slow"
            self._listener.handle(logging.LogRecord(__name__, logging.WARNING, __file__, 0, why, (), None))
        for handler in self._handlers:
            handler.close()

    def share(self) -> None:
        """Leave it to another process to rotate the files, from now on."""
        files = [*self._handlers]
        for handler in self._handlers:
            if isinstance(handler, _ChildFiles):
                handler.open_file = SharedFile
                files += handler.files.values()
        for file in files:
            if isinstance(file, _RotatedFile):
                file.maxBytes = sys.maxsize

    def set_level(self, level: str) -> None:
        """Log from another level on."""
        logging.getLogger("bridge").setLevel(level)

    def stderr_sink(self, server: str) -> Callable[[bytes], None]:
        """Return the function that takes the stderr lines of a server's children."""
        logger = logging.getLogger(_CHILD_LOGGER)
        extra = {"server": server}

        def take(line: bytes) -> None:
            logger.info("%s", line[:STDERR_SHOWN].decode(errors="replace"), extra=extra)

        return take

    def _open_files(self) -> str | None:
        """Add the file handlers; return what is wrong if that is impossible."""
        files: list[logging.Handler] = []
        try:
            (self._directory / "servers").mkdir(parents=True, exist_ok=True)
            files.append(self._open_file(self._directory / "bridge.log"))
            files.append(self._open_file(self._directory / "error.log"))
            if self._audits:
                files.append(self._open_file(self._directory / "audit.log"))
        except OSError as error:
            for file in files:
                file.close()
            lost = ", and AUDIT_LOG is lost" if self._audits else ""
            return f"{self._directory} cannot be written: {error.strerror}{lost}"
        for file in files[:2]:
            file.addFilter(_is_ours)
        files[1].setLevel(logging.ERROR)
        for file in files[2:]:
            file.addFilter(_is_audit)
            file.setFormatter(audit.AuditFormatter())
        self._handlers += [*files, _ChildFiles(self._directory / "servers", self._open_file)]
        return None


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name not in (_CHILD_LOGGER, audit.LOGGER)


def _is_audit(record: logging.LogRecord) -> bool:
    return record.name == audit.LOGGER


class _RotatedFile(logging.handlers.RotatingFileHandler):
    """Knows how long its file is. The handler that it is made of formats each record twice and asks the disk thrice."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            path, maxBytes=ROTATE_BYTES, backupCount=ROTATE_KEEP, encoding="utf-8", errors="backslashreplace"
        )
        self._outage = Outage(path)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record) + self.terminator
            stream = self.stream or self._open()
            if stream.tell() + len(line) > self.maxBytes:
                self.doRollover()
                stream = self.stream or self._open()
            self.stream = stream
            stream.write(line)
            stream.flush()
            self._outage.written()
        except OSError as error:
            self._give_up_stream()
            self._outage.lost(error)
        except Exception:
            self.handleError(record)

    def _give_up_stream(self) -> None:
        """Forget what could not be written, which would else come twice or in halves; the next line opens the file."""
        stream, self.stream = self.stream, None
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
