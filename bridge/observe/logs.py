"""Logs for ``tail -f`` and ``grep``: to the console and to files, rotated, written by a thread of their own.

The event loop only puts a record into a bounded queue. When the disk cannot follow, lines are lost, and the
log says how many when it can again; the bridge never waits for its own log.

* ``bridge.log``: everything from LOG_LEVEL on. ``error.log``: errors only.
* ``audit.log``: who did what, where that is wanted (:mod:`bridge.observe.audit`).
* ``servers/<id>.log``: what the children of a server write to stderr.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from bridge.observe import audit
from bridge.observe.shared import SharedFile
from bridge.observe.stamp import Stamp
from bridge.observe.writer import Writer

#: Longest line of a child's stderr in its log, in bytes.
STDERR_SHOWN = 8192
#: Files that are open at once: servers come and go, and what has gone is not told here.
MOST_OPEN = 100

#: The logger whose records are lines of children; each has the server id as its attribute ``server``.
_CHILD_LOGGER = "bridge.child_stderr"
#: What each record is given by the library and no layout here shows: who calls, in which thread, process and task. It
#: is half of what a line costs ("Optimization" in the library's HOWTO).
_UNUSED = ("_srcfile", "logThreads", "logMultiprocessing", "logProcesses", "logAsyncioTasks")
#: Tells of records that cannot be formatted.
_FAULTY = logging.NullHandler()
#: What could move a terminal's cursor or forge a line when a log is read.
_UNPRINTABLE = {code: f"\\x{code:02x}" for code in (*range(9), *range(10, 32), *range(127, 160))}


class _Text(logging.Formatter):
    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = f"{node} " if node else ""
        self._stamp = Stamp()

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if not text.isprintable():
            text = text.translate(_UNPRINTABLE)
        if record.exc_info:  # the only text that has lines of its own
            lines = self.formatException(record.exc_info).split("\n")
            text = "\n".join([text, *(line.translate(_UNPRINTABLE) for line in lines)])
        return f"{self._stamp.of(record)} [{record.levelname}] {self._node}{text}"


class _Json(logging.Formatter):
    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = node
        self._stamp = Stamp()

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self._stamp.of(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if self._node:
            line["node"] = self._node
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class _Books:
    """Everything that is written to: the console, the files, and one more for each server with its first line.

    Without a directory there is the console only.
    """

    def __init__(self, formatter: logging.Formatter, console: TextIO) -> None:
        self._formatter = formatter
        self._auditor = audit.AuditFormatter()
        self._console = console
        self._directory: Path | None = None
        self._files: dict[str, SharedFile] = {}  # the one that was written last is the last

    def open(self, directory: Path, *, audits: bool) -> str | None:
        """Open the files; return what is wrong if that is impossible."""
        names = ["bridge", "error", *(["audit"] if audits else [])]
        try:
            (directory / "servers").mkdir(parents=True, exist_ok=True)
            for name in names:
                self._files[name] = SharedFile(directory / f"{name}.log")
                self._files[name].open()
        except OSError as error:
            self.close()
            lost = ", and AUDIT_LOG is lost" if audits else ""
            return f"{directory} cannot be written: {error.strerror}{lost}"
        self._directory = directory
        return None

    def write(self, records: Sequence[logging.LogRecord]) -> None:
        """Write records, each formatted once and all of a file in one piece."""
        shown: list[str] = []
        kept: dict[str, list[str]] = {}
        for record in records:
            is_audit = record.name == audit.LOGGER
            try:
                line = (self._auditor if is_audit else self._formatter).format(record) + "\n"
            except Exception:  # whoever wrote that call has to know
                with contextlib.suppress(OSError, ValueError):
                    _FAULTY.handleError(record)
                continue
            if is_audit:
                names = ["audit"]
            elif record.name == _CHILD_LOGGER:
                names = [f"servers/{getattr(record, 'server', 'unknown')}"]
            else:
                shown.append(line)
                names = ["bridge", "error"] if record.levelno >= logging.ERROR else ["bridge"]
            for name in names:
                kept.setdefault(name, []).append(line)
        self._show(shown)
        for name, lines in kept.items():
            if (file := self._file(name)) is not None:
                file.write(lines)

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _show(self, lines: list[str]) -> None:
        text = "".join(lines)
        with contextlib.suppress(OSError, ValueError):  # a terminal that has gone
            try:
                self._console.write(text)
            except UnicodeEncodeError as error:
                self._console.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))
            self._console.flush()

    def _file(self, name: str) -> SharedFile | None:
        """The file of this name, None where there are no files."""
        if self._directory is None:
            return None
        file = self._files.pop(name, None) or SharedFile(self._directory / f"{name}.log")
        self._files[name] = file
        if (many := len(self._files) - MOST_OPEN) > 0:
            well = [each for each, other in self._files.items() if other.is_well and each != name]
            for oldest in well[:many]:
                self._files.pop(oldest).close()
        return file


class Logs:
    """Set up logging for the length of a ``with`` block.

    ``level`` is a logging level name, ``layout`` is ``text`` or ``json``. A directory that cannot be written costs a
    warning and the files, nothing else. ``node`` is who of several processes writes this; they share the files.
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
    ) -> None:
        self._audits = audits
        self._level = level
        self._directory = directory
        self._books = _Books((_Json if layout == "json" else _Text)(node or ""), console)
        self._writer: Writer | None = None
        self._levels: list[tuple[logging.Logger, int]] = []
        self._unused: dict[str, object] = {}

    def __enter__(self) -> Logs:
        problem = self._books.open(self._directory, audits=self._audits)
        wanted = logging.INFO if self._audits else audit.OFF
        for name, level in (("", "WARNING"), ("bridge", self._level), (_CHILD_LOGGER, "INFO"), (audit.LOGGER, wanted)):
            logger = logging.getLogger(name)
            self._levels.append((logger, logger.level))
            logger.setLevel(level)
        self._unused = {name: getattr(logging, name) for name in _UNUSED if hasattr(logging, name)}
        vars(logging).update(dict.fromkeys(self._unused))
        self._writer = Writer(self._books.write)
        logging.getLogger().addHandler(self._writer)
        if problem is not None:
            logging.getLogger(__name__).warning("LOG_DIR: %s; logging to the console only", problem)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._writer is not None
        logging.getLogger().removeHandler(self._writer)
        self._writer.stop()
        for logger, level in self._levels:
            logger.setLevel(level)
        vars(logging).update(self._unused)
        self._books.close()

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
