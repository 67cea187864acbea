"""The tools that the bridge's own clients see, for callers who want to know them before they call one.

They are listed once for each client, and again when the server says that they have changed.
"""

from __future__ import annotations

from functools import cached_property

from bridge.aio.flights import Flights
from bridge.protocol import jsontext
from bridge.protocol.arguments import ArgumentSchema, usable
from bridge.protocol.errors import Fault, Rejection
from bridge.protocol.mux import Undirected
from bridge.sessions.bridge import BridgeClient
from bridge.sessions.listing import Refused, pages
from bridge.sessions.mirrored import TOOLS_CHANGED
from bridge.sessions.pool import Entry, SessionPool
from bridge.sessions.timing import Timing


class Tool:
    """One tool: ``definition`` is what the server says of it, as JSON text."""

    def __init__(self, name: str, definition: bytes) -> None:
        self.name = name
        self.definition = definition

    @cached_property
    def input(self) -> ArgumentSchema | None:
        """What arguments must be; None where that cannot be told."""
        return usable(jsontext.member(self.definition, "inputSchema"))

    @cached_property
    def output(self) -> ArgumentSchema | None:
        """What structured results are; None where that cannot be told."""
        return usable(jsontext.member(self.definition, "outputSchema"))


Tools = dict[str, Tool]


class Catalogue:
    """What is known of the tools of all servers. ``pool`` has the bridge's clients."""

    def __init__(self, pool: SessionPool[BridgeClient], timing: Timing) -> None:
        self._pool = pool
        self._timing = timing
        self._known: dict[str, _Known] = {}  # by the key of the client

    async def tools(self, entry: Entry[BridgeClient], *, anew: bool = False) -> Tools:
        """Return the tools that a client sees, by name; with ``anew`` what is known already does not count.

        Raises :class:`Rejection` when the server lists none, and what :meth:`Seat.send` raises.
        """
        known = self._known.get(entry.key)
        if known is None or known.entry is not entry:
            self._forget_the_gone()
            known = self._known[entry.key] = _Known(entry)
            entry.session.listen(known.hear)
        if known.is_current and not anew:
            return known.tools
        return await known.reading.join(None, lambda: self._read(known))

    def _forget_the_gone(self) -> None:
        for key, known in [*self._known.items()]:
            if self._pool.find(key) is not known.entry:
                del self._known[key]

    async def _read(self, known: _Known) -> Tools:
        changes, entry = known.changes, known.entry
        found: Tools = {}
        server = entry.session.server
        try:
            with self._pool.using(entry) as client:
                async for result in pages(client.seat, self._timing.bridge_silence(server), lambda params: params):
                    for tool in map(bytes, jsontext.items(jsontext.member(result, "tools"))):
                        name = jsontext.string(jsontext.member(tool, "name"))
                        if name:
                            old = known.tools.get(name)  # it may have read its schemas
                            found[name] = old if old is not None and old.definition == tool else Tool(name, tool)
        except Refused as refused:
            if refused.failure is not None:
                raise refused.failure from None
            if not refused.has_none:
                why = f'server "{server}" does not list its tools: {refused}'
                raise Rejection(Fault.CHILD_FAILED, why) from None
        known.tools = found
        known.is_current = changes == known.changes
        return found


class _Known:
    """The tools of one client, as long as it lives."""

    def __init__(self, entry: Entry[BridgeClient]) -> None:
        self.entry = entry
        self.tools: Tools = {}
        self.is_current = False
        self.changes = 0
        self.reading: Flights[None, Tools] = Flights("tools")

    def hear(self, message: Undirected) -> None:
        """What the server announces."""
        if message.method == TOOLS_CHANGED:
            self.changes += 1
            self.is_current = False
