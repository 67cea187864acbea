"""Which arguments of which tools a client must repeat in headers (specification 2026-07-28, ``x-mcp-header``).

The input schemas tell, so the tools are listed once for each set of capabilities that clients of a server have: some
tools are there only for clients that can be asked. They are listed anew when the server says that they have changed.
"""

from __future__ import annotations

from bridge.aio.flights import Flights
from bridge.children.pooled_seat import PooledSeat
from bridge.children.registry import Registry
from bridge.children.seat import Seat
from bridge.protocol import translate
from bridge.protocol.headers import mirrored_tools
from bridge.protocol.modern import ModernRequest
from bridge.protocol.mux import Undirected
from bridge.sessions.bridge import BridgeClient
from bridge.sessions.down import children_of, is_alone
from bridge.sessions.listing import Refused, pages
from bridge.sessions.pool import Entry, SessionPool
from bridge.sessions.timing import Timing

#: Sets of capabilities of one server whose tools are known at the same time; over it the oldest one is forgotten.
MOST_SETS = 64
TOOLS_CHANGED = "notifications/tools/list_changed"

#: By tool: which arguments headers repeat.
Mirrored = dict[str, dict[str, tuple[str, ...]]]
#: Requests that see the same tools: what their client offers, and whether they want no log.
_Key = tuple[bytes, bool]


class MirroredArguments:
    """What is known of the tools of all servers."""

    def __init__(self, registry: Registry, pool: SessionPool[BridgeClient], timing: Timing) -> None:
        self._registry = registry
        self._pool = pool
        self._timing = timing
        self._servers: dict[str, _Server] = {}  # by the key of the bridge's client there

    def known(self, entry: Entry[BridgeClient], asked: ModernRequest) -> Mirrored | None:
        """What the client of a request must repeat; None when :meth:`read` has to find out.

        ``entry`` is the bridge's client at the server: another one may find other tools there.
        """
        server = self._servers.get(entry.key)
        return server.known.get(_key(asked)) if server is not None and server.entry is entry else None

    async def read(self, entry: Entry[BridgeClient], asked: ModernRequest) -> Mirrored:
        """List the tools that the client of a request sees. Raises what :meth:`Seat.send` raises."""
        server = self._servers.get(entry.key)
        if server is None or server.entry is not entry:
            self._forget_the_gone()
            server = self._servers[entry.key] = _Server(entry)
            entry.session.listen(server.hear)
        return await server.reading.join(_key(asked), lambda: self._read(server, asked))

    def _forget_the_gone(self) -> None:
        for key, server in [*self._servers.items()]:
            if self._pool.find(key) is not server.entry:
                del self._servers[key]
                server.forget()

    async def _read(self, server: _Server, asked: ModernRequest) -> Mirrored:
        seat = self._seat(server, asked)
        changes = server.changes
        found = await self._list(server.entry, seat, asked.capabilities)
        if found is None:
            return {}  # the next call asks again
        if changes == server.changes:
            server.keep(_key(asked), found)
        return found

    def _seat(self, server: _Server, asked: ModernRequest) -> Seat:
        """Where the client of a request sees its tools."""
        name = server.entry.session.server
        if server.entry.session.is_modern or not is_alone(asked):
            return server.entry.session.seat
        seat = server.seats.get(_key(asked))
        if seat is None:
            sharing = children_of(asked, server.entry.session.owner)
            seat = server.seats[_key(asked)] = PooledSeat(self._registry.pool(name), sharing, b"")
            seat.listen(server.hear)
            while len(server.seats) > MOST_SETS:
                server.seats.pop(next(iter(server.seats))).release()
        return seat

    async def _list(self, entry: Entry[BridgeClient], seat: Seat, capabilities: bytes) -> Mirrored | None:
        found: Mirrored = {}
        modern = entry.session.is_modern
        silence = self._timing.bridge_silence(entry.session.server)

        def completed(params: bytes) -> bytes:
            return translate.params_up(params, capabilities, b"", None) if modern else params

        try:
            with self._pool.using(entry):
                async for result in pages(seat, silence, completed):
                    found |= {name: mirrored for name, mirrored in mirrored_tools(result).items() if mirrored}
        except Refused as refused:
            return {} if refused.has_none else None
        return found


def _key(asked: ModernRequest) -> _Key:
    return asked.capabilities, asked.log_level is None


class _Server:
    """What is known of one server's tools, as long as the bridge's client there is the same."""

    def __init__(self, entry: Entry[BridgeClient]) -> None:
        self.entry = entry
        self.changes = 0
        self.known: dict[_Key, Mirrored] = {}
        self.seats: dict[_Key, Seat] = {}
        self.reading: Flights[_Key, Mirrored] = Flights("tools")

    def hear(self, message: Undirected) -> None:
        """What a child announces."""
        if message.method == TOOLS_CHANGED:
            self.changed()

    def changed(self) -> None:
        """Nothing that is known can be relied on."""
        self.changes += 1
        self.known.clear()

    def keep(self, key: _Key, found: Mirrored) -> None:
        """Remember what has been read."""
        self.known[key] = found
        while len(self.known) > MOST_SETS:
            del self.known[next(iter(self.known))]

    def forget(self) -> None:
        """The bridge's client at this server has ended."""
        for seat in self.seats.values():
            seat.release()
