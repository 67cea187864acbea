"""Calls that are counted while they run (``maxConcurrent``), written down when they have ended (``AUDIT_LOG``), and
spans of traces (``OTEL_EXPORTER_OTLP_ENDPOINT``).

A call of a session goes on when its client hangs up, so what ends it is the end of its exchange and not of the handler.
Where none of it is wanted there is nothing to follow, and nothing to pay.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from aiohttp import web

from bridge.children.exchange import Exchange
from bridge.observe import audit
from bridge.protocol import jsontext, messages
from bridge.protocol.errors import BridgeError, Fault, Rejection
from bridge.protocol.messages import Request
from bridge.protocol.modern import LISTEN
from bridge.sessions.streamable import StreamableSession
from bridge.web.limits import caller_of
from bridge.web.principal import principal_of
from bridge.web.proxy import client_of

if TYPE_CHECKING:
    from bridge.web.traces import CallSpan, Traces

T = TypeVar("T")

#: What a caller is told to wait for a place; how long its own calls take is not known.
RETRY = 1.0
#: What takes no place of ``maxConcurrent``: one is over before the first call, the other lasts as long as its client.
UNCOUNTED = frozenset({"initialize", LISTEN})

#: How a call ends whose client no longer wants it.
CANCELLED = "cancelled"

_IS_TRACED = web.RequestKey("is_traced", bool)


class _Result(msgspec.Struct, gc=False):
    is_error: jsontext.Raw = msgspec.field(default=jsontext.ABSENT, name="isError")


class _Answer(msgspec.Struct, gc=False):
    """What tells how a call has ended."""

    error: jsontext.Raw = jsontext.ABSENT
    result: _Result = msgspec.field(default_factory=_Result)


_answer = msgspec.json.Decoder(_Answer)
_TRUE = jsontext.Raw(b"true")


class Calls:
    """``most`` is how many calls each caller may have in flight at a server, by its id; ``traces`` makes spans."""

    def __init__(self, most: Mapping[str, int], traces: Traces | None = None) -> None:
        self.most = most
        self._traces = traces
        self._running: Counter[tuple[str, str]] = Counter()
        self._is_audited = audit.is_on()
        #: Whether all calls are followed, and not only those of servers in ``most``.
        self.are_watched = self._is_audited or traces is not None

    def begin(
        self, request: web.BaseRequest, server: str, message: Request, session: StreamableSession | None = None
    ) -> Call | None:
        """Follow a call, None where nobody wants to know. Raises :class:`Rejection` (429) when it is one too many."""
        most = self.most.get(server) if self.most and message.method not in UNCOUNTED else None
        if most is None and not self.are_watched:
            return None
        key = server, caller_of(request)
        if most is not None:
            if self._running[key] >= most:
                why = f'{most} call(s) of yours are in flight at server "{server}": "maxConcurrent" allows no more'
                raise Rejection(Fault.TOO_MANY, why, retry_in=RETRY)
            self._running[key] += 1

        def leave() -> None:
            if most is not None:
                self._running[key] -= 1
                if not self._running[key]:
                    del self._running[key]

        span = None if self._traces is None else self._span(self._traces, request, server, message, session)
        return Call(leave, request, server, message, span)

    def refused(self, request: web.BaseRequest, server: str, message: Request, error: BridgeError) -> None:
        """A request has ended with this error. Where it was no call yet, it is a span all the same."""
        if self._traces is not None and _IS_TRACED not in request:
            span = self._span(self._traces, request, server, message, None)
            span.end(str(error.fault.code), error.fault.code, error.fault)

    def _span(
        self,
        traces: Traces,
        request: web.BaseRequest,
        server: str,
        message: Request,
        session: StreamableSession | None,
    ) -> CallSpan:
        request[_IS_TRACED] = True
        span = traces.begin(request, server, message)
        if session is not None:
            span.in_session(session.id, session.version)
        elif (version := request.headers.get("MCP-Protocol-Version")) is not None:
            span.in_session("", version)
        return span


class Call:
    """One call that is followed until :meth:`ended`, or :meth:`answered`; what comes later does not count.

    ``message`` is what is to be sent: the request, with the context of its trace.
    """

    def __init__(
        self,
        leave: Callable[[], None],
        request: web.BaseRequest,
        server: str,
        message: Request,
        span: CallSpan | None = None,
    ) -> None:
        self._leave: Callable[[], None] | None = leave
        self._span = span
        self.message = message if span is None else span.message
        self.last = b""
        self._members: dict[str, Any] | None = None
        if message.method == "tools/call" and audit.is_on():
            name = jsontext.member(message.params, "name")
            self._members = {
                "principal": principal_of(request).name,
                "address": client_of(request),
                "server": server,
                "tool": (jsontext.string(name) if name else None) or "",
            }
            self._begun = time.perf_counter()

    def greets(self, exchange: Exchange, session: StreamableSession) -> None:
        """It is the ``initialize`` of this session."""

        def ended(exchange: Exchange) -> None:
            if self._span is not None:
                self._span.in_session(session.id, session.version)
            self.ended(exchange)

        if exchange.ended:
            ended(exchange)
        else:
            exchange.before_end(ended)

    async def sent(self, sending: Coroutine[Any, Any, T], *, goes_on: bool = False) -> T:
        """Wait until a request has been sent. It ends here where it could not be, and where its client leaves before
        that, unless it ``goes_on`` then: its exchange tells its end.
        """
        try:
            return await sending
        except BridgeError as error:
            self.answered(messages.error_line(None, error.fault.code, str(error)), error.fault)
            raise
        except BaseException as error:
            if not (goes_on and isinstance(error, asyncio.CancelledError)):
                self.answered(None)
            raise

    async def handled(self, handling: Coroutine[Any, Any, T]) -> T:
        """Wait for the end of a handler that its call does not outlive."""
        try:
            return await self.sent(handling)
        finally:
            self.answered(b"")

    def seeing(self, as_event: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
        """Return what writes events, and keeps the last one in ``last``."""

        def seen(message: bytes) -> bytes:
            self.last = message
            return as_event(message)

        return seen

    def ended(self, exchange: Exchange) -> None:
        """It has its answer."""
        fault = None if exchange.failure is None else exchange.failure.fault
        self.answered(None if exchange.is_cancelled else exchange.answer, fault)

    def before(self, then: Callable[[Exchange], None]) -> Callable[[Exchange], None]:
        """Return what is to be called at the end of an exchange, where something else is to be called too."""

        def both(exchange: Exchange) -> None:
            self.ended(exchange)
            then(exchange)

        return both

    def answered(self, answer: bytes | None, fault: Fault | None = None) -> None:
        """It has its answer, None where it was cancelled; ``fault`` where the bridge had to make it."""
        leave, self._leave = self._leave, None
        if leave is None:
            return
        leave()
        if self._members is None and self._span is None:
            return
        # Once: looking for a name in a large text takes as long as reading it.
        read = jsontext.read(_answer, answer) if answer else None
        outcome = CANCELLED if answer is None else _outcome(read)
        if self._members is not None:
            audit.record(
                "tool_call",
                **self._members,
                duration_ms=round((time.perf_counter() - self._begun) * 1000, 1),
                outcome=outcome,
                size=len(answer or b""),
            )
        if self._span is not None:
            code = jsontext.decode(jsontext.member(bytes(read.error), "code")) if read is not None else None
            code = code if isinstance(code, int) else None
            kind = "" if outcome == "ok" else outcome
            self._span.end(str(code) if outcome == "error" and code is not None else kind, code, fault)


def _outcome(read: _Answer | None) -> str:
    if read is None:
        return "ok"
    if read.error != jsontext.ABSENT:
        return "error"
    return "tool_error" if read.result.is_error == _TRUE else "ok"
