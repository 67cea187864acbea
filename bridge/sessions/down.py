"""A modern client's call on a child that only knows the handshake era.

The child may ask its client in the middle of a call; the modern era has no such requests. So the question becomes an
``input_required`` result that ends the client's POST, the call stays open on the child, and the client's retry brings
the answers (specification 2026-07-28, multi-round requests). One call at a time has such a child, so a question of the
child belongs to that call.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from bridge.children.crowd import LOG_MESSAGE
from bridge.children.exchange import Exchange
from bridge.children.policy import Sharing, interactive
from bridge.children.pool import Lease
from bridge.children.stream import Kind, RequestStream
from bridge.protocol import jsontext, messages, translate
from bridge.protocol.capabilities import WANTED, may_ask
from bridge.protocol.errors import INTERNAL_ERROR, BridgeError, Fault, Rejection, client_gone
from bridge.protocol.jsontext import Raw
from bridge.protocol.messages import Request, Response
from bridge.protocol.modern import INTERACTIVE, ModernRequest
from bridge.protocol.mux import CANCELLED, PROGRESS, Undirected
from bridge.sessions.parking import Parking

log = logging.getLogger(__name__)

#: Seconds in which a child that asks several things at once may ask them all.
GATHER = 0.03
#: Most notes of a parked call that are kept for the client's next POST.
HELD = 1000


class Answered(RequestStream):
    """What one POST of a modern client gets: notes, and one answer that ends it."""

    def __init__(self, request_id: bytes) -> None:
        super().__init__()
        self._id = request_id

    def result(self, result: bytes) -> None:
        """End with a result."""
        self._end(messages.response_line(Response(self._id, result)))

    def error(self, error: bytes) -> None:
        """End with an error."""
        self._end(messages.response_line(Response(self._id, error=error)))

    def _end(self, line: bytes) -> None:
        self.put(line)
        self.end()


class DownCall(RequestStream):
    """One call on a handshake child, over as many POSTs as its questions need.

    It is the stream that the child's messages go into; ``client`` is the POST that waits now, None while it is parked.
    ``lease`` is that of a child held for this call alone, None for one that is shared and never asks. ``on_end`` is
    called once, when the child is no longer needed.
    """

    def __init__(
        self,
        asked: ModernRequest,
        server: str,
        server_info: bytes,
        parking: Parking,
        principal: str,
        lease: Lease | None,
        on_end: Callable[[], None],
    ) -> None:
        super().__init__()
        self.server = server
        self.first = Answered(asked.request.id)
        self.client: Answered | None = self.first
        self._asked = asked
        self._token = _progress_token(asked)
        self._held: deque[bytes] = deque(maxlen=HELD)
        self._server_info = server_info
        self._parking = parking
        self._principal = principal
        self._lease = lease
        self._on_end = on_end
        self._questions: dict[str, tuple[int, bytes]] = {}
        self._last_question = 0
        self._gathering: asyncio.TimerHandle | None = None
        self._outcome: tuple[bytes, bytes] | None = None  # result and error that wait for a retry
        down = Request(asked.request.id, asked.method, translate.params_down(asked.request.params))
        self.exchange = Exchange(down, self._ended, self)
        self.exchange.log_level = asked.log_level
        if lease is not None:
            lease.connection.on_undirected = self._hear

    def put(self, message: bytes, kind: Kind = Kind.ANSWER) -> None:
        """Something of the child, on its way to the POST that waits, or will; the answer takes another way."""
        if kind is not Kind.NOTE:
            return
        if self.client is None:
            self._held.append(message)
        elif (note := self._under_token(message)) is not None:
            self.client.put(note, kind)

    def retry(self, asked: ModernRequest) -> Answered:
        """The client has come back with answers; return its new POST."""
        client = self.client = Answered(asked.request.id)
        self._token = _progress_token(asked)
        while self._held:
            self.put(self._held.popleft(), Kind.NOTE)
        members = jsontext.fields(asked.request.params)
        answers = jsontext.fields(bytes(members.get("inputResponses", b"")))
        for key in list(self._questions):
            if key in answers and self._lease is not None:
                number, _ = self._questions.pop(key)
                self._lease.connection.answer(Response(b"%d" % number, result=bytes(answers[key])))
        if self._outcome is not None:
            self._finish(*self._outcome)
        elif self._questions:  # some are still without an answer
            self._ask()
        return client

    def abandon(self) -> None:
        """The client closed the POST that waited: that is a cancellation (specification 2026-07-28)."""
        self.client = None
        self.exchange.abandon(client_gone())

    def expire(self) -> None:
        """The client never came back."""
        for number, _ in self._questions.values():
            if self._lease is not None:
                self._lease.connection.refuse(number, "the user did not answer in time")
        self._questions.clear()
        self.exchange.abandon(Rejection(Fault.TIMED_OUT, "its user did not answer in time"))

    def _under_token(self, note: bytes) -> bytes | None:
        """Progress under the token of the POST that waits now, each has its own; None where that wants none."""
        members = jsontext.fields(note)
        if members.get("method") != Raw(jsontext.encode(PROGRESS)):
            return note
        if self._token is None:
            return None
        params = jsontext.fields(bytes(members.get("params", b"")))
        return messages.notification_line(PROGRESS, jsontext.encode({**params, "progressToken": self._token}))

    def _hear(self, message: Undirected) -> None:
        if message.question is None:
            if message.method == LOG_MESSAGE and translate.is_heard(message.message, self._asked.log_level):
                self.put(message.message, Kind.NOTE)
            return
        if message.method == CANCELLED:  # the child does not want to know any more
            self._questions = {key: each for key, each in self._questions.items() if each[0] != message.question}
            return
        assert self._lease is not None
        if message.method not in WANTED:
            self._lease.connection.refuse(message.question, f"clients of this version cannot be asked {message.method}")
            return
        if self._asked.method not in INTERACTIVE or not may_ask(self._asked.capabilities, message.message):
            self._lease.connection.refuse(message.question, f"the client does not offer what {message.method} needs")
            return
        self._questions[f"r{self._last_question}"] = (message.question, translate.question_of(message.message))
        self._last_question += 1
        if self.client is not None and self._gathering is None:
            self._gathering = asyncio.get_running_loop().call_later(GATHER, self._ask)

    def _ask(self) -> None:
        """Hand the questions to the client and wait for its retry."""
        self._gathering = None
        if self.client is None or not self._questions or self.exchange.ended:
            return
        questions = {key: question for key, (_, question) in self._questions.items()}
        try:
            state = self._parking.park(self, self._asked.request, self._principal)
        except BridgeError as full:
            self.expire()
            log.warning("%s", full)
            return
        client, self.client = self.client, None
        client.result(translate.input_required(questions, state, self._server_info))

    def _ended(self, exchange: Exchange) -> None:
        if self._lease is not None:
            self._lease.connection.on_undirected = None
        self._on_end()
        self._questions.clear()
        answer = jsontext.fields(exchange.answer)
        outcome = bytes(answer.get("result", b"")), bytes(answer.get("error", b""))
        if self.client is None:
            self._outcome = outcome
        else:
            self._finish(*outcome)

    def _finish(self, result: bytes, error: bytes) -> None:
        client, self.client = self.client, None
        assert client is not None
        try:
            self._translate(client, result, error)
        except BridgeError as full:
            log.warning("%s", full)
            client.error(jsontext.encode({"code": full.fault.code, "message": str(full)}))
        except Exception as unexpected:  # the client must hear something, whatever the child has sent
            log.exception("server %s: an answer to %s cannot be translated", self.server, self._asked.method)
            text = f"the answer of the server cannot be translated: {type(unexpected).__name__}"
            client.error(jsontext.encode({"code": INTERNAL_ERROR, "message": text}))

    def _translate(self, client: Answered, result: bytes, error: bytes) -> None:
        urls = translate.urls_wanted(error) if error else {}
        if not all(may_ask(self._asked.capabilities, question) for question in urls.values()):
            client.error(translate.urls_not_offered(error))
        elif urls:  # the client opens them and calls again, which is a new call for the child
            state = self._parking.park(_Again(self), self._asked.request, self._principal)
            client.result(translate.input_required(urls, state, self._server_info))
        elif error:
            client.error(translate.error_up(error))
        else:
            client.result(translate.result_up(self._asked.method, result, self._server_info))


def is_alone(asked: ModernRequest) -> bool:
    """Whether a request holds its child alone: it may be asked, or wants to hear the log. Lists too: servers have tools
    that only clients of certain capabilities get to see.
    """
    return asked.log_level is not None or bool(jsontext.fields(asked.capabilities))


def children_of(asked: ModernRequest, owner: str) -> Sharing:
    """The policy of the children that such requests hold: the same for the same capabilities."""
    return interactive(jsontext.canonical(asked.capabilities).encode(), owner)


def _progress_token(asked: ModernRequest) -> Raw | None:
    meta = jsontext.fields(jsontext.member(asked.request.params, "_meta"))
    token = meta.get("progressToken")
    return None if token is None else token.copy()


class _Again:
    """A call that has ended and is to be made anew when its client comes back."""

    def __init__(self, call: DownCall) -> None:
        self.server = call.server

    def expire(self) -> None:
        """Nothing waits on the child."""
