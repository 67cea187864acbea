"""A connection to a child some of whose tools are not for clients: they are in no list, and no call reaches them.

Every way to a child ends in a connection, so this is the one place. Servers that need no guard have plain connections.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from bridge.children.connection import ChildConnection
from bridge.children.exchange import Exchange
from bridge.children.pins import ServerPins
from bridge.config.server import ServerConfig
from bridge.protocol import messages, tools
from bridge.protocol.errors import INVALID_PARAMS, BridgeError
from bridge.protocol.tools import ALL_TOOLS, ToolNames
from bridge.protocol.transport import Connect

log = logging.getLogger(__name__)


class Guard:
    """What clients of one server get to see: tools of these names, as far as they are what was pinned.

    ``methods`` are the requests that it wants to look at.
    """

    def __init__(self, names: ToolNames, pins: ServerPins | None) -> None:
        self._names = names
        self._pins = pins
        self._hides = names != ALL_TOOLS or (pins is not None and pins.blocks)
        self.methods = frozenset((tools.LIST, tools.CALL) if self._hides else (tools.LIST,))

    def passed(self, line: bytes) -> bytes:
        """Return an answer to ``tools/list`` as clients get to see it."""
        found = tools.tools_in(line)
        if found is None:
            return line
        if self._pins is not None:
            self._pins.see(found, is_last=tools.is_last_page(line))
        return tools.without(line, found, self._is_shown) if self._hides else line

    def refusal(self, name: str) -> str | None:
        """Why a tool cannot be called; None when it can."""
        if name == "" or not self._names.permit(name):
            return f"Unknown tool: {name}"
        return None if self._pins is None else self._pins.refusal(name)

    def drops(self, line: bytes) -> bool:
        """Whether a line that wants no answer is one that a server might take for a call."""
        return self._hides and tools.is_call(line)

    def _is_shown(self, name: str, tool: bytes) -> bool:
        return name != "" and self._names.permit(name) and (self._pins is None or self._pins.is_shown(name, tool))


def guard_of(config: ServerConfig, pins: ServerPins | None) -> Guard | None:
    """Return the guard of a server; None where every tool is for clients, and none is pinned."""
    names = ToolNames(config.allowed_tools, config.disabled_tools)
    return None if names == ALL_TOOLS and pins is None else Guard(names, pins)


class GuardedConnection(ChildConnection):
    """A connection behind a guard."""

    def __init__(self, server: str, connect: Connect, on_stderr: Callable[[bytes], None], guard: Guard) -> None:
        super().__init__(server, connect, on_stderr)
        self._guard = guard
        self._methods = guard.methods

    def exchange(self, exchange: Exchange, silence: float | None = None) -> None:
        """Send a request, unless it calls what is not there for clients."""
        method = exchange.request.method
        if method not in self._methods:
            ChildConnection.exchange(self, exchange, silence)  # super() would be made for each call
        elif method == tools.LIST:
            listing = _Listing(exchange, self._guard)
            super().exchange(listing, silence)
            exchange.relay = listing
        elif self._may_call(exchange):
            super().exchange(exchange, silence)

    def send(self, line: bytes) -> None:
        """Write a line that wants no answer, which a call does: a server might do it all the same."""
        if self._guard.drops(line):
            log.debug("server %s: a call that wants no answer is dropped", self.server)
        else:
            super().send(line)

    def _may_call(self, exchange: Exchange) -> bool:
        call = tools.called(exchange.request)
        if call is None:
            refusal: str | None = "params.name must be there, once, and name a tool"
        else:
            name, exchange.request = call
            refusal = self._guard.refusal(name)
        if refusal is not None:
            # As the server itself would say it, so that clients show it.
            exchange.finish(messages.error_line(exchange.request.id, INVALID_PARAMS, refusal))
        return refusal is None


class _Listing(Exchange):
    """``tools/list`` as the child sees it, on behalf of the exchange of a client."""

    def __init__(self, asked: Exchange, guard: Guard) -> None:
        super().__init__(asked.request, into=asked)
        self.log_level = asked.log_level
        self._asked = asked
        self._guard = guard

    def finish(self, message: bytes) -> None:
        """Hand the answer on, as far as it is for the client."""
        if self._ends(message):
            self._asked.finish(self._guard.passed(message))

    def fail(self, failure: BridgeError) -> None:
        """Hand an error of the bridge on."""
        if self._ends(b""):
            self.failure = failure
            self._asked.fail(failure)

    def _ends(self, answer: bytes) -> bool:
        if self.ended:
            return False
        self.answer = answer
        self.end()
        if self.watch is not None:
            self.watch.end(self)
        return True
