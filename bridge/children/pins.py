"""What the tools of one server were when they were first seen, and which have changed since.

The first list, with all its pages, is trusted; so a tool that turns up later is as much news as one that has changed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from bridge.protocol.pins import Definition, define

log = logging.getLogger(__name__)

#: Seconds for a client to read all pages of the first list; some never ask for the second.
FIRST_LIST = 600.0
#: Tools of one server that are remembered; one more is news for ever.
MOST_TOOLS = 1000
#: Bytes of definitions whose fingerprints are known without computing them again.
MOST_KNOWN = 1024 * 1024
#: So often it is said that a tool is not what it was, until it is approved: some are another one in each list.
MOST_SAID = 5
#: Characters of a tool's name in a log line.
SHOWN = 80


@dataclass(slots=True)
class Pin:
    """``pinned`` is what may be shown, None for a tool that is new; ``pending`` what it is now, where that differs."""

    pinned: Definition | None
    pending: Definition | None = None

    @property
    def state(self) -> str:
        """``pinned``, ``changed`` or ``new``."""
        if self.pinned is None:
            return "new"
        return "pinned" if self.pending is None else "changed"


class ServerPins:
    """The tools of one server. In the mode ``block`` what is news is not for clients until it is approved.

    ``on_change`` is called when there is something to write down; ``wall`` is the time of day in seconds.
    """

    def __init__(
        self, server: str, mode: Literal["report", "block"], on_change: Callable[[], None], wall: Callable[[], float]
    ) -> None:
        self._server = server
        self.mode: Literal["report", "block"] = mode
        self._on_change = on_change
        self._wall = wall
        self.tools: dict[str, Pin] = {}
        self.since: float | None = None  # when the first list was seen
        self.is_complete = False
        self._known: dict[bytes, str] = {}
        self._known_bytes = 0
        self._said: dict[str, list[str]] = {}  # fingerprints, by tool
        self._has_too_many = False

    @property
    def blocks(self) -> bool:
        """Whether what is news is withheld."""
        return self.mode == "block"

    @property
    def news(self) -> dict[str, str]:
        """Which tools wait to be approved, and whether they are ``changed`` or ``new``."""
        return {name: pin.state for name, pin in self.tools.items() if pin.pending is not None}

    def see(self, tools: list[tuple[str, bytes]], *, is_last: bool) -> None:
        """Take notice of a page of the list; ``is_last`` when none follows."""
        if self.since is None:
            self.since = self._wall()
            self._on_change()
        trusts = self._is_first_list
        for name, tool in tools:
            if name and self._sha256(tool) != self._pinned(name):
                self._differs(name, define(tool, self._now()), trusts)
            elif (pin := self.tools.get(name)) is not None and pin.pending is not None:
                log.info("server %s: tool %s is again as it was pinned", self._server, _shown(name))
                pin.pending = None
                self._on_change()
        if is_last and not self.is_complete:
            self.is_complete = True
            self._on_change()

    def is_shown(self, name: str, tool: bytes) -> bool:
        """Whether clients get to see a tool that is defined in this way."""
        return not self.blocks or self._sha256(tool) == self._pinned(name)

    def refusal(self, name: str) -> str | None:
        """Why a tool cannot be called; None when it can."""
        pin = self.tools.get(name)
        if not self.blocks or (pin is None and (self.since is None or self._is_first_list)):
            return None
        if pin is None:
            return f"Unknown tool: {name}"
        if pin.pending is None:
            return None
        how = "is new" if pin.pinned is None else "has changed since it was approved"
        return f"Tool {name} {how} and waits for the operator of the bridge to approve it"

    def approve(self, names: list[str], sha256: str | None = None) -> list[str]:
        """Take what these tools are now for what they are to be; return which of them had news.

        With ``sha256`` only what has that fingerprint.
        """
        done = []
        for name in names:
            pin = self.tools.get(name)
            if pin is not None and pin.pending is not None and sha256 in (None, pin.pending.sha256):
                pin.pinned, pin.pending = pin.pending, None
                self._said.pop(name, None)
                log.info("server %s: tool %s is approved as it is now", self._server, _shown(name))
                done.append(name)
        if done:
            self._on_change()
        return done

    @property
    def _is_first_list(self) -> bool:
        return not self.is_complete and self.since is not None and self._wall() - self.since < FIRST_LIST

    def _pinned(self, name: str) -> str | None:
        pin = self.tools.get(name)
        return None if pin is None or pin.pinned is None else pin.pinned.sha256

    def _differs(self, name: str, found: Definition, trusts: bool) -> None:
        pin = self.tools.get(name)
        if pin is None:
            if len(self.tools) >= MOST_TOOLS:
                self._say_too_many(name)
                return
            if trusts or not self.blocks:
                self.tools[name] = Pin(found)
                if not trusts:
                    self._say(name, found.sha256, "is new, and is pinned as it is now")
            else:
                self.tools[name] = Pin(None, found)
                self._say(name, found.sha256, f"is new, and is withheld until: {self._remedy(name)}")
            self._on_change()
        elif pin.pending is None or pin.pending.sha256 != found.sha256:
            pin.pending = found
            how = "and is withheld until" if self.blocks else "if that is right"
            self._say(name, found.sha256, f"has changed since it was pinned; {how}: {self._remedy(name)}")
            self._on_change()

    def _remedy(self, name: str) -> str:
        return f"mcp-bridge pins approve {self._server} {_shown(name)}"

    def _say(self, name: str, sha256: str, what: str) -> None:
        said = self._said.setdefault(name, [])
        if sha256 not in said and len(said) < MOST_SAID:
            said.append(sha256)
            log.warning("server %s: tool %s %s", self._server, _shown(name), what)

    def _say_too_many(self, name: str) -> None:
        """Once, and not for each of them."""
        if not self._has_too_many:
            self._has_too_many = True
            how = "are withheld" if self.blocks else "are not pinned"
            text = "server %s: tool %s is one of more than %d tools: it and those behind it %s"
            log.warning(text, self._server, _shown(name), MOST_TOOLS, how)

    def _sha256(self, tool: bytes) -> str:
        known = self._known.get(tool)
        if known is None:
            if self._known_bytes > MOST_KNOWN:
                self._known.clear()
                self._known_bytes = 0
            known = self._known[tool] = define(tool, "").sha256
            self._known_bytes += len(tool)
        return known

    def _now(self) -> str:
        return datetime.fromtimestamp(self._wall(), UTC).isoformat(timespec="seconds")


def _shown(name: str) -> str:
    return ascii(name[:SHOWN])
