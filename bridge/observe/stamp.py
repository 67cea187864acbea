"""The time of a log line."""

from __future__ import annotations

import logging
import time


class Stamp:
    """Formats times in UTC, each second once."""

    def __init__(self) -> None:
        self._second = 0
        self._text = ""

    def of(self, record: logging.LogRecord) -> str:
        """When a record was made, in milliseconds."""
        second = int(record.created)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._text}.{int(record.msecs):03d}Z"
