"""What a child complains of: the lines of its standard error, the last of which explain a failure."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable

from bridge.protocol.framing import LineSplitter, Oversized, text_of

#: Longest line that is kept whole, in bytes; a longer one is cut.
LONGEST_LINE = 64 * 1024
#: Lines that are kept, and bytes of each.
TAIL, TAIL_LINE = 30, 500
#: What stands behind an error and does not tell it: frames of a stack, the end of an object, the version of Node.
_BEHIND = re.compile(r"at |\d+: |[}\]]|Node\.js v\d")
#: What tells one, as in "TypeError: ", "Error [ERR_X]: ", "[Error: " and "FATAL ERROR: ".
_ERROR = re.compile(r"\W*(\w+ )?\w*(error|exception|rejection)\b[^:]*: ", re.IGNORECASE)
#: What frames, rules and logos are drawn with, with which some servers introduce themselves.
_DRAWN = "".join(map(chr, range(0x2500, 0x25A0))) + " \t"


class Stderr(asyncio.Protocol):
    """The reading end of the pipe. ``on_line`` gets each line, ``on_ended`` is called behind the last."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, on_line: Callable[[bytes], None], on_ended: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._splitter = LineSplitter(LONGEST_LINE, text_of)
        self._on_line = on_line
        self._on_ended = on_ended
        self.is_open = True
        #: Loop time at which something came last, 0 for never.
        self.heard_at = 0.0
        #: The last lines.
        self.tail: deque[str] = deque(maxlen=TAIL)

    @property
    def last_line(self) -> str:
        """The last one that is not blank, or the error before it where it is only what stands behind one; empty where
        there is none.
        """
        lines = self.words[::-1]
        if lines and _BEHIND.match(lines[0]):
            return next((line for line in lines if _ERROR.match(line)), lines[0])
        begun = [line.strip(_DRAWN) for line in reversed(self.tail) if not line[:1].isspace()]  # the others go on
        return next(filter(None, begun + lines), "")

    @property
    def words(self) -> list[str]:
        """The last lines that say anything, without what is drawn around them."""
        return list(filter(None, (line.strip(_DRAWN) for line in self.tail)))

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        self.heard_at = self._loop.time()
        for line in self._splitter.feed(data):
            self._take(line)

    def connection_lost(self, exc: Exception | None) -> None:
        """End-of-file: nothing more will come."""
        for line in self._splitter.finish():
            self._take(line)
        self.is_open = False
        self._on_ended()

    def _take(self, line: bytes | Oversized) -> None:
        data = line if isinstance(line, bytes) else line.head
        self.tail.append(data[:TAIL_LINE].decode(errors="replace"))
        self._on_line(data)
