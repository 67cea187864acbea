"""A handshake client's seat at a child that only speaks the modern era.

The bridge answers ``initialize`` from the child's ``server/discover`` and adds the envelope to every request. Where the
child answers ``input_required``, its questions become requests on the client's stream, and the answers a retry
(specification 2026-07-28, multi-round requests).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine

from bridge.children.audience import uri_of
from bridge.children.connection import question_numbers
from bridge.children.crowd import SET_LEVEL, SUBSCRIBE, UNSUBSCRIBE, accept, is_granted
from bridge.children.exchange import Exchange
from bridge.children.seat import Listener, Seat
from bridge.children.stream import StreamEnded
from bridge.protocol import jsontext, messages, translate
from bridge.protocol.capabilities import may_ask
from bridge.protocol.errors import (
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    BridgeError,
    Fault,
    Rejection,
    cancelled,
    client_gone,
)
from bridge.protocol.messages import Message, Notification, Request, Response
from bridge.protocol.modern import DISCOVER, LISTEN
from bridge.protocol.mux import CANCELLED, Undirected
from bridge.protocol.subscriptions import UPDATED, acknowledges, listen_to, unnamed
from bridge.protocol.versions import LATEST_HANDSHAKE

#: Most times that one call may ask (as in the official SDKs).
ROUNDS = 10
#: Seconds before a round in which nothing is asked, the first of them and at most (as in the official SDKs).
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 0.25
#: Seconds for the child to acknowledge a subscription.
SUBSCRIBE_PATIENCE = 30.0
#: Seconds until a subscription that the server has ended is opened anew, the first time and at most.
FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0


class UpSeat:
    """Speaks modern to ``inner``, and handshake to its client; ``asker`` is the digest of whose client it is."""

    def __init__(self, inner: Seat, asker: str = "") -> None:
        self._inner = inner
        self._asker = asker
        self._capabilities = b"{}"
        self._client_info = b""
        self._level = "info"  # a client that never sets one hears what matters
        self._listener: Listener = _nothing
        self._listens: dict[str, Exchange] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._answers: dict[int, asyncio.Future[Response]] = {}

    @property
    def on_closed(self) -> Callable[[], None]:
        """Called once when the child has ended."""
        return self._inner.on_closed

    @on_closed.setter
    def on_closed(self, callback: Callable[[], None]) -> None:
        self._inner.on_closed = callback

    @property
    def greeting(self) -> bytes:
        """InitializeResult made of what the child discovered."""
        return translate.initialized(self._inner.greeting, LATEST_HANDSHAKE)

    @property
    def pid(self) -> int | None:
        """Process id of the child."""
        return self._inner.pid

    @property
    def frees(self) -> bool:
        """Whether its release ends the child."""
        return self._inner.frees

    @property
    def obituary(self) -> str:
        """How the child ended."""
        return self._inner.obituary

    @property
    def closed(self) -> bool:
        """Whether the child has ended."""
        return self._inner.closed

    def listen(self, listener: Listener) -> None:
        """Hear list changes, updates, and questions of the child's calls."""
        self._listener = listener

    def introduce(self, params: bytes) -> None:
        """Remember what the client said at ``initialize``; from now on hear of changes."""
        members = jsontext.fields(params)
        self._capabilities = bytes(members.get("capabilities", b"{}"))
        self._client_info = bytes(members.get("clientInfo", b""))
        self._inner.listen(lambda message: self._listener(message))

    async def send(self, exchange: Exchange, silence: float | None) -> None:
        """Send a request, translated."""
        method = exchange.request.method
        if method == "ping":
            accept(exchange)
        elif method == SET_LEVEL:
            self._set_level(exchange)
        elif method == SUBSCRIBE and uri_of(exchange.request.params) not in self._listens:
            self._own(self._subscribe(exchange), exchange)
        elif method in (SUBSCRIBE, UNSUBSCRIBE):
            if method == UNSUBSCRIBE:
                uri = uri_of(exchange.request.params)
                self._end(uri, self._listens.get(uri))
            accept(exchange)
        elif method in (DISCOVER, LISTEN):
            text = f"method {method} is of a later version"
            exchange.finish(messages.error_line(exchange.request.id, METHOD_NOT_FOUND, text))
        else:
            # The first leg is sent here, so that what cannot be sent is told at once.
            leg = await self._leg(exchange, exchange.request, silence)
            self._own(self._carry(exchange, leg, silence), exchange, leg)

    def send_now(self, exchange: Exchange, silence: float | None) -> bool:
        """No: a request may take several of its server's."""
        return False

    def greeted(self) -> None:
        """The bridge has asked the child."""

    def tell(self, line: bytes) -> None:
        """Nothing: clients of this era have no notifications; cancellations go by their call."""

    def answer(self, response: Response) -> bool:
        """A client's answer to a question."""
        number = messages.number(response.id)
        waiting = None if number is None else self._answers.pop(number, None)
        if waiting is None or waiting.done():
            return False
        waiting.set_result(response)
        return True

    def refuse(self, question: int, why: str) -> None:
        """No client answers this question."""
        self.answer(Response(b"%d" % question, error=jsontext.encode({"code": METHOD_NOT_FOUND, "message": why})))

    def release(self) -> None:
        """Give back everything."""
        for task in self._tasks:
            task.cancel()
        for listen in list(self._listens.values()):
            listen.abandon(client_gone())
        self._inner.release()

    async def gone(self) -> None:
        """Wait for the end of the child, if the release has made one."""
        await self._inner.gone()

    def _own(self, work: Coroutine[None, None, None], exchange: Exchange, leg: Exchange | None = None) -> None:
        """Do what ends an exchange. Work that is cancelled before its first step has no chance to do so."""
        task = asyncio.create_task(work)
        self._tasks.add(task)

        def done(_: object) -> None:
            self._tasks.discard(task)
            if not exchange.ended:
                exchange.fail(self._loss(leg))

        task.add_done_callback(done)

    def _loss(self, leg: Exchange | None) -> BridgeError:
        """Why work ends before its time: its child has ended, which it need not have been waiting for, or its seat."""
        if leg is not None and leg.failure is not None:
            return leg.failure
        if self._inner.closed:
            return Rejection(Fault.CHILD_FAILED, f"the server ended before it answered: {self._inner.obituary}")
        return client_gone()

    def _set_level(self, exchange: Exchange) -> None:
        """From now on its level goes with each request, so a wrong one would spoil them all."""
        level = translate.level_in(exchange.request.params)
        if level is not None:
            self._level = level
            accept(exchange)
        else:
            exchange.finish(messages.error_line(exchange.request.id, INVALID_PARAMS, translate.WRONG_LEVEL))

    async def _leg(self, exchange: Exchange, request: Request, silence: float | None) -> Exchange:
        """One request to the child; its notes go on the client's stream."""
        params = translate.params_up(request.params, self._capabilities, self._client_info, self._level)
        leg = Exchange(Request(request.id, request.method, params))
        leg.log_level, leg.asker = self._level, self._asker
        await self._inner.send(leg, silence)
        return leg

    async def _carry(self, exchange: Exchange, leg: Exchange, silence: float | None) -> None:
        """Bring a call to its end, over as many legs as it asks questions."""
        pause = FIRST_PAUSE
        try:
            for _ in range(ROUNDS):
                await leg.relay_to(exchange)
                answer = messages.parse(leg.answer)
                assert isinstance(answer, Response)
                if not answer.result or translate.result_type(answer.result) != "input_required":
                    self._finish(exchange, answer, leg)
                    return
                questions, state = translate.questions_in(answer.result)
                if questions:
                    pause = FIRST_PAUSE
                else:  # the server is not ready yet
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
                if exchange.is_cancelled:  # before the server asked, or while nothing was with it
                    raise cancelled()
                answers = await self._ask_all(questions, exchange)
                leg = await self._leg(exchange, translate.retried(exchange.request, answers, state), silence)
            raise Rejection(Fault.CHILD_FAILED, f"the server asked more than {ROUNDS} times in one call")
        except BridgeError as error:
            exchange.fail(error)
        except asyncio.CancelledError:
            exchange.fail(self._loss(leg))
            raise

    def _finish(self, exchange: Exchange, answer: Response, leg: Exchange) -> None:
        if leg.failure is not None:
            exchange.fail(leg.failure)
        elif answer.error:
            exchange.finish(messages.response_line(answer, exchange.request.id))
        elif translate.result_type(answer.result) != "complete":
            kind = translate.result_type(answer.result)
            exchange.fail(Rejection(Fault.CHILD_FAILED, f"the server answered with a {kind!r} result, unknown here"))
        else:
            result = translate.result_down(exchange.request.method, answer.result)
            exchange.finish(messages.response_line(Response(exchange.request.id, result)))

    async def _ask_all(self, questions: dict[str, bytes], exchange: Exchange) -> dict[str, bytes]:
        """Ask the client everything at once; return its answers.

        Raises :class:`Rejection` when it has none to one of them, and does not wait for the others then; or when it
        cancels the call while it is asked: the child waits for nothing then, so nobody else could end it.
        """
        asking = [asyncio.create_task(self._ask(question)) for question in questions.values()]
        exchange.on_cancel = lambda: [task.cancel() for task in asking]
        try:
            if asking:
                await asyncio.wait(asking, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            exchange.on_cancel = None
            for task in asking:
                task.cancel()
        answers = await asyncio.gather(
            *asking, return_exceptions=True
        )  # those that were withdrawn say so on its stream
        for answer in answers:
            if isinstance(answer, BridgeError):
                raise answer
        if not all(isinstance(answer, bytes) for answer in answers):
            raise cancelled()
        return {key: answer for key, answer in zip(questions, answers, strict=True) if isinstance(answer, bytes)}

    async def _ask(self, question: bytes) -> bytes:
        members = jsontext.fields(question)
        method = jsontext.string(bytes(members.get("method", b""))) or ""
        if not may_ask(self._capabilities, question):
            raise Rejection(Fault.MISSING_CAPABILITY, f"the client does not offer what {method} needs")
        number = next(question_numbers)
        params = translate.question_params(bytes(members.get("params", b"")), number)
        waiting = self._answers[number] = _future()
        line = messages.request_line(b"%d" % number, method, params)
        self._listener(Undirected(method, line, number))
        try:
            response = await waiting
        except asyncio.CancelledError:
            params = jsontext.encode({"requestId": number})
            self._listener(Undirected(CANCELLED, messages.notification_line(CANCELLED, params), number))
            raise
        finally:
            self._answers.pop(number, None)
        if response.error:
            text = jsontext.string(jsontext.member(response.error, "message")) or "no reason"
            raise Rejection(Fault.CHILD_FAILED, f"the client refused {method}: {text}")
        return response.result

    async def _subscribe(self, exchange: Exchange) -> None:
        """Subscribe to a resource, answer when the child has acknowledged that, and pass on what it announces."""
        uri = uri_of(exchange.request.params)
        attempt = 0
        while True:
            listen = self._listens[uri] = Exchange(listen_to(uri))
            try:
                await self._inner.send(listen, None)
                async with asyncio.timeout(SUBSCRIBE_PATIENCE):
                    answer = messages.parse(await listen.receive())
            except TimeoutError:
                exchange.fail(Rejection(Fault.TIMED_OUT, f"the server did not answer within {SUBSCRIBE_PATIENCE:g} s"))
                break
            except BridgeError as error:
                exchange.fail(error)
                break
            if not acknowledges(answer, uri):
                _refuse(exchange, answer)
                break
            if exchange.ended:  # nobody knows what has changed meanwhile
                self._listener(Undirected(UPDATED, messages.notification_line(UPDATED, jsontext.encode({"uri": uri}))))
            accept(exchange)
            attempt = 0 if await self._pass_on(listen) else attempt + 1
            if listen.failure is not None or not is_granted(listen):
                if self._listens.get(uri) is listen:
                    del self._listens[uri]
                return
            # The server has ended it in good order (it may want its clients to move); ours is still subscribed.
            await asyncio.sleep(min(FIRST_WAIT * 2.0 ** min(attempt, 10), LONGEST_WAIT))
            if self._listens.get(uri) is not listen:
                return  # its client has unsubscribed meanwhile
        self._end(uri, listen)

    async def _pass_on(self, listen: Exchange) -> bool:
        """Pass on what comes until the end; return whether there was anything."""
        heard = False
        with contextlib.suppress(StreamEnded):
            while True:
                note = messages.parse(await listen.receive())
                if isinstance(note, Notification):
                    heard = True
                    self._listener(Undirected(note.method, unnamed(note)))
        return heard

    def _end(self, uri: str, listen: Exchange | None) -> None:
        """End a subscription on the child."""
        if listen is not None:
            listen.abandon(client_gone())
            if self._listens.get(uri) is listen:
                del self._listens[uri]


def _refuse(exchange: Exchange, answer: Message) -> None:
    """Tell a client that a subscription was not granted."""
    if isinstance(answer, Response) and answer.error:
        exchange.finish(messages.response_line(answer, exchange.request.id))
    else:
        text = "the server announces no updates of this resource"
        exchange.finish(messages.error_line(exchange.request.id, METHOD_NOT_FOUND, text))


def _future() -> asyncio.Future[Response]:
    return asyncio.get_running_loop().create_future()


def _nothing(_: Undirected) -> None:
    """Nobody listens yet."""
