"""Who did what: a JSON object per event, for the file ``audit.log`` (``AUDIT_LOG``). Never arguments, results, tokens.

Events are ``spawn``, ``exit``, ``session_open``, ``session_close``, ``tool_call``, ``operate``
and ``refused``. They go the way of
all log records, through the queue to the thread that writes, and to no other file.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from bridge.observe.stamp import Stamp

#: The logger whose records are events; each has its members as its attribute ``members``.
LOGGER = "bridge.audit"
#: A level above all others: nothing is recorded.
OFF = logging.CRITICAL + 10
#: Principals whose names are remembered; of the others an event has the digest.
MOST_NAMES = 10_000
#: Characters of a member: a client chooses some of them.
SHOWN = 300

_log = logging.getLogger(LOGGER)
_names: dict[str, str] = {}


def is_on() -> bool:
    """Whether anybody wants to know."""
    return _log.isEnabledFor(logging.INFO)


def record(event: str, **members: Any) -> None:
    """Write an event, when that is wanted."""
    if _log.isEnabledFor(logging.INFO):
        entry = logging.LogRecord(LOGGER, logging.INFO, "", 0, event, (), None)  # nobody needs to know the caller
        entry.members = members
        _log.handle(entry)


def introduce(owner: str, name: str) -> None:
    """Remember the name of a principal, whose sessions know its digest only."""
    if owner not in _names:
        if len(_names) >= MOST_NAMES:
            _names.clear()
        _names[owner] = name


def name_of(owner: str) -> str:
    """Return the name of a principal, or its digest where nobody has told it since the bridge started."""
    return _names.get(owner, owner)


class AuditFormatter(logging.Formatter):
    """One JSON object per line; line ends and escapes within it are JSON's."""

    def __init__(self) -> None:
        super().__init__()
        self._stamp = Stamp()

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        members: dict[str, Any] = getattr(record, "members", {})
        line = {"time": self._stamp.of(record), "event": record.msg, **members}
        shown = {name: value[:SHOWN] if isinstance(value, str) else value for name, value in line.items()}
        return json.dumps(shown)
