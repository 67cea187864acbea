"""A log file that cannot be written for a while, in the main because its disk is full: told once, not by every line."""

from __future__ import annotations

import logging
from pathlib import Path

log = logging.getLogger(__name__)


class Outage:
    """What is known of one file. Its warnings go the way of all others: to the console, and to files that are well."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lost = 0

    @property
    def goes_on(self) -> bool:
        """Whether lines were lost since any was written."""
        return self._lost > 0

    def lost(self, error: OSError, lines: int) -> None:
        """So many lines could not be written."""
        self._lost += lines
        if self._lost == lines:
            log.warning("%s cannot be written: %s; its lines are lost until it can", self._path, error.strerror)

    def written(self) -> None:
        """Lines were written."""
        if self._lost:
            lost, self._lost = self._lost, 0
            log.warning("%s is written again; %d line(s) of it were lost", self._path, lost)
