"""A live child and its mux: exchanges go out, what the child says finds its way back.

Everything a reader must know stands in :meth:`ChildConnection._line`: one line in, one decision of the mux, obeyed.
When the child ends, each open exchange ends with an error that says why; none is left waiting.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable
from time import perf_counter

from bridge.children.babble import MOST_BABBLE, SHOWN, Babble
from bridge.children.exchange import Exchange
from bridge.children.silence import SilenceWatch
from bridge.children.stream import Kind
from bridge.children.traffic import OTHER, Traffic
from bridge.protocol import jsontext, messages
from bridge.protocol.errors import (
    METHOD_NOT_FOUND,
    BridgeError,
    ConnectionClosed,
    Fault,
    NoServer,
    Rejection,
    StartFailed,
)
from bridge.protocol.framing import Oversized
from bridge.protocol.messages import LargeResult, Message, Response
from bridge.protocol.modern import DISCOVER, LISTEN
from bridge.protocol.mux import Deliver, Drop, Mux, Refuse, Reply, Undirected
from bridge.protocol.subscriptions import named, wants
from bridge.protocol.transport import CANCEL_PATIENCE, LAST_WORDS, REQUEST_CANCELLED, Connect, Hearing, Stalled

log = logging.getLogger(__name__)

#: Ids under which the questions of all children reach clients. A session that outlives its bridge must not hear one of
#: them again (specification, basic protocol: ids are used once), so each bridge begins where its time does.
question_numbers = itertools.count(time.time_ns() // 1000)

#: Only clients ask these; a server that does sends back what it was sent.
OF_CLIENTS = frozenset({"initialize", DISCOVER})

#: The first question that is one too many is logged, then one of so many.
REFUSED_EVERY = 1000

#: So many times the start timeout may pass at most while a child says on stderr that it still starts.
MOST_EXTENSIONS = 10


#: Bytes of a message from which on it is read and passed on in two turns of the event loop, between which others are
#: served: for 50 MB they take 80 ms and 40 ms.
LARGE = 4 * 1024 * 1024
#: Seconds between them: whole calls of others, which are several turns of the loop each.
PAUSE = 0.02


class ChildConnection:
    """A child that speaks JSON-RPC: a process, or a remote server that looks like one.

    ``on_undirected`` gets what names no exchange; set by whoever owns the child, None while nobody does. Before that,
    ``on_announcement`` may take what concerns others than the owner. What is in ``on_closed`` is called once when the
    child has ended, after its exchanges have: in the order in which it came, taken out by whoever no longer waits.
    ``on_ungreeted`` hears why a child that lives could not be greeted, before whoever greeted it does.
    """

    def __init__(self, server: str, connect: Connect, on_stderr: Callable[[bytes], None]) -> None:
        self.server = server
        self.on_undirected: Callable[[Undirected], None] | None = None
        self.on_announcement: Callable[[Undirected], bool] | None = None
        self.on_closed: dict[Callable[[], object], None] = {}
        self.on_ungreeted: Callable[[BridgeError], None] | None = None
        self._mux: Mux[Exchange] = Mux(question_numbers)
        self._watches: dict[float, SilenceWatch[Exchange]] = {}  # few: a server has few limits
        self.closed = False
        self.traffic = Traffic()
        self.babble = Babble(server, on_stderr)
        self._refused = 0  # questions that were one too many
        self._large: Message | LargeResult | None = None  # it has been read, and is passed on in the next turn
        self._postponed: list[bytes | Oversized] | None = None  # what came behind it
        self.abandoned = 0  # requests that the child may still work on, though nobody waits
        self._cancelled: dict[Exchange, asyncio.TimerHandle] = {}  # those whose answer need not come
        self.transport = connect(Hearing(self._line, on_stderr, self._ended))

    def __repr__(self) -> str:
        return f"<ChildConnection {self.server} [{len(self._mux)} open, {self.traffic.calls} calls]>"

    @property
    def exchanges(self) -> list[Exchange]:
        """The requests that wait for this child."""
        return self._mux.exchanges

    @property
    def open_exchanges(self) -> int:
        """How many requests wait for this child; subscriptions wait for nothing."""
        return sum(1 for exchange in self._mux.exchanges if exchange.request.method != LISTEN)

    @property
    def open_questions(self) -> int:
        """How many questions of this child wait for an answer."""
        return self._mux.questions

    @property
    def is_clean(self) -> bool:
        """Whether nothing of one holder is left that the next one could meet."""
        return not (self.closed or self._mux or self._mux.questions or self.abandoned)

    async def start(self) -> None:
        """Start the program, or open the way to it. Raises :class:`bridge.process.spawn.SpawnError`."""
        await self.transport.start()

    def exchange(self, exchange: Exchange, silence: float | None = None) -> None:
        """Send a request; its messages will come on ``exchange``. ``silence``: seconds without a sign before it fails.

        Raises :class:`ConnectionClosed` when the child has ended, :class:`Rejection` when it reads nothing.
        """
        if self.closed:
            greets = exchange.greets or exchange.request.method == "initialize"
            raise ConnectionClosed(self.server, f"{self.obituary()}{self.babble if greets else ''}")
        number, line = self._mux.open(exchange, exchange.request)
        try:
            self.transport.write(line)
        except Stalled:
            self._mux.close(number)
            raise Rejection(Fault.CHILD_FAILED, f'server "{self.server}" does not read its input') from None
        exchange.number = number
        exchange.connection = self
        exchange.sent = perf_counter()
        self.traffic.calls += 1
        if silence is not None:
            if exchange.greets or exchange.request.method == "initialize":
                exchange.greets = True
                exchange.began = asyncio.get_running_loop().time()
            exchange.watch = self._watch(silence)
            exchange.watch.start(exchange)

    def cancel(self, exchange: Exchange, params: bytes = b"") -> None:
        """Pass a client's cancellation on. The exchange stays open for :data:`CANCEL_PATIENCE` seconds: the child may
        still answer, and often does.
        """
        if not self._cancel(exchange, params) or exchange in self._cancelled:
            return
        timer = asyncio.get_running_loop().call_later(CANCEL_PATIENCE, self._give_up, exchange)
        self._cancelled[exchange] = timer
        exchange.before_end(self._cancelled_ended)

    def abandon(self, exchange: Exchange, failure: BridgeError) -> None:
        """Cancel an exchange on the child, forget it there, and end it with ``failure``."""
        # initialize MUST NOT be cancelled (specification, cancellation); it is only forgotten
        if not exchange.ended and exchange.request.method != "initialize":
            self.abandoned += 1
            if exchange not in self._cancelled:  # else it knows already
                self._cancel(exchange, b'{"reason":%b}' % jsontext.encode(str(failure)))
            self._count_lost(exchange, failure.fault)
        self._mux.close(exchange.number)
        exchange.fail(failure)

    def send(self, line: bytes) -> None:
        """Write a line that wants no answer: a notification."""
        try:
            self.transport.write(line)
        except Stalled:
            log.warning("server %s does not read its input; a message to it is dropped", self.server)

    def answer(self, response: Response) -> bool:
        """Hand a client's answer to the child; False when it did not ask that."""
        line = self._mux.answer(response)
        if line is None:
            return False
        self.send(line)
        return True

    def refuse(self, question: int, why: str) -> None:
        """Answer a question of the child with an error, because no client will."""
        line = self._mux.refuse(question, METHOD_NOT_FOUND, why)
        if line is not None:
            self.send(line)

    def announce(self, message: Undirected) -> None:
        """Tell its owner, and clients who have subscribed, of a list that has changed though it has not said so."""
        if self.on_undirected is not None and self.on_announcement is None:  # else its audience is told once for all
            self.on_undirected(message)
        for exchange in self._mux.exchanges:
            request = exchange.request
            if request.method == LISTEN and exchange.into is None and wants(request, message.method):
                exchange.put(named(message.method, b"", request.id), Kind.NOTE)

    def obituary(self) -> str:
        """How the child ended, in words."""
        return self.transport.obituary

    def _line(self, line: bytes | Oversized) -> None:
        if self._postponed is not None:
            self._postponed.append(line)
            return
        if isinstance(line, Oversized):
            self._oversized(line)
            return
        try:
            message = messages.parse_line(line)
        except Rejection as rejection:
            self._broken(line, rejection)
            return
        if len(line) >= LARGE:
            self._large, self._postponed = message, []
            asyncio.get_running_loop().call_later(PAUSE, self._go_on)
            return
        self._obey(message)

    def _go_on(self) -> None:
        """Pass on a large message that was read in an earlier turn, and take what has come behind it."""
        message, postponed = self._large, self._postponed or []
        self._large = self._postponed = None
        if message is not None:
            self._obey(message)
        for line in postponed:
            self._line(line)

    def _obey(self, message: Message | LargeResult) -> None:
        decision = self._mux.receive(message)
        if isinstance(decision, Deliver):  # not in the match, which takes as long as all the mux has done
            exchange, text = decision.exchange, decision.message
            if decision.final:
                exchange.finish(text)  # before anything that could fail: the mux has forgotten it
                self._count(exchange, messages.error_in(text, exchange.request.id))
            else:
                self._pass_on(exchange, text)
            return
        match decision:
            case Undirected() as undirected:
                self._undirected(undirected)
            case Reply(text):
                self.send(text)
            case Refuse(text, why):
                self.send(text)
                self._refused += 1
                if self._refused % REFUSED_EVERY == 1:
                    log.warning("server %s asks too much (%d so far): %s", self.server, self._refused, why)
            case Drop(why):
                log.debug("server %s: dropped %s", self.server, why)

    def _count(self, exchange: Exchange, error: bytes) -> None:
        method = exchange.request.method
        if exchange.greets or method == LISTEN:  # how long those take says nothing
            return
        seconds = perf_counter() - exchange.sent
        if error:
            code = jsontext.decode(jsontext.member(error, "code", b"0"))
            known = isinstance(code, int) and -32768 <= code <= -32000  # those of JSON-RPC and MCP
            self.traffic.error(method, str(code) if known else OTHER, seconds)
        else:
            self.traffic.result(method, seconds)

    def _count_lost(self, exchange: Exchange, fault: Fault) -> None:
        """A request ends without an answer of the child."""
        if not exchange.greets and exchange.request.method != LISTEN:
            seconds = perf_counter() - exchange.sent
            self.traffic.loss(exchange.request.method, fault.name.lower(), seconds)

    def _pass_on(self, exchange: Exchange, text: bytes) -> None:
        if exchange.watch is not None:  # progress extends the time (users' scar 22)
            exchange.watch.start(exchange)
        exchange.put(text, Kind.NOTE)

    def _undirected(self, message: Undirected) -> None:
        if message.question is not None and message.method in OF_CLIENTS:
            self._echoed(message.question, message.method)
            return
        if self.on_announcement is not None and self.on_announcement(message):
            return
        if self.on_undirected is not None:
            self.on_undirected(message)
        elif message.question is not None:
            self.refuse(message.question, f"no client here answers {message.method}")

    def _echoed(self, question: int, method: str) -> None:
        """What was started sends back what it is sent: nobody but a client asks this. It is no server to wait for."""
        why = f"it sends back what it is sent ({method}), so it is no MCP server; look at its command and args"
        if not self._is_no_server(why):
            self.refuse(question, f"{method} is for clients to ask")

    def _is_no_server(self, why: str) -> bool:
        """End what greets a program that will never answer; False where it has answered already."""
        greetings = [exchange for exchange in self._mux.exchanges if exchange.greets]
        for exchange in greetings:
            self._mux.close(exchange.number)
            self._lose(exchange, NoServer(self.server, why))
        return bool(greetings)

    def _broken(self, line: bytes, rejection: Rejection) -> None:
        """A line that is no message. What it is meant to answer would wait for ever; the rest is skipped."""
        if rejection.fault is Fault.BATCH and (batch := jsontext.objects(line)):  # 2025-03-26 has them on stdio too
            for item in batch:
                self._line(item)
            return
        self.babble.take(line, rejection)
        if self.babble.lines == MOST_BABBLE and self._is_no_server(f"it is no MCP server{self.babble}"):
            return
        why = f'server "{self.server}" answered with what cannot be passed on: {rejection}'
        self._fail(messages.id_in_broken(line), why)

    def _oversized(self, line: Oversized) -> None:
        why = f'server "{self.server}" sent a message of {line.size} bytes, which is over MAX_MESSAGE_BYTES'
        log.warning("%s; it is skipped", why)
        self._fail(messages.id_in_broken(line.head + line.tail), why)

    def _fail(self, number: int | None, why: str) -> None:
        """End the exchange of this number, if there is one: its answer has come and cannot be used."""
        exchange = None if number is None else self._mux.close(number)
        if exchange is not None:
            self._count_lost(exchange, Fault.CHILD_FAILED)
            self._lose(exchange, Rejection(Fault.CHILD_FAILED, why))

    def _lose(self, exchange: Exchange, failure: BridgeError) -> None:
        """End an exchange because of its child, which lives."""
        if exchange.greets and self.on_ungreeted is not None:
            self.on_ungreeted(failure)
        exchange.fail(failure)

    def _cancel(self, exchange: Exchange, params: bytes) -> bool:
        """Cancel it on the child; False when it is not open there."""
        line = self._mux.cancel(exchange.number, params)
        if line is not None:
            self.send(line)
        return line is not None

    def _give_up(self, exchange: Exchange) -> None:
        """End a cancelled request that nobody answers."""
        self.abandoned += 1
        self._count_lost(exchange, Fault.CANCELLED)
        self._mux.close(exchange.number)
        exchange.finish(messages.error_line(exchange.request.id, REQUEST_CANCELLED, "the request was cancelled"))

    def _cancelled_ended(self, exchange: Exchange) -> None:
        self._cancelled.pop(exchange).cancel()

    def _watch(self, seconds: float) -> SilenceWatch[Exchange]:
        watch = self._watches.get(seconds)
        if watch is None:
            watch = self._watches[seconds] = SilenceWatch(
                seconds, lambda exchange: self._silent(exchange, seconds), asyncio.get_running_loop()
            )
        return watch

    def _silent(self, exchange: Exchange, seconds: float) -> None:
        if exchange.greets:
            self._slow_start(exchange, seconds)
            return
        if self._mux.questions:  # it waits for a person, who has a limit of their own
            self._watch(seconds).start(exchange)
            return
        why = f'server "{self.server}" gave neither answer nor progress for {seconds:g} s (requestTimeout)'
        log.warning("%s; its %s is given up", why, exchange.request.method)
        self.abandon(exchange, Rejection(Fault.TIMED_OUT, why))

    def _slow_start(self, exchange: Exchange, seconds: float) -> None:
        """A server that is being installed says so on stderr, and has time for as long as it does (users' scar 24)."""
        now = asyncio.get_running_loop().time()
        if self.transport.stderr_at > now - seconds and now < exchange.began + MOST_EXTENSIONS * seconds:
            last = self.transport.last_words[-SHOWN:]
            log.info("server %s is still starting%s", self.server, f": {last}" if last else "")
            self._watch(seconds).start(exchange)
            return
        waited = seconds * max(1, (now - exchange.began) // seconds)
        why = f"it did not answer {exchange.request.method} within {waited:g} s (startTimeout){self.babble}"
        last = self.transport.last_words[-SHOWN:]
        self._mux.close(exchange.number)  # initialize MUST NOT be cancelled (specification, cancellation)
        self._lose(exchange, StartFailed(self.server, f"{why}{LAST_WORDS}{last}" if last else why))

    def _ended(self) -> None:
        while self._large is not None:
            self._go_on()
        self.closed = True
        why = self.obituary()
        for exchange in self._mux.exchanges:
            self._mux.close(exchange.number)
            self._count_lost(exchange, Fault.CHILD_FAILED)
            exchange.fail(ConnectionClosed(self.server, f"{why}{self.babble}" if exchange.greets else why))
        for watch in self._watches.values():
            watch.close()
        for callback in list(self.on_closed):
            callback()
