"""Requests of the modern era: to a child that speaks it they go as they are, to any other one translated.

Which of the two a server speaks is asked once, of a process of its own: the pipe of a session is never probed. The
verdict is kept until it is contradicted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from bridge.children.exchange import Exchange
from bridge.children.policy import INTERACTIVE_CHILDREN, Need
from bridge.children.registry import Registry
from bridge.children.stream import RequestStream
from bridge.protocol import jsontext, translate
from bridge.protocol.errors import Fault, OtherEra, Rejection, client_gone
from bridge.protocol.modern import DISCOVER, LISTEN, ModernRequest, check_parameters
from bridge.protocol.subscriptions import end_of
from bridge.sessions.bridge import BridgeClient, BridgeClients
from bridge.sessions.down import Answered, DownCall, children_of, is_alone
from bridge.sessions.listen import DownListen
from bridge.sessions.mirrored import Mirrored, MirroredArguments
from bridge.sessions.parking import Parking
from bridge.sessions.pool import Entry
from bridge.sessions.timing import Timing

#: Most subscriptions to one server that are open at once (as in the official SDKs).
MOST_LISTENS = 1024
#: Clients of the bridge that are found at once, by server and principal; more are looked for in the pool.
MOST_REMEMBERED = 1024

Headers = Mapping[str, list[str]]


class ModernAnswer(msgspec.Struct, frozen=True):
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
        self._listens: dict[RequestStream, tuple[str, Callable[[], None]]] = {}  # their server; how they end well
        self._entries: dict[tuple[str, str], Entry[BridgeClient]] = {}  # by server and principal
        self._mirrored = MirroredArguments(registry, clients.pool, timing)

    async def answer(self, server: str, asked: ModernRequest, headers: Headers, principal: str) -> ModernAnswer:
        """Send a request on its way. Raises :class:`Rejection`, and what a lease raises."""
        entry = self._entries.get((server, principal))
        if entry is None or self._clients.pool.find(entry.key) is not entry:
            entry = await self._remember(server, principal)
        if asked.method == "tools/call" and asked.name is not None:
            mirrored = self._mirrored.known(entry, asked)
            if mirrored is None:
                with self._clients.pool.using(entry):  # nobody who needs room may end it meanwhile
                    mirrored = await self._read_mirrored(entry, asked)
            if asked.name in mirrored:
                check_parameters(asked.request, headers, mirrored[asked.name])
        if asked.method == LISTEN:
            check_listens(sum(1 for at, _ in self._listens.values() if at == server))
        if asked.method == DISCOVER and not entry.session.is_modern:
            stream = Answered(asked.request.id)
            stream.result(translate.discovered(entry.session.greeting))
            return ModernAnswer(stream, _nothing)
        if asked.method == LISTEN and not entry.session.is_modern:
            return await self._listen_down(server, asked, principal)
        parked = self._parked(entry, asked, principal)
        if parked is not None:
            return ModernAnswer(parked.retry(asked), parked.abandon)
        if entry.session.is_modern:
            return await self._forward(entry, asked, principal)
        return await self._call_down(entry, asked, principal)

    def answer_now(self, server: str, asked: ModernRequest, headers: Headers, principal: str) -> ModernAnswer | None:
        """Do the same where nothing has to be waited for, else nothing and return None."""
        entry = self._entries.get((server, principal))
        if entry is None or self._clients.pool.find(entry.key) is not entry or asked.method in (LISTEN, DISCOVER):
            return None
        if asked.method == "tools/call" and asked.name is not None:
            mirrored = self._mirrored.known(entry, asked)
            if mirrored is None:
                return None
            if asked.name in mirrored:
                check_parameters(asked.request, headers, mirrored[asked.name])
        is_modern = entry.session.is_modern
        if not is_modern and is_alone(asked):
            return None
        if (self.parking or not is_modern) and jsontext.member(asked.request.params, "requestState"):
            return None  # it may go on with a call that waits for it
        if is_modern:
            exchange = self._forwarded(entry, asked, principal)
            return _forwarding(exchange) if self._sends(entry, exchange) else None
        call = self._called_down(entry, asked, principal)
        return ModernAnswer(call.first, call.abandon) if self._sends(entry, call.exchange) else None

    def finish_listens(self, server: str | None = None) -> None:
        """End all subscriptions, or those to one server, in good order; their clients open them anew."""
        for at, finish in list(self._listens.values()):
            if server in (None, at):
                finish()

    async def _remember(self, server: str, principal: str) -> Entry[BridgeClient]:
        entry = await self._client(server, principal)
        if len(self._entries) >= MOST_REMEMBERED:
            self._entries.clear()
        self._entries[server, principal] = entry
        return entry

    async def _client(self, server: str, principal: str) -> Entry[BridgeClient]:
        """The bridge's client on a server, in the era of that server: a modern one is everybody's."""
        if self._registry.speaks_modern(server) is not False:
            try:
                entry = await self._clients.client(server, "", Need.MODERN, principal)
            except OtherEra:
                self._registry.learn(server, modern=False)
            else:
                self._registry.learn(server, modern=True)
                return entry
        entry = await self._clients.client(server, principal)
        if self._registry.speaks_handshake(server):
            return entry
        entry = await self._clients.client(server, "", Need.MODERN, principal)  # it has refused initialize just now
        self._registry.learn(server, modern=True)
        return entry

    async def _read_mirrored(self, entry: Entry[BridgeClient], asked: ModernRequest) -> Mirrored:
        """What the client must repeat in headers, where nobody knows."""
        server = entry.session.server
        if not entry.session.is_modern:
            if "requestState" in jsontext.fields(asked.request.params):
                return {}  # the call that waits for it was looked at, and may hold the child that could be asked
            self.parking.make_room(server, INTERACTIVE_CHILDREN)
        return await self._mirrored.read(entry, asked)

    def _parked(self, entry: Entry[BridgeClient], asked: ModernRequest, principal: str) -> DownCall | None:
        """The call that a retry goes on with, on the child where it began, even where its server has changed its era.

        Raises :class:`Rejection` for a ``requestState`` that is good for nothing.
        """
        is_modern, server = entry.session.is_modern, entry.session.server
        if is_modern and not self.parking:
            return None
        state = jsontext.string(jsontext.member(asked.request.params, "requestState"))
        if state is None or (is_modern and not self.parking.holds(state)):  # a modern server has states of its own
            return None
        parked = self.parking.take(state, asked.request, principal, server)
        return parked if isinstance(parked, DownCall) else None

    async def _forward(self, entry: Entry[BridgeClient], asked: ModernRequest, principal: str) -> ModernAnswer:
        """To a modern child: as it is, ids and tokens apart."""
        exchange = self._forwarded(entry, asked, principal)
        if asked.method == LISTEN:
            self._listens[exchange] = entry.session.server, lambda: exchange.finish(end_of(asked.request.id))
        try:
            silence = None if asked.method == LISTEN else self._timing.silence(entry.session.server)
            await entry.session.seat.send(exchange, silence)
        except BaseException:
            self._listens.pop(exchange, None)
            self._clients.pool.leave(entry)
            raise
        return _forwarding(exchange)

    def _forwarded(self, entry: Entry[BridgeClient], asked: ModernRequest, principal: str) -> Exchange:
        pool = self._clients.pool

        def ended(exchange: Exchange) -> None:
            pool.leave(entry)
            self._listens.pop(exchange, None)

        exchange = Exchange(asked.request, ended)
        exchange.log_level, exchange.asker = asked.log_level, principal
        pool.enter(entry)
        return exchange

    def _sends(self, entry: Entry[BridgeClient], exchange: Exchange) -> bool:
        """Send a request that has entered where nothing has to be waited for; else let it leave and return False."""
        is_sent = False
        try:
            is_sent = entry.session.seat.send_now(exchange, self._timing.silence(entry.session.server))
        finally:
            if not is_sent:
                self._clients.pool.leave(entry)
        return is_sent

    async def _call_down(self, entry: Entry[BridgeClient], asked: ModernRequest, principal: str) -> ModernAnswer:
        """To a handshake child: alone on it if it may ask or log, together with others if not."""
        server = entry.session.server
        if is_alone(asked):
            info = jsontext.member(entry.session.greeting, "serverInfo")
            self.parking.make_room(server, INTERACTIVE_CHILDREN)
            lease = await self._registry.lease(server, children_of(asked, principal), principal)
            try:  # the call reads its params too, deeper in the stack than those who have looked at them before
                call = DownCall(asked, server, info, self.parking, principal, lease, lease.release)
                lease.connection.exchange(call.exchange, self._timing.silence(server))
            except BaseException:
                lease.release()
                raise
        else:
            call = self._called_down(entry, asked, principal)
            try:
                await entry.session.seat.send(call.exchange, self._timing.silence(server))
            except BaseException:
                self._clients.pool.leave(entry)
                raise
        return ModernAnswer(call.first, call.abandon)

    def _called_down(self, entry: Entry[BridgeClient], asked: ModernRequest, principal: str) -> DownCall:
        """A call on a child that others share, which counts as running from now on."""
        pool, server = self._clients.pool, entry.session.server
        info = jsontext.member(entry.session.greeting, "serverInfo")
        call = DownCall(asked, server, info, self.parking, principal, None, lambda: pool.leave(entry))
        pool.enter(entry)
        return call

    async def _listen_down(self, server: str, asked: ModernRequest, principal: str) -> ModernAnswer:
        seat = await self._registry.seat(server, Need.BRIDGE, principal)
        try:
            watch = self._registry.pool(server).watch(children_of(asked, principal))
            listen = DownListen(asked, seat, watch, lambda: self._listens.pop(listen, None))
        except BaseException:
            seat.release()
            raise
        self._listens[listen] = server, listen.finish
        try:
            await listen.open()
        except BaseException:
            listen.close()
            raise
        return ModernAnswer(listen, listen.close)


def check_listens(is_open: int) -> None:
    """Raise :class:`Rejection` where so many subscriptions are all that there may be."""
    if is_open >= MOST_LISTENS:
        raise Rejection(Fault.INTERNAL, f"all {MOST_LISTENS} subscriptions are in use")


def _forwarding(exchange: Exchange) -> ModernAnswer:
    return ModernAnswer(exchange, lambda: exchange.abandon(client_gone()))


def _nothing() -> None:
    """Nothing runs that could be cancelled."""
