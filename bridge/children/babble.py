"""What a program writes to stdout that is no message: skipped, shown, and told where it turns out to be no server."""

from __future__ import annotations

import logging
from collections.abc import Callable

log = logging.getLogger(__name__)

#: Lines of a child that are no JSON-RPC are logged up to this many characters.
SHOWN = 200

#: So many lines that are skipped are shown one by one, then one whenever their number has doubled: some servers write
#: their log there, and some programs write as fast as they can.
SAID = 20
#: So many of them before a program has answered its greeting, and it is none that ever will.
MOST_BABBLE = 100_000
#: What stands before such a line in the log of its server.
NO_MESSAGE = b"on stdout, no JSON-RPC: "


class Babble:
    """The ``lines`` of one child that were no messages; as text, what they tell to stand behind why it did not start.

    ``on_stderr`` is the log of its server.
    """

    def __init__(self, server: str, on_stderr: Callable[[bytes], None]) -> None:
        self.lines = 0
        self._server = server
        self._on_stderr = on_stderr
        self._first = ""

    def take(self, line: bytes, why: Exception) -> None:
        """Count one more, and show it unless there were too many already."""
        self.lines += 1
        if self.lines <= SAID or not self.lines & (self.lines - 1):
            shown = ascii(line[:SHOWN].decode(errors="replace"))
            said = "server %s wrote a line that is skipped (%d so far): %s: %s"
            log.warning(said, self._server, self.lines, why, shown)
            self._first = self._first or shown
            self._on_stderr(NO_MESSAGE + line[:SHOWN])

    def __str__(self) -> str:
        if not self.lines:
            return ""
        lines = "1 line" if self.lines == 1 else f"{self.lines} lines, the first"
        return f"; on stdout it wrote what is no JSON-RPC: {lines}: {self._first}"
