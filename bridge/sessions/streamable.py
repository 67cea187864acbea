"""One ``Mcp-Session-Id``: its child, its calls in flight, its streams.

Who hears what the child says (specification, Streamable HTTP, sending messages): an answer and progress go to their own
request. Other requests and logs belong to the request in flight, else to a GET stream; ``list_changed`` and ``updated``
belong to no request and go to a GET stream. Each message goes to exactly one stream, and waits while there is none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from bridge.children.exchange import Exchange
from bridge.children.seat import Seat
from bridge.children.stream import Kind, RequestStream, Stream
from bridge.children.variables import OwnVariables
from bridge.observe.ids import shorten
from bridge.protocol import jsontext, messages, tasks
from bridge.protocol.capabilities import may_ask
from bridge.protocol.errors import BridgeError, Fault, Rejection, cancelled, client_gone
from bridge.protocol.messages import Message, Notification, Request, Response
from bridge.protocol.mux import CANCELLED, Undirected
from bridge.protocol.subscriptions import LIST_CHANGED, UPDATED
from bridge.protocol.versions import PRIMED_SINCE
from bridge.sessions.backlog import Backlog, Track
from bridge.sessions.recording import RECORDED, Recording
from bridge.sessions.streams import Streams
from bridge.sessions.work import Work

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds that a question of the child may wait for its client; the slowest reader of a form gets ten minutes.
QUESTION_TIMEOUT = 600.0

#: Notifications that belong to no request, so that they go to a GET stream even while one is in flight.
UNRELATED = LIST_CHANGED | {UPDATED}


class StreamableSession:
    """A session that an HTTP client owns, with a child of its own while it needs one.

    ``owner`` is the digest of the principal who opened it. ``is_kept`` sessions are written to the store.
    ``variables`` are what its client has put into the environment of its children; they are not written anywhere.
    ``enter`` and ``leave`` count its uses: each call in flight, open stream and unanswered question is one.
    ``on_recorded`` is called when there is more to tell the next child, ``on_end`` once with the reason of its end.
    """

    def __init__(self, session_id: str, server: str, seat: Seat, owner: str = "") -> None:
        self.id = session_id
        self.server = server
        self._seat = seat
        self.owner = owner
        self.is_kept = False
        self.restored = False
        self.variables: OwnVariables | None = None
        self.metadata: dict[str, Any] = {}
        self.recording = Recording()
        self._work = Work()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.version = ""
        self.capabilities = b"{}"  # of the client, as JSON text
        self.enter: Callable[[], None] = _nothing
        self.leave: Callable[[], None] = _nothing
        self.on_recorded: Callable[[], None] = _nothing
        self.on_end: Callable[[str], None] = _nothing
        self._calls: dict[Exchange, None] = {}
        self.opening: Exchange | None = None  # the client's initialize, until it is answered
        self.backlog = Backlog()
        self.streams = Streams(self.backlog)
        self._questions: dict[int, asyncio.TimerHandle] = {}
        self.closed = False
        self.hear(seat)

    def __repr__(self) -> str:
        return f"<StreamableSession {self.label} on {self.server} [{len(self._calls)} calls]>"

    @property
    def label(self) -> str:
        """The shortened id."""
        return shorten(self.id)

    @property
    def seat(self) -> Seat:
        """How it reaches its server."""
        return self._seat

    @property
    def pid(self) -> int | None:
        """Process id of its child."""
        return self._seat.pid

    @property
    def greeting(self) -> bytes:
        """The child's InitializeResult, where the bridge asked for it."""
        return self._seat.greeting

    @property
    def obituary(self) -> str:
        """How its child ended."""
        return self._seat.obituary

    async def call(
        self,
        request: Request,
        *,
        silence: float | None,
        on_end: Callable[[Exchange], None] | None = None,
        into: RequestStream | None = None,
    ) -> Exchange:
        """Send a request to the child. Where that has to be waited for, it is sent also when whoever waits goes.
        Raises what :meth:`ChildConnection.exchange` raises.
        """
        exchange = self._entered(request, on_end, into)
        is_sent = True
        try:
            if request.method == "initialize":  # it waits for nobody, and is of no use without its client
                await self._seat.send(exchange, silence)
            else:
                is_sent = self._seat.send_now(exchange, silence)
        except BaseException:
            self._take_back(exchange)
            raise
        if not is_sent:
            await self._sent(exchange, silence)
        return exchange

    async def _sent(self, exchange: Exchange, silence: float | None) -> None:
        try:
            await self.outlast(self._send(exchange, silence), lambda sending: self._sent_alone(exchange, sending))
        except asyncio.CancelledError:
            if exchange.into is None:
                self.streams.hung_up(exchange)
            raise
        except BaseException:
            self._take_back(exchange)
            raise

    async def _send(self, exchange: Exchange, silence: float | None) -> None:
        """Send it, unless it has ended, or was cancelled, before the task of this has begun."""
        if exchange.is_cancelled:
            exchange.fail(cancelled())
        if not exchange.ended:
            await self._seat.send(exchange, silence)

    def _sent_alone(self, exchange: Exchange, sending: asyncio.Task[None]) -> None:
        """Whoever waited for it has gone; what went wrong ends it all the same."""
        error = client_gone() if sending.cancelled() else sending.exception()
        if error is not None and not isinstance(error, BridgeError):
            log.error("session %s: a call ended in an unexpected error", self.label, exc_info=error)
            error = BridgeError("internal error; the log has the details")
        if error is not None:
            exchange.fail(error)

    def call_now(self, request: Request, *, silence: float | None) -> Exchange | None:
        """Do the same where nothing has to be waited for, else nothing and return None."""
        exchange = self._entered(request)
        is_sent = False
        try:
            is_sent = self._seat.send_now(exchange, silence)
        finally:
            if not is_sent:
                self._take_back(exchange)
        return exchange if is_sent else None

    def _entered(
        self,
        request: Request,
        on_end: Callable[[Exchange], None] | None = None,
        into: RequestStream | None = None,
    ) -> Exchange:
        """A call that counts as running from now on."""
        exchange = Exchange(request, self._ended, into)
        if on_end is not None:
            exchange.before_end(on_end)
        self._calls[exchange] = None
        self.enter()
        return exchange

    def _ended(self, exchange: Exchange) -> None:
        del self._calls[exchange]
        if exchange.request.method in RECORDED:
            self.recording.hear(exchange)
            self.on_recorded()
        else:
            self._work.answered(exchange)
        if self.streams.left:
            self.streams.settle(exchange.carrier)
        self.leave()

    def _take_back(self, exchange: Exchange) -> None:
        """It could not be sent. It may have ended while it waited for a child."""
        if exchange in self._calls:
            del self._calls[exchange]
            self.leave()

    async def take(
        self,
        message: Message,
        *,
        silence: float | None,
        into: RequestStream,
        on_end: Callable[[Exchange], None] | None = None,
    ) -> Exchange | None:
        """Take any message of the client; answers go on ``into``. A request that cannot be sent ends at once."""
        if isinstance(message, Request):
            try:
                return await self.call(message, silence=silence, into=into, on_end=on_end)
            except BridgeError as error:
                exchange = Exchange(message, on_end, into)
                exchange.fail(error)
                return exchange
        if isinstance(message, Notification):
            self.tell(message)
        else:
            self.answer(message)
        return None

    def change_seat(self, seat: Seat) -> None:
        """Go on with another child, or without one: :class:`Vacant` gets one when it is asked."""
        self._seat.on_closed = _nothing
        self._seat.release()
        self._seat = seat
        self._work = Work()  # the other child does none of it
        self.hear(seat)

    def hear(self, seat: Seat) -> None:
        """Listen to a child."""
        seat.listen(self._hear)

    def drop_questions(self) -> None:
        """Its child has gone, and with it what it wanted to know."""
        for timer in self._questions.values():
            timer.cancel()
            self.leave()
        self._questions.clear()

    @property
    def is_fresh(self) -> bool:
        """Whether it was created without a child and nobody has initialized it."""
        return not self.version and self.recording.initialize is None

    @property
    def needs_child(self) -> bool:
        """Whether a child that is stopped now would be missed: by a call, a question, a stream of updates, or for its
        work at a task.
        """
        heard = self.streams and self.recording.subscriptions
        return bool(self._calls or self._questions or heard) or self.works

    @property
    def works(self) -> bool:
        """Whether its child works at a task, whose result somebody may still fetch."""
        return self._work.goes_on()

    @property
    def is_busy(self) -> bool:
        """Whether a call runs, or a question waits for its client."""
        return bool(self._calls or self._questions)

    @property
    def is_heard(self) -> bool:
        """Whether its client listens to what belongs to no request."""
        return bool(self.streams)

    def announce(self, message: Undirected) -> None:
        """Tell the client what its server has not said itself."""
        self._hear(message)

    def own(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run something that ends by itself soon after the session."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def outlast(self, work: Coroutine[Any, Any, T], left: Callable[[asyncio.Task[T]], object] | None = None) -> T:
        """Wait for something that goes on when whoever waits has gone (specification: a disconnect is no cancellation);
        ``left`` is called then, when it has ended.
        """
        task = self.own(work)
        try:
            await asyncio.wait([task])
            return task.result()
        except asyncio.CancelledError:
            if left is not None:
                task.add_done_callback(left)
            raise

    def introduce(self, params: bytes) -> None:
        """What the client said at ``initialize``."""
        self.capabilities = jsontext.member(params, "capabilities", b"{}")
        self.recording.initialize = params
        self._seat.introduce(params)

    def greeted(self) -> None:
        """The child has answered ``initialize``."""
        self._seat.greeted()

    def tell(self, note: Notification) -> None:
        """Pass a notification of the client on; a cancellation goes to the call it names."""
        if note.method != CANCELLED:
            self._seat.tell(messages.notification_line(note.method, note.params))
            return
        target = jsontext.member(note.params, "requestId")
        for exchange in reversed(self._calls):
            # initialize MUST NOT be cancelled (specification, cancellation)
            if messages.same_id(exchange.request.id, target) and exchange.request.method != "initialize":
                exchange.cancel(note.params)
                return

    def answer(self, response: Response) -> bool:
        """Hand the client's answer to its child; False when nothing of that id was asked in this session."""
        number = messages.number(response.id)
        timer = None if number is None else self._questions.pop(number, None)
        if timer is None:
            return False
        timer.cancel()
        self.leave()
        return self._seat.answer(response)

    def has_opened(self, _: Exchange) -> None:
        """The client's ``initialize`` has ended."""
        self.opening = None

    @property
    def primes(self) -> bool:
        """Whether its event streams begin with an empty event to come back with."""
        return self.version >= PRIMED_SINCE

    def listen(self, stream: Stream | None = None) -> Track:
        """Open a stream for what belongs to no request; what has waited for one comes first."""
        return self.streams.listen(stream or Stream(), shown=self.primes)

    async def close(self, why: str) -> None:
        """End every call and stream, and give the child back."""
        self.end(why)
        await self._seat.gone()

    def end(self, why: str) -> None:
        """What :meth:`close` does, without waiting for the child's process."""
        if self.closed:
            return
        self.closed = True
        if lost := self.streams.dropped:
            log.warning("session %s: %d notifications that nobody listened to were dropped", self.label, lost)
        self.on_end(why)
        for timer in self._questions.values():
            timer.cancel()
        self._questions.clear()
        for exchange in list(self._calls):
            exchange.abandon(Rejection(Fault.UNKNOWN_SESSION, f"session ended: {why}"))  # others may share its child
        streams = self.streams.take_all()
        if self.opening is None:
            _end_all(streams)
        else:  # its answer is still to come, and may come on one of them
            self.opening.before_end(lambda _: _end_all(streams))
        self._seat.release()

    def _hear(self, message: Undirected) -> None:
        if message.question is not None:
            if not may_ask(self.capabilities, message.message):
                self._seat.refuse(message.question, f"the client does not offer what {message.method} needs")
                return
            self._count_question(message, message.question)
        elif message.method == tasks.STATUS:
            self._work.told(message)
        self._stream_for(message).put(message.message, Kind.NOTE if message.question is None else Kind.QUESTION)

    def _stream_for(self, message: Undirected) -> Stream:
        if message.method not in UNRELATED:
            for exchange in reversed(self._calls):
                if exchange.carrier.read:
                    return exchange
        return self.streams.newest

    def _count_question(self, message: Undirected, number: int) -> None:
        if message.method == CANCELLED:
            timer = self._questions.pop(number, None)
            if timer is not None:
                timer.cancel()
                self.leave()
            return
        loop = asyncio.get_running_loop()
        self._questions[number] = loop.call_later(QUESTION_TIMEOUT, self._unanswered, number)
        self.enter()

    def _unanswered(self, number: int) -> None:
        del self._questions[number]
        log.warning("session %s: a question of server %s was not answered in time", self.label, self.server)
        self._seat.refuse(number, f"the client did not answer within {QUESTION_TIMEOUT:.0f} s")
        self.leave()


def _end_all(streams: list[Stream]) -> None:
    for stream in streams:
        stream.end()


def _nothing(*_: object) -> None:
    """Nobody listens before the session is in its pool."""
