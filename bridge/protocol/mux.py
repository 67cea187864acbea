"""The routing table of one child: every exchange gets a number of its own, and gets its own names back.

One integer per exchange is its JSON-RPC id *and* its progress token on the child, whatever the client called them, so
two clients that both say ``id: 7`` and ``progressToken: "p"`` never meet (users' scars 14 and 15). Questions of the
child (sampling, elicitation, roots) are renumbered the same way before a client sees them.

Pure: :meth:`Mux.receive` takes a message and returns a decision; the connection obeys it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

import msgspec

from bridge.protocol import jsontext, messages, tasks
from bridge.protocol.envelope import LARGE
from bridge.protocol.errors import INTERNAL_ERROR, Rejection
from bridge.protocol.jsontext import Raw
from bridge.protocol.messages import LargeResult, Line, Message, Notification, Request, Response
from bridge.protocol.modern import LISTEN, SUBSCRIPTION_ID, with_meta

PROGRESS = "notifications/progress"
CANCELLED = "notifications/cancelled"
PING = "ping"

#: Questions of one child that may wait for an answer at once; each may hold a timer and a place on a client's stream.
MOST_QUESTIONS = 1000

E = TypeVar("E")  # what a connection calls an exchange


class Deliver(msgspec.Struct, Generic[E], frozen=True):
    """Send ``message`` on the stream of one exchange; ``final`` says it is the answer and ends it."""

    exchange: E
    message: bytes
    final: bool = False


class Undirected(msgspec.Struct, frozen=True):
    """A message that names no exchange, for whoever owns the child.

    ``question`` is the id under which an answer will come back, or which a cancellation takes back; None for every
    other notification.
    """

    method: str
    message: bytes
    question: int | None = None


class Reply(msgspec.Struct, frozen=True):
    """Write ``message`` back to the child: the bridge answers by itself."""

    message: bytes


class Refuse(msgspec.Struct, frozen=True):
    """Write ``message`` back to the child: the bridge does not take its question, and says ``why`` in the log."""

    message: bytes
    why: str


class Drop(msgspec.Struct, frozen=True):
    """Do nothing, and say ``why`` in the log."""

    why: str


Decision = Deliver[E] | Undirected | Reply | Refuse | Drop


class _Open(msgspec.Struct, Generic[E]):
    exchange: E
    id: bytes
    token: Raw | None
    is_listen: bool


class _Meta(msgspec.Struct, gc=False):
    token: Raw = msgspec.field(default=jsontext.ABSENT, name="progressToken")


class _Params(msgspec.Struct, gc=False):
    meta: _Meta = msgspec.field(default_factory=_Meta, name="_meta")


_meta = msgspec.json.Decoder(_Meta)
_SUBSCRIPTION_ID = SUBSCRIPTION_ID.encode()
_BACKSLASH = ord("\\")
_params = msgspec.json.Decoder(_Params)


class Mux(Generic[E]):
    """Ids and progress tokens of one child, out and back in.

    ``numbers`` yields the ids under which the child's questions reach clients; sharing one iterator among all children
    makes a late answer to a dead child's question name no question of its successor.
    """

    __slots__ = ("_last", "_numbers", "_open", "_questions", "_tasks")

    def __init__(self, numbers: Iterator[int]) -> None:
        self._last = 0
        self._numbers = numbers
        self._open: dict[int, _Open[E]] = {}
        self._questions: dict[int, bytes] = {}
        self._tasks: tasks.Tokens[Raw] = tasks.Tokens()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def exchanges(self) -> list[E]:
        """Those that are open, oldest first."""
        return [entry.exchange for entry in self._open.values()]

    @property
    def questions(self) -> int:
        """How many questions of the child wait for an answer."""
        return len(self._questions)

    def open(self, exchange: E, request: Request) -> tuple[int, Line]:
        """Give an exchange its number; return that and the line for the child."""
        self._last = number = self._last + 1
        wire = b"%d" % number
        params, token = swap_token(request, wire) if request.meta else (request.params, None)
        self._open[number] = _Open(exchange, request.id, token, request.method == LISTEN)
        make = messages.request_line if len(params) < LARGE else messages.large_request
        return number, make(wire, request.method, params)

    def close(self, number: int) -> E | None:
        """Forget an exchange and return it: nothing that the child still says under its number reaches anyone."""
        entry = self._open.pop(number, None)
        return None if entry is None else entry.exchange

    def cancel(self, number: int, params: bytes = b"") -> bytes | None:
        """Return the line that cancels an exchange on the child, None when it is no longer open.

        ``params`` are those of the client's own ``notifications/cancelled``; its reason is kept.
        """
        if number not in self._open:
            return None
        members = {**jsontext.fields(params), "requestId": Raw(b"%d" % number)}
        return messages.notification_line(CANCELLED, jsontext.encode(members))

    def answer(self, response: Response) -> bytes | None:
        """Return the line that hands a client's answer to the child; None when no question has that id."""
        number = messages.number(response.id)
        theirs = None if number is None else self._questions.pop(number, None)
        return None if theirs is None else messages.response_line(response, theirs)

    def refuse(self, question: int, code: int, message: str) -> bytes | None:
        """Return the line that answers a question with an error, because nobody else will."""
        theirs = self._questions.pop(question, None)
        return None if theirs is None else messages.error_line(theirs, code, message)

    def receive(self, message: Message | LargeResult) -> Decision[E]:
        """Decide what becomes of a message from the child."""
        if isinstance(message, Response):
            return self._answered(message)
        if isinstance(message, Request):
            return self._asked(message)
        if isinstance(message, LargeResult):
            return self._answered_at_length(message)
        try:
            return self._told(message)
        except Rejection as rejection:
            return Drop(f"{message.method}: {rejection}")

    def _answered(self, response: Response) -> Decision[E]:
        number = messages.number(response.id)
        entry = None if number is None else self._open.pop(number, None)
        if entry is None:
            return Drop(f"an answer to id {_shown(response.id)}, which is not open")
        if entry.token is not None and number is not None and len(entry.token) <= tasks.LONGEST_TOKEN:
            self._tasks.answered(number, response.result, entry.token)
        if entry.is_listen and response.result:
            response = Response(response.id, _renamed(response.result, entry.id))
        return Deliver(entry.exchange, messages.response_line(response, entry.id), final=True)

    def _answered_at_length(self, answer: LargeResult) -> Decision[E]:
        number = messages.number(answer.id)
        entry = None if number is None else self._open.get(number)
        if number is None or entry is None or entry.is_listen:
            return self._answered(Response(answer.id, bytes(answer.result)))
        del self._open[number]
        return Deliver(entry.exchange, messages.large_line(answer, entry.id), final=True)

    def _asked(self, request: Request) -> Decision[E]:
        if request.method == PING:
            return Reply(messages.response_line(Response(request.id, result=b"{}")))
        if len(self._questions) >= MOST_QUESTIONS:
            why = f"{MOST_QUESTIONS} questions of this server wait for an answer already; it may ask again after one"
            said = f"{_shown(request.method.encode())}: {why}"
            return Refuse(messages.error_line(request.id, INTERNAL_ERROR, why), said)
        number = next(self._numbers)
        self._questions[number] = request.id
        line = messages.request_line(b"%d" % number, request.method, request.params)
        return Undirected(request.method, line, number)

    def _told(self, note: Notification) -> Decision[E]:
        if note.method == PROGRESS:
            return self._progressed(note)
        if note.method == CANCELLED:
            return self._withdrawn(note)
        if note.method == tasks.STATUS:
            self._tasks.told(note.params)
        # A name may be written with escapes (PHP writes "\\/"); where there is any, only reading tells.
        if note.params.find(_SUBSCRIPTION_ID) >= 0 or _BACKSLASH in note.params:
            meta = jsontext.fields(jsontext.member(note.params, "_meta"))
            if SUBSCRIPTION_ID in meta:
                return self._published(note, bytes(meta[SUBSCRIPTION_ID]))
        return Undirected(note.method, messages.notification_line(note.method, note.params))

    def _progressed(self, note: Notification) -> Decision[E]:
        members = jsontext.fields(note.params)
        named = bytes(members.get("progressToken", b""))
        number = messages.number(named) or 0  # which no request has
        entry = self._open.get(number)
        token = self._tasks.get(number) if entry is None else entry.token
        if token is None:
            return Drop(f"progress for token {_shown(named)}, which no open request carries")
        members["progressToken"] = token
        line = messages.notification_line(PROGRESS, jsontext.encode(members))
        return Undirected(PROGRESS, line) if entry is None else Deliver(entry.exchange, line)

    def _published(self, note: Notification, named: bytes) -> Decision[E]:
        """Something that a client subscribed to (specification 2026-07-28, subscriptions/listen)."""
        number = messages.number(named.strip(b'"'))
        entry = None if number is None else self._open.get(number)
        if entry is None or not entry.is_listen:
            return Drop(f"{note.method} for subscription {_shown(named)}, which is not open")
        return Deliver(entry.exchange, messages.notification_line(note.method, _renamed(note.params, entry.id)))

    def _withdrawn(self, note: Notification) -> Decision[E]:
        """The child takes one of its own questions back."""
        members = jsontext.fields(note.params)
        theirs = bytes(members.get("requestId", b""))
        number = next((n for n, id_ in self._questions.items() if messages.same_id(id_, theirs)), None)
        if number is None:
            return Drop(f"cancellation of id {_shown(theirs)}, which is no open question")
        del self._questions[number]
        members["requestId"] = Raw(b"%d" % number)
        return Undirected(CANCELLED, messages.notification_line(CANCELLED, jsontext.encode(members)), number)


def swap_token(request: Request, wire: bytes) -> tuple[bytes, Raw | None]:
    """Replace ``_meta.progressToken``; return the new params and the client's own token, None if it has none."""
    meta = jsontext.read(_meta, request.meta)
    token = b"" if meta is None else bytes(meta.token)
    if not token:
        return request.params, None
    return _with_token(request, token, wire), Raw(token)


def _with_token(request: Request, token: bytes, wire: bytes) -> bytes:
    """The params with another progress token, every other byte as it was; the old one is found by its text."""
    if token == wire:
        return request.params
    start = request.params.rfind(request.meta) + request.meta.rfind(token)
    changed = b"%b%b%b" % (request.params[:start], wire, request.params[start + len(token) :])
    read = jsontext.read(_params, changed)
    if read is not None and read.meta.token == Raw(wire):  # which proves it: no other change makes that the token
        return changed
    meta = jsontext.replaced(request.meta, "progressToken", wire)
    return jsontext.replaced(request.params, "_meta", meta)


def _renamed(holder: bytes, client_id: bytes) -> bytes:
    """The same params or result with the client's own id as subscription id."""
    return with_meta(holder, {SUBSCRIPTION_ID: client_id})


def _shown(raw: bytes) -> str:
    """An id in a log line: short, and without anything that could write a second line."""
    return ascii(raw[:40].decode(errors="replace")).strip("'")
