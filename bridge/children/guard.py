"""A connection to a child some of whose tools are not for clients: they are in no list, and no call reaches them.

Every way to a child ends in a connection, so this is the one place. Servers that need no guard have plain connections.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from bridge.children.connection import ChildConnection, Exchange
from bridge.children.transport import Connect
from bridge.protocol import messages, tools
from bridge.protocol.errors import INVALID_PARAMS, BridgeError
from bridge.protocol.tools import ToolNames

log = logging.getLogger(__name__)


class Guard:
    """What clients of one server get to see."""

    def __init__(self, names: ToolNames) -> None:
        self._names = names

    def passed(self, line: bytes) -> bytes:
        """Return an answer to ``tools/list`` as clients get to see it."""
        found = tools.tools_in(line)
        return line if found is None else tools.without(line, found, self._is_shown)

    def refusal(self, name: str) -> str | None:
        """Why a tool cannot be called; None when it can."""
        return None if self._is_shown(name) else f"Unknown tool: {name}"

    def _is_shown(self, name: str) -> bool:
        return name != "" and self._names.permit(name)


class GuardedConnection(ChildConnection):
    """A connection behind a guard."""

    def __init__(self, server: str, connect: Connect, on_stderr: Callable[[bytes], None], guard: Guard) -> None:
        super().__init__(server, connect, on_stderr)
        self._guard = guard

    def exchange(self, exchange: Exchange, silence: float | None = None) -> None:
        """Send a request, unless it calls what is not there for clients."""
        method = exchange.request.method
        if method == tools.LIST:
            listing = _Listing(exchange, self._guard)
            super().exchange(listing, silence)
            exchange.relay = listing
        elif method != tools.CALL or self._may_call(exchange):
            super().exchange(exchange, silence)

    def send(self, line: bytes) -> None:
        """Write a line that wants no answer, which a call does: a server might do it all the same."""
        if tools.is_call(line):
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
