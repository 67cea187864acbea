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
#: What stands behind an error and does not tell it: frames of a stack, the end of an object, the version of Node,
#: hints, and where more is to be read.
_BEHIND = re.compile(
    r"at |\d+: |[}\]]|Node\.js v\d|hint: |(For more information, )?(run|see|try) .*-h(elp)?\b", re.IGNORECASE
)
#: What says why the error before it came about; of several the last (uv, cargo and their like).
_CAUSE = re.compile(r"(caused by|cause): ", re.IGNORECASE)
#: What tells one, as in "TypeError: ", "Error [ERR_X]: ", "[Error: " and "FATAL ERROR: ".
_ERROR = re.compile(r"\W*(\w+ )?\w*(error|exception|rejection)\b[^:]*: ", re.IGNORECASE)
#: How each line begins that npm writes when it fails, and those of them that tell nothing without the others.
_NPM = re.compile(r"npm (error|ERR!)")
_NPM_DETAIL = re.compile(r"npm \S+( (code|syscall|errno|path|dest|cwd|command|type)\b|$)")
#: What Python draws around the errors of a task group.
_GROUP = re.compile(r"^((\s+\|)+ ?|\s+\+[-+]+( \d+ -+)?$|\s+\+ (?=Exception Group))")
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
        if not lines:
            return ""
        if _NPM.match(lines[0]):  # the first line says what it was, all others what one might do
            said = [line for line in reversed(lines) if _NPM.match(line) and not _NPM_DETAIL.match(line)]
            return said[0] if said else lines[0]
        told = [line for line in lines if not _BEHIND.match(line)] or lines
        if _CAUSE.match(told[0]):
            error = next((line for line in told if not _CAUSE.match(line)), "")
            return f"{error}: {_CAUSE.sub('', told[0], 1)}" if error else told[0]
        if _BEHIND.match(lines[0]):
            return next((line for line in told if _ERROR.match(line)), told[0])
        begun = [line.strip(_DRAWN) for line in reversed(self.tail) if not line[:1].isspace()]  # the others go on
        return next(filter(None, begun), lines[0])

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
        self.tail.append(_GROUP.sub("", data[:TAIL_LINE].decode(errors="replace")))
        self._on_line(data)
