"""The seat of a session at all servers at once: each request goes to the server that its name says.

Behind it is one :class:`Member` for each server, with a child that has heard what the client said at ``initialize``. A
server that cannot start, or takes too long, is missing from lists until it is there; the others do not wait for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, NamedTuple

from bridge.children.audience import uri_of
from bridge.children.crowd import SET_LEVEL, SUBSCRIBE, UNSUBSCRIBE, accept
from bridge.children.exchange import Exchange
from bridge.children.seat import Listener, Seat
from bridge.children.variables import OwnVariables
from bridge.protocol import jsontext, merged, messages, tasks
from bridge.protocol.errors import INVALID_PARAMS, BridgeError, Fault, cancelled, client_gone
from bridge.protocol.jsontext import Raw
from bridge.protocol.merged import LISTINGS, NO_CURSOR, NO_RESOURCE, Index, Listing
from bridge.protocol.messages import Request, Response
from bridge.protocol.mux import CANCELLED, PROGRESS, Undirected
from bridge.protocol.subscriptions import LIST_CHANGED, UPDATED
from bridge.protocol.translate import WRONG_LEVEL, level_in
from bridge.protocol.versions import LATEST_HANDSHAKE, is_handshake
from bridge.sessions.gathering import Gathering
from bridge.sessions.listing import Refused, pages
from bridge.sessions.member import Member
from bridge.sessions.recording import Recording
from bridge.sessions.roster import Roster, View
from bridge.sessions.seating import Seating
from bridge.sessions.timing import Timing
from bridge.version import __version__

log = logging.getLogger(__name__)


class Seen(Request, frozen=True, kw_only=True):
    """A request, and what its client sees with the token that it came with: another may see less."""

    view: View


class Routed(Request, frozen=True, gc=False):
    """A request as its server gets it, and the name that its client knows its subject by."""

    server: str = ""
    public: str = ""


class _Question(NamedTuple):
    """Who asked it, and the token under which that wants to hear of progress."""

    member: Member
    token: Raw | None


class AggregateSeat:
    """``view`` is what its client saw at first; ``variables`` what it has put into the environment of a server's child.

    ``greets``: whether the client will never initialize, so that the bridge does.
    """

    def __init__(
        self,
        roster: Roster,
        seating: Seating,
        timing: Timing,
        view: View,
        owner: str,
        variables: Callable[[str], OwnVariables | None],
        *,
        greets: bool,
    ) -> None:
        self.view = view
        self.on_closed: Callable[[], None] = _nothing
        self._roster = roster
        self._seating = seating
        self._timing = timing
        self._owner = owner
        self._variables = variables
        self._greets = greets
        self._said: bytes | None = None  # params of the client's initialize
        self._level: str | None = None
        self._recordings: dict[str, Recording] = {}  # by server, whichever of its configurations a member is of
        self._members: dict[str, Member] = {}
        self._retired: list[Member] = []
        self._asked: dict[int, _Question] = {}
        self._taken: tasks.Tokens[_Question] = tasks.Tokens()  # questions that are tasks of the client
        self._index = Index()
        self._spelled: dict[tuple[str, str], str] = {}  # resources as the client subscribed to them
        self._listener: Listener = _nothing
        self._gathering = Gathering(roster)
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def greeting(self) -> bytes:
        """InitializeResult, where the bridge greets; else the client's own ``initialize`` is answered."""
        return self._initialized(LATEST_HANDSHAKE) if self._greets else b""

    @property
    def pid(self) -> int | None:
        """Process id of one of its children."""
        return next((member.pid for member in self._members.values() if member.pid is not None), None)

    @property
    def frees(self) -> bool:
        """Whether its release ends a child."""
        return any(member.frees for member in self._members.values())

    @property
    def obituary(self) -> str:
        """It does not end with any child."""
        return "its children ended"

    @property
    def closed(self) -> bool:
        """It depends on no child."""
        return False

    def listen(self, listener: Listener) -> None:
        """Hear what any of the servers says."""
        self._listener = listener

    def introduce(self, params: bytes) -> None:
        """What the client said at ``initialize``, for each child to hear."""
        self._said = params

    def greeted(self) -> None:
        """It has answered by itself."""

    async def routed(self, request: Request, permits: Callable[[str], bool]) -> Routed | Seen:
        """Return a request as its server gets it, or where it is for all, or nobody is meant, with what it may see.

        ``permits`` says it of a server: by its own token, and not by that of another request of this session.
        """
        view = View(self.view.chosen, permits)
        subject = merged.subject(request)
        if subject is not None:
            listing, public = subject
            origin = await self._roster.find(self._index, listing, public, view, lambda each: self._read(each, view))
            if origin is not None:
                inner = merged.about(request, listing, origin[1])
                return Routed(inner.id, inner.method, inner.params, server=origin[0], public=public)
        return Seen(request.id, request.method, request.params, view=view)

    async def send(self, exchange: Exchange, silence: float | None) -> None:
        """Send a request to its server, or answer it for all of them. Raises what :meth:`Member.send` raises."""
        request = exchange.request
        if request.method == "initialize":
            self._own(self._initialize(exchange), exchange)
        elif request.method == "ping":
            accept(exchange)
        elif request.method == SET_LEVEL:
            await self._set_level(exchange)
        elif isinstance(request, Seen) and request.method in LISTINGS:
            self._own(self._list(exchange, LISTINGS[request.method], request.view), exchange)
        elif isinstance(request, Routed):
            await self._forward(exchange, request)
        else:
            _refuse(exchange, merged.refusal(request, NO_RESOURCE))

    def send_now(self, exchange: Exchange, silence: float | None) -> bool:
        """No: who has what may have to be asked first."""
        return False

    async def _forward(self, exchange: Exchange, request: Routed) -> None:
        exchange.request = request
        if request.method == SUBSCRIBE:
            self._spelled[request.server, uri_of(request.params)] = request.public
        elif request.method == UNSUBSCRIBE:
            self._spelled.pop((request.server, uri_of(request.params)), None)
        try:
            await self._member(request.server).send(exchange, self._timing.silence(request.server))
        except BridgeError as error:
            if error.fault not in (Fault.UNKNOWN_SERVER, Fault.UNKNOWN_SESSION):
                raise
            exchange.fail(error)  # told by a status, it would end the session

    def tell(self, line: bytes) -> None:
        """Pass a notification on; each child has been told by itself that it is initialized."""
        method, params = jsontext.string(jsontext.member(line, "method")), jsontext.member(line, "params")
        if method == PROGRESS:
            self._progressed(jsontext.fields(params))
            return
        if method == tasks.STATUS:
            self._taken.told(params)
        if method != "notifications/initialized":
            for member in self._members.values():
                member.tell(line)

    def _progressed(self, params: dict[str, Raw]) -> None:
        """How far the client is with a question is for the server that asked."""
        number = messages.number(bytes(params.get("progressToken", b""))) or 0
        question = self._asked.get(number) or self._taken.get(number)
        if question is not None and question.token is not None:
            params["progressToken"] = question.token
            question.member.tell(messages.notification_line(PROGRESS, jsontext.encode(params)))

    def answer(self, response: Response) -> bool:
        """Hand an answer to the server that asked."""
        number = messages.number(response.id) or 0
        question = self._asked.pop(number, None)
        if question is None:
            return False
        if question.token is not None and len(question.token) <= tasks.LONGEST_TOKEN:
            self._taken.answered(number, response.result, question)
        return question.member.answer(response)

    def refuse(self, question: int, why: str) -> None:
        """Answer a question with an error."""
        asked = self._asked.pop(question, None)
        if asked is not None:
            asked.member.refuse(question, why)

    def change(self, concerned: frozenset[str], gone: frozenset[str]) -> None:
        """Servers have come, gone or changed; children of those that are ``gone`` serve what they are at."""
        concerns = not concerned.isdisjoint([*self._members, *self._roster.servers(self.view)])
        self._retired = [member for member in self._retired if not member.is_released]
        for server in gone & self._members.keys():
            self._retired.append(self._members.pop(server))
            self._retired[-1].retire()
        if concerns:
            self._announce(LIST_CHANGED)

    def release(self) -> None:
        """Give back everything."""
        self._gathering.cancel()
        for task in self._tasks:
            task.cancel()
        for member in (*self._members.values(), *self._retired):
            member.release()

    async def gone(self) -> None:
        """Wait for the end of all its children."""
        await asyncio.gather(*(member.gone() for member in (*self._members.values(), *self._retired)))

    def _member(self, server: str) -> Member:
        member = self._members.get(server)
        if member is None:
            recording = self._recordings.setdefault(server, Recording(self._said, self._level, of_many=True))

            def take(coming: Callable[[Seat], None]) -> Awaitable[tuple[Seat, bytes]]:
                return self._seating.introduced(server, self._owner, self._variables(server), recording, coming)

            member = self._members[server] = Member(server, recording, take, self._hear, self._lost)
        return member

    async def _initialize(self, exchange: Exchange) -> None:
        asked = jsontext.string(jsontext.member(exchange.request.params, "protocolVersion")) or ""
        members = {server: self._member(server) for server in self._roster.servers(self.view)}
        greeting = {server: member.ready() for server, member in members.items()}
        await self._gathering.all(greeting, lambda: self._announce(LIST_CHANGED))
        result = self._initialized(asked if is_handshake(asked) else LATEST_HANDSHAKE)
        exchange.finish(messages.response_line(Response(exchange.request.id, result)))

    def _initialized(self, version: str) -> bytes:
        greetings = {server: member.greeting for server, member in self._members.items() if member.greeting}
        result = {
            "protocolVersion": version,
            "capabilities": merged.capabilities(greetings.values()),
            "serverInfo": {"name": "mcp-bridge", "version": __version__},
        }
        if text := merged.instructions(greetings, self._roster.separator):
            result["instructions"] = text
        return jsontext.encode(result)

    async def _set_level(self, exchange: Exchange) -> None:
        level = level_in(exchange.request.params)
        if level is None:
            _refuse(exchange, {"code": INVALID_PARAMS, "message": WRONG_LEVEL})
            return
        self._level = level
        for recording in self._recordings.values():
            recording.level = level
        for member in self._members.values():
            if member.is_ready and member.has("logging"):
                await member.send(Exchange(Request(b"0", SET_LEVEL, exchange.request.params)), None)
        accept(exchange)

    async def _list(self, exchange: Exchange, listing: Listing, view: View) -> None:
        if merged.has_cursor(exchange.request):
            _refuse(exchange, NO_CURSOR)
            return
        result = jsontext.encode({listing.member: await self._read(listing, view)})
        exchange.finish(messages.response_line(Response(exchange.request.id, result)))

    async def _read(self, listing: Listing, view: View) -> list[Raw]:
        """Ask every server of a view for a list, and learn from it."""
        servers = self._roster.servers(view)
        if set(servers).issuperset(self._roster.servers(self.view)):
            self._index.stale.discard(listing)  # before: what is announced meanwhile counts
        reading = {server: self._items(self._member(server), listing) for server in servers}
        found = await self._gathering.lists(reading, lambda: self._announce([listing.changed]))
        return self._index.learn(listing, found, self._roster.prefixes)

    async def _items(self, member: Member, listing: Listing) -> list[bytes] | None:
        """What one server lists; None when it cannot be had."""
        found: list[bytes] = []
        try:
            await member.ready()
            if member.has(listing.group):
                silence = self._timing.bridge_silence(member.server)
                async for result in pages(member, silence, lambda params: params, listing.method):
                    found += map(bytes, jsontext.items(jsontext.member(result, listing.member)))
        except (BridgeError, Refused) as error:
            if not isinstance(error, Refused) or not error.has_none:
                log.warning("server %s is not in %s of all servers: %s", member.server, listing.method, error)
                return None
        return found

    def _announce(self, methods: Iterable[str]) -> None:
        for method in sorted(methods):
            self._changed(method)
            self._listener(Undirected(method, messages.notification_line(method)))

    def _changed(self, method: str) -> None:
        self._index.stale |= {listing for listing in LISTINGS.values() if listing.changed == method}

    def _hear(self, member: Member, message: Undirected) -> None:
        if message.question is not None:
            if message.method == CANCELLED:
                self._asked.pop(message.question, None)
            else:
                line, token = merged.question(message.message, message.question)
                self._asked[message.question] = _Question(member, token)
                message = Undirected(message.method, line, message.question)
        elif message.method in LIST_CHANGED:
            self._changed(message.method)
        elif message.method == UPDATED:
            line = merged.updated(message.message, lambda uri: self._public(member.server, uri))
            message = Undirected(UPDATED, line)
        self._listener(message)

    def _public(self, server: str, uri: str) -> str:
        return self._spelled.get((server, uri)) or self._index.public_of(server, uri)

    def _lost(self, member: Member) -> None:
        """What its child wanted to know, nobody wants to know any more."""
        self._taken.drop(lambda question: question.member is member)
        for number in [number for number, question in self._asked.items() if question.member is member]:
            del self._asked[number]
            params = jsontext.encode({"requestId": number})
            self._listener(Undirected(CANCELLED, messages.notification_line(CANCELLED, params), number))

    def _own(self, work: Coroutine[None, None, None], exchange: Exchange) -> None:
        """Do what ends an exchange, unless its client cancels that. What others are asked is for the next one."""
        task: asyncio.Task[Any] = asyncio.create_task(work)
        self._tasks.add(task)
        if exchange.request.method != "initialize":  # which MUST NOT be cancelled (specification, cancellation)
            exchange.on_cancel = task.cancel

        def done(task: asyncio.Task[Any]) -> None:
            self._tasks.discard(task)
            error = None if task.cancelled() else task.exception()
            if not exchange.ended:
                gone = cancelled() if exchange.is_cancelled else client_gone()
                exchange.fail(error if isinstance(error, BridgeError) else gone)

        task.add_done_callback(done)


def _refuse(exchange: Exchange, error: dict[str, Any]) -> None:
    exchange.finish(messages.response_line(Response(exchange.request.id, error=jsontext.encode(error))))


def _nothing(*_: object) -> None:
    """Nobody wants to know."""
