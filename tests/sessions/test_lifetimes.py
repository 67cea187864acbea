"""Any order of opening, calling, waiting, dying, restarting and ending: no session in use is ended, no ended session
answers, and the numbers always add up.

Children are fakes that die, answer and keep silent on demand, because hypothesis tries thousands of orders of events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bridge.children.exchange import Exchange
from bridge.children.policy import Need
from bridge.config.server import ServerConfig
from bridge.config.settings import read_settings
from bridge.protocol import jsontext, messages
from bridge.protocol.errors import BridgeError, ConnectionClosed
from bridge.protocol.messages import Request, Response
from bridge.sessions.directory import SessionDirectory
from bridge.sessions.keeper import Keeper
from bridge.sessions.kept import Kept
from bridge.sessions.pool import SessionPool
from bridge.sessions.reaper import STREAM_WORDS, Reaper
from bridge.sessions.room import Room, SessionEntry
from bridge.sessions.streamable import StreamableSession
from bridge.sessions.timing import Timing
from bridge.sessions.upkeep import Upkeep
from bridge.stores.memory import MemoryStore

T = TypeVar("T")

SERVERS = {
    "brief": ServerConfig("brief", ("x",), {}, session_ttl=100.0),
    "parked": ServerConfig("parked", ("x",), {}, session_ttl=300.0, idle_stop=50.0),
    "kept": ServerConfig("kept", ("x",), {}, persistent=True, idle_stop=80.0),
    "mortal": ServerConfig("mortal", ("x",), {}, persistent=True, session_ttl=200.0),
    "forgetful": ServerConfig("forgetful", ("x",), {}, persistent=True, restore="refuse", session_ttl=250.0),
}
USERS = ("ann", "bob")
INITIALIZE = b'{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}'
RESULT = b'{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"s","version":"1"}}'


class LastingStore(MemoryStore):
    """What a file would be: it outlives the bridge of a test."""

    name = "file"


class FakeSeat:
    """A child that answers at once, except what it is asked to keep open."""

    obituary = "it died"

    def __init__(self, greeting: bytes) -> None:
        self.greeting = greeting
        self.on_closed: Callable[[], None] = lambda: None
        self.closed = self.released = False
        self.heard = ["initialize"] if greeting else []
        self.open: list[Exchange] = []

    @property
    def pid(self) -> int:
        return 1

    async def send(self, exchange: Exchange, silence: float | None) -> None:
        self.send_now(exchange, silence)

    def send_now(self, exchange: Exchange, silence: float | None) -> bool:
        assert not self.released, "a request went to a child that was given back"
        if self.closed:
            raise ConnectionClosed("x", self.obituary)
        self.heard.append(exchange.request.method)
        if exchange.request.method == "long":
            self.open.append(exchange)
        else:
            result = RESULT if exchange.request.method == "initialize" else b"{}"
            exchange.finish(messages.response_line(Response(exchange.request.id, result)))
        return True

    def die(self) -> None:
        self.closed = True
        for exchange in self.open:
            exchange.fail(ConnectionClosed("x", self.obituary))
        self.on_closed()

    def tell(self, line: bytes) -> None:
        self.heard.append("initialized")

    def release(self) -> None:
        self.released = True

    async def gone(self) -> None:
        """It is gone at once."""

    def listen(self, listener: object) -> None: ...
    def introduce(self, params: bytes) -> None: ...
    def greeted(self) -> None: ...
    def refuse(self, question: int, why: str) -> None: ...
    def answer(self, response: Response) -> bool:
        return False


class FakeRegistry:
    """Starts as many of them as anyone wants."""

    entries = known = SERVERS

    def pool(self, server: str) -> None: ...

    async def seat(self, server: str, need: Need, variables: object, asker: str, words: bytes) -> FakeSeat:
        return FakeSeat(RESULT if need is Need.IMPLICIT else b"")


class Bridge:
    """Everything of one run of the bridge that knows sessions."""

    def __init__(self, clock: Callable[[], float], wall: Callable[[], float], store: LastingStore) -> None:
        registry: Any = FakeRegistry()
        timing = Timing(read_settings({}), SERVERS)
        self.pool: SessionPool[StreamableSession] = SessionPool("streamable", clock, limit=12)
        self.room = Room(self.pool, per_user=8, per_server=lambda _: None)
        self.keeper = Keeper(store, lambda record, events: self.sessions.adopt(record, events), lambda: None)
        kept = Kept(self.keeper, registry, self.pool, required=False, wall=wall)
        self.sessions = SessionDirectory(registry, self.pool, timing, self.room, kept)
        self.reaper = Reaper(self.pool, STREAM_WORDS, ttl=300.0, interval=100.0, enabled=True)
        self.upkeep = Upkeep(self.pool, self.sessions.seating, kept, timing)


class Lifetimes(RuleBasedStateMachine):
    """The model: which sessions there must be, which there must not, and which are in use."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.now = 1000.0
        self.ahead = 0.0  # the clock of the system, which somebody may set
        self.store = LastingStore(clock=self.wall)
        self.bridge = Bridge(lambda: self.now, self.wall, self.store)
        self.run(self.bridge.keeper.start())
        self.known: dict[str, tuple[str, str]] = {}  # every id ever -> server, owner
        self.ended: set[str] = set()
        self.calls: list[tuple[str, Exchange]] = []
        self.streams: list[SessionEntry] = []

    def wall(self) -> float:
        return self.now + self.ahead

    def teardown(self) -> None:
        self.run(self.bridge.keeper.close())
        self.loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        async def settled() -> T:
            result = await work
            for _ in range(5):
                await asyncio.sleep(0)
            return result

        return self.loop.run_until_complete(settled())

    def entry(self, session_id: str) -> SessionEntry | None:
        try:
            return self.bridge.sessions.find(session_id, *self.known[session_id])
        except BridgeError:
            return None

    def alive(self) -> list[str]:
        return [each for each in self.known if each not in self.ended]

    def pick(self, number: int) -> SessionEntry | None:
        alive = self.alive()
        return self.entry(alive[number % len(alive)]) if alive else None

    @rule(server=st.sampled_from(sorted(SERVERS)), owner=st.sampled_from(USERS))
    def open(self, server: str, owner: str) -> None:
        async def opened() -> SessionEntry:
            entry = await self.bridge.sessions.open(server, owner)
            exchange = await self.bridge.sessions.greeting.initialize(
                entry, Request(b"1", "initialize", INITIALIZE), None
            )
            await exchange.receive()
            return entry

        before = {entry.key for entry in self.bridge.pool.entries() if not entry.in_use and not entry.session.is_kept}
        try:
            entry = self.run(opened())
        except BridgeError:
            assert len(self.bridge.pool) == 12 or sum(owner == who for _, who in self.known.values()) >= 8
            return
        self.known[entry.key] = server, owner
        self.ended |= before - {each.key for each in self.bridge.pool.entries()}  # who made room

    @rule(owner=st.sampled_from(USERS), persistent=st.booleans(), ttl=st.sampled_from([None, 60.0]))
    def create(self, owner: str, persistent: bool, ttl: float | None) -> None:
        before = {entry.key for entry in self.bridge.pool.entries() if not entry.in_use and not entry.session.is_kept}
        made = self.bridge.sessions.create("kept", owner, persistent=persistent, ttl=ttl, metadata={})
        try:
            entry = self.run(made)
        except BridgeError:
            return
        self.known[entry.key] = "kept", owner
        self.ended |= before - {each.key for each in self.bridge.pool.entries()}

    @rule(number=st.integers(0, 99))
    def call(self, number: int) -> None:
        entry = self.pick(number)
        if entry is not None:
            exchange = self.run(entry.session.call(Request(b"1", "ping", b"{}"), silence=None))
            assert "result" in jsontext.fields(exchange.answer)
            heard = entry.session.seat.heard  # type: ignore[attr-defined]
            assert heard[0] == "initialize", "a child heard something before its handshake"

    @rule(number=st.integers(0, 99))
    def begin_long_call(self, number: int) -> None:
        entry = self.pick(number)
        if entry is not None:
            exchange = self.run(entry.session.call(Request(b"1", "long", b"{}"), silence=None))
            self.calls.append((entry.key, exchange))

    @precondition(lambda self: self.calls)
    @rule(number=st.integers(0, 99))
    def end_long_call(self, number: int) -> None:
        _, exchange = self.calls.pop(number % len(self.calls))
        exchange.finish(messages.response_line(Response(b"1", b"{}")))

    @rule(number=st.integers(0, 99))
    def open_stream(self, number: int) -> None:
        entry = self.pick(number)
        if entry is not None:
            self.bridge.pool.enter(entry)
            self.streams.append(entry)

    @precondition(lambda self: self.streams)
    @rule(number=st.integers(0, 99))
    def close_stream(self, number: int) -> None:
        self.bridge.pool.leave(self.streams.pop(number % len(self.streams)))

    @rule(seconds=st.sampled_from([1.0, 49.0, 101.0, 250.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        due = {
            entry.key
            for entry in self.bridge.pool.entries()
            if entry.ttl is not None and not entry.in_use and self.now - entry.last_used >= entry.ttl
        }
        self.run(self.bridge.reaper.sweep())
        assert {each for each in self.known if each not in self.ended and self.entry(each) is None} == due
        self.ended |= due

    @rule(seconds=st.sampled_from([-86_400.0, 86_400.0]))
    def set_clock(self, seconds: float) -> None:
        self.ahead += seconds

    @rule()
    def look_after(self) -> None:
        self.bridge.upkeep.look()

    @rule(number=st.integers(0, 99))
    def lose_child(self, number: int) -> None:
        entry = self.pick(number)
        if entry is None or not isinstance(entry.session.seat, FakeSeat):
            return
        entry.session.seat.die()
        self.calls = [(key, exchange) for key, exchange in self.calls if not exchange.ended]
        config = SERVERS[entry.session.server]
        if not entry.session.is_kept or config.restore == "refuse":
            self.ended.add(entry.key)

    @rule(number=st.integers(0, 99))
    def delete(self, number: int) -> None:
        entry = self.pick(number)
        if entry is not None:
            self.bridge.sessions.delete(entry)
            self.ended.add(entry.key)
            self.calls = [(key, exchange) for key, exchange in self.calls if not exchange.ended]

    @rule(gently=st.booleans())
    def restart(self, gently: bool) -> None:
        self.bridge.sessions.kept.sweep()  # the store knows the last use; by itself it is a third of a TTL behind
        survivors = {
            entry.key
            for entry in self.bridge.pool.entries()
            if entry.session.is_kept
            and SERVERS[entry.session.server].restore == "replay"
            and not (entry.ttl is not None and self.now - entry.last_used >= entry.ttl and not entry.in_use)
        }
        in_use = {key for key, _ in self.calls} | {entry.key for entry in self.streams}
        idle = {entry.key: self.bridge.pool.idle_for(entry) for entry in self.bridge.pool.entries()}
        self.run(asyncio.sleep(0))
        if gently:
            self.run(self.bridge.sessions.close("the bridge is shutting down"))
        self.run(self.bridge.keeper.close())
        self.calls.clear()
        self.streams.clear()
        self.bridge = Bridge(lambda: self.now, self.wall, self.store)
        self.run(self.bridge.keeper.start())
        restored = {entry.key for entry in self.bridge.pool.entries()}
        assert restored == survivors
        for entry in self.bridge.pool.entries():
            assert entry.key in in_use or abs(self.bridge.pool.idle_for(entry) - idle[entry.key]) < 0.001
        self.ended |= {each for each in self.known if each not in restored}

    @invariant()
    def no_session_in_use_has_ended(self) -> None:
        for key, exchange in self.calls:
            assert not exchange.ended
            entry = self.entry(key)
            assert entry is not None
            assert entry.in_use > 0
        for entry in self.streams:
            assert self.entry(entry.key) is entry or entry.key in self.ended

    @invariant()
    def no_ended_session_answers(self) -> None:
        assert {each for each in self.known if self.entry(each) is not None} == set(self.alive())

    @invariant()
    def the_numbers_add_up(self) -> None:
        entries = self.bridge.pool.entries()
        assert len(entries) == self.bridge.room._total == len(self.alive())
        for counter, of in (
            (self.bridge.room._users, lambda entry: entry.session.owner),
            (self.bridge.room._servers, lambda entry: entry.session.server),
        ):
            counts: dict[str, int] = {}
            for entry in entries:
                counts[of(entry)] = counts.get(of(entry), 0) + 1
            assert counts == dict(counter)

    @invariant()
    def another_owner_finds_nothing(self) -> None:
        for key in self.alive():
            server, _ = self.known[key]
            try:
                self.bridge.sessions.find(key, server, "eve")
            except BridgeError:
                continue
            raise AssertionError("a stranger found a session")


TestLifetimes = Lifetimes.TestCase
TestLifetimes.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
