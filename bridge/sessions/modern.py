"""Requests of the modern era: to a child that speaks it they go as they are, to any other one translated.

Which of the two a server speaks is asked once, of a process of its own: the pipe of a session is never probed. The
verdict is kept until it is contradicted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bridge.children.connection import Exchange
from bridge.children.policy import INTERACTIVE_CHILDREN, Need, interactive
from bridge.children.registry import Registry
from bridge.children.stream import RequestStream
from bridge.protocol import messages, translate
from bridge.protocol.errors import Fault, OtherEra, Rejection, client_gone
from bridge.protocol.messages import Request
from bridge.protocol.modern import (
    DISCOVER,
    LISTEN,
    ModernRequest,
    check_parameters,
    mirrored_parameters,
)
from bridge.sessions.bridge import BridgeClient, BridgeClients
from bridge.sessions.down import Answered, DownCall
from bridge.sessions.listen import DownListen
from bridge.sessions.parking import Parking
from bridge.sessions.pool import Entry
from bridge.sessions.timing import Timing

#: Most subscriptions that are open at once (as in the official SDKs).
MOST_LISTENS = 1024

Headers = Mapping[str, list[str]]
#: By tool: which arguments headers repeat.
Mirrored = dict[str, dict[str, tuple[str, ...]]]


@dataclass(frozen=True, slots=True)
class ModernAnswer:
    """What answers one POST: its stream, and what to do when the client closes it before its end."""

    stream: RequestStream
    cancel: Callable[[], None]


class ModernCalls:
    """Serves modern requests, on children of either era."""

    def __init__(self, registry: Registry, clients: BridgeClients, timing: Timing, parking: Parking) -> None:
        self._registry = registry
        self._clients = clients
        self._timing = timing
        self.parking = parking
        self._listens = 0
        self._entries: dict[str, Entry[BridgeClient]] = {}
        self._mirrored: dict[str, tuple[str, Mirrored]] = {}

    async def answer(self, server: str, asked: ModernRequest, headers: Headers, principal: str) -> ModernAnswer:
        """Send a request on its way. Raises :class:`Rejection`, and what a lease raises."""
        entry = self._entries.get(server)
        if entry is None or self._clients.pool.find(entry.key) is not entry:
            entry = self._entries[server] = await self._client(server)
        if asked.method == "tools/call" and asked.name is not None:
            mirrored = self._mirrored.get(server)
            if mirrored is None or mirrored[0] != entry.session.label:  # another child may have other tools
                mirrored = self._mirrored[server] = entry.session.label, await self._tools(entry)
            if asked.name in mirrored[1]:
                check_parameters(asked.request, headers, mirrored[1][asked.name])
        if asked.method == LISTEN and self._listens >= MOST_LISTENS:
            raise Rejection(Fault.INTERNAL, f"all {MOST_LISTENS} subscriptions are in use")
        if self._registry.speaks_modern(server):
            return await self._forward(entry, asked)
        if asked.method == DISCOVER:
            stream = Answered(asked.request.id)
            stream.result(translate.discovered(entry.session.greeting))
            return ModernAnswer(stream, _nothing)
        if asked.method == LISTEN:
            return await self._listen_down(server, asked)
        return await self._call_down(entry, asked, principal)

    async def _client(self, server: str) -> Entry[BridgeClient]:
        """The bridge's client on a server, in the era of that server."""
        if self._registry.speaks_modern(server) is not False:
            try:
                entry = await self._clients.client(server, Need.MODERN)
            except OtherEra:
                self._registry.learn(server, modern=False)
            else:
                self._registry.learn(server, modern=True)
                return entry
        return await self._clients.client(server, Need.BRIDGE)

    async def _forward(self, entry: Entry[BridgeClient], asked: ModernRequest) -> ModernAnswer:
        """To a modern child: as it is, ids and tokens apart."""
        pool = self._clients.pool
        listens = 1 if asked.method == LISTEN else 0

        def ended(_: Exchange) -> None:
            pool.leave(entry)
            self._listens -= listens

        exchange = Exchange(asked.request, ended)
        exchange.log_level = asked.log_level
        pool.enter(entry)
        self._listens += listens
        try:
            silence = None if asked.method == LISTEN else self._timing.silence(entry.session.server)
            await entry.session.seat.send(exchange, silence)
        except BaseException:
            ended(exchange)
            raise
        return ModernAnswer(exchange, lambda: exchange.abandon(client_gone()))

    async def _call_down(self, entry: Entry[BridgeClient], asked: ModernRequest, principal: str) -> ModernAnswer:
        """To a handshake child: alone on it if it may ask or log, together with others if not."""
        server = entry.session.server
        state = messages.string(messages.member(asked.request.params, "requestState"))
        if state is not None:
            parked = self.parking.take(state, asked.request, principal, server)
            if isinstance(parked, DownCall):
                return ModernAnswer(parked.retry(asked), parked.abandon)
        info = messages.member(entry.session.greeting, "serverInfo")
        # Lists too: servers have tools that only clients of certain capabilities get to see.
        if messages.fields(asked.capabilities) or asked.log_level is not None:
            self.parking.make_room(server, INTERACTIVE_CHILDREN)
            lease = await self._registry.pool(server).lease(interactive(_canonical(asked.capabilities)))
            call = DownCall(asked, server, info, self.parking, principal, lease, lease.release)
            try:
                lease.connection.exchange(call.exchange, self._timing.silence(server))
            except BaseException:
                lease.release()
                raise
        else:
            pool = self._clients.pool
            call = DownCall(asked, server, info, self.parking, principal, None, lambda: pool.leave(entry))
            pool.enter(entry)
            try:
                await entry.session.seat.send(call.exchange, self._timing.silence(server))
            except BaseException:
                pool.leave(entry)
                raise
        return ModernAnswer(call.first, call.abandon)

    async def _listen_down(self, server: str, asked: ModernRequest) -> ModernAnswer:
        seat = await self._registry.seat(server, Need.BRIDGE)

        def ended() -> None:
            self._listens -= 1

        self._listens += 1
        watch = self._registry.pool(server).watch(interactive(_canonical(asked.capabilities)))
        listen = DownListen(asked, seat, watch, ended)
        try:
            await listen.open()
        except BaseException:
            listen.close()
            raise
        return ModernAnswer(listen, listen.close)

    async def _tools(self, entry: Entry[BridgeClient]) -> Mirrored:
        """Which arguments of which tools headers repeat."""
        found: Mirrored = {}
        cursor: str | None = None
        modern = self._registry.speaks_modern(entry.session.server)
        while True:
            params = b"{}" if cursor is None else messages.encode({"cursor": cursor})
            if modern:
                params = translate.params_up(params, b"{}", b"", None)
            exchange = Exchange(Request(b"0", "tools/list", params))
            with self._clients.pool.using(entry):
                await entry.session.seat.send(exchange, self._timing.bridge_silence(entry.session.server))
                answer = messages.fields(await exchange.receive())
            result = messages.fields(bytes(answer.get("result", b"")))
            for tool in messages.items(bytes(result.get("tools", b""))):
                members = messages.fields(bytes(tool))
                name = messages.string(bytes(members.get("name", b"")))
                if name is not None:
                    found[name] = mirrored_parameters(messages.decode(bytes(members.get("inputSchema", b""))))
            cursor = messages.string(bytes(result.get("nextCursor", b"")))
            if cursor is None:
                return {name: mirrored for name, mirrored in found.items() if mirrored}


def _canonical(capabilities: bytes) -> bytes:
    """The same text for the same capabilities, so that calls alike share a pool."""
    known = messages.decode(capabilities)
    return capabilities if known is None else messages.sorted_text(known).encode()


def _nothing() -> None:
    """Nothing runs that could be cancelled."""
