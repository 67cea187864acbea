"""Streamable HTTP of the modern era as a client: each request is a POST of its own, whose headers repeat it.

Specification 2026-07-28, transports. There is no session, and nothing that the server says by itself. A stream that
breaks has lost its request. A subscription that was granted once is opened anew when its stream ends; because nobody
knows what has changed meanwhile, all that it is about is said to have changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging

from bridge.protocol import jsontext, messages
from bridge.protocol.errors import HEADER_MISMATCH, Rejection
from bridge.protocol.framing import Oversized
from bridge.protocol.headers import headers_of, mirrored_tools
from bridge.protocol.messages import Message, Notification, Request, Response
from bridge.protocol.modern import ACKNOWLEDGED, LISTEN
from bridge.protocol.sse import EventParser
from bridge.protocol.subscriptions import all_changed
from bridge.protocol.tools import MOST_PAGES, next_cursor
from bridge.protocol.versions import MODERN_VERSION
from bridge.remote.call import Call, Hear
from bridge.remote.http import JSON_TYPE, SSE_TYPE, Gone, HttpClient, HttpFailure
from bridge.remote.streamable import PASSING, POST_HEADERS, backoff, follow

log = logging.getLogger(__name__)

#: Answers that only a server of another era gives, unless they carry the error of a request.
OTHER_ERA = frozenset({400, 404, 405})
#: Tools whose headers are remembered; the next call that lacks one asks again.
MOST_TOOLS = 10_000
_numbers = itertools.count(1)


class ModernWire:
    """Requests to a remote server. ``hear`` gets each message of it."""

    hangs_up = True

    def __init__(self, http: HttpClient, hear: Hear) -> None:
        self._http = http
        self._hear = hear
        self._mirrored: dict[str, dict[str, tuple[str, ...]]] = {}

    async def call(self, call: Call) -> None:
        """POST a request and read until it is answered. Raises :class:`Gone` for the answer of another era."""
        if call.request.method == LISTEN:
            await self._subscribe(call)
        else:
            await self._request(call)

    async def tell(self, line: bytes) -> None:
        """Clients of this era have neither notifications nor answers."""
        log.debug("not sent: %s", line[:80])

    async def listen(self) -> None:
        """Nothing to do: a server of this era says nothing unasked."""

    async def leave(self) -> None:
        """Nothing to say: there is no session."""

    async def ask(self, request: Request) -> Response:
        """Return the answer to a request of our own. Raises what :meth:`call` raises."""
        own = Request(b'"bridge-%d"' % next(_numbers), request.method, request.params)
        call = Call(own, messages.request_line(own.id, own.method, own.params), lambda _: None)

        def hear(line: bytes | Oversized, _: Call | None) -> None:
            answer = None if isinstance(line, Oversized) else _parsed(line)
            if isinstance(answer, Response) and answer.id == own.id:
                call.answer = answer
                call.answered.set()

        answer = await self._post(call, hear)
        if answer is not None:
            hear(answer, call)
        if call.answer is None:
            raise HttpFailure("answered a request with something that is no answer to it", status=200)
        return call.answer

    async def _request(self, call: Call) -> None:
        def hear(line: bytes | Oversized, call: Call | None) -> None:
            if call is not None and call.request.method == "tools/list" and isinstance(line, bytes):
                self._learn(line)
            self._hear(line, call)

        answer = await self._post(call, hear)
        if answer is not None and _is_mismatch(call, answer):  # the tools have changed, or nobody has listed them yet
            await self._list_tools(call)
            answer = await self._post(call, hear)
        if answer is not None:
            hear(answer, call)

    async def _post(self, call: Call, hear: Hear) -> bytes | Oversized | None:
        """Send a request; return the one message that came back, or None when a stream came, which has been heard."""
        name = jsontext.string(jsontext.member(call.request.params, "name")) or ""
        try:
            headers = {**POST_HEADERS, **headers_of(call.request, self._mirrored.get(name, {}))}
        except Rejection as rejection:
            raise HttpFailure(f"was not asked: {rejection}", code=rejection.fault.code) from None
        async with self._http.open("POST", headers, data=call.line, on_sent=call.went_out) as response:
            call.went_out()
            if response.status == 200 and response.content_type == SSE_TYPE:
                await follow(response, EventParser(self._http.limit), hear, call)
                if not call.answered.is_set():
                    raise HttpFailure("ended its event stream before it answered")
                return None
            body: bytes | Oversized = b""
            if response.content_type == JSON_TYPE and response.status in {200, *OTHER_ERA}:
                body = await self._http.body(response)
                if response.status == 200 or _is_error_of(call, body):
                    return body
            failure = await self._http.failure(response, body if isinstance(body, bytes) and body else None)
            if response.status in OTHER_ERA:
                raise Gone(f"it does not speak {MODERN_VERSION} (it {failure})")
            raise failure

    async def _subscribe(self, call: Call) -> None:
        granted: bytes | None = None
        attempt = 0

        def hear(line: bytes | Oversized, call: Call | None) -> None:
            nonlocal granted, attempt
            message = None if isinstance(line, Oversized) else _parsed(line)
            if call is not None and isinstance(message, Notification) and message.method == ACKNOWLEDGED:
                first, granted = granted is None, message.params
                for each in [line] if first else all_changed(granted, call.id):
                    self._hear(each, call)
            elif granted is None or not isinstance(message, Response) or not message.result:
                attempt = 0
                self._hear(line, call)

        while not call.answered.is_set():
            try:
                answer = await self._post(call, hear)
            except HttpFailure as failure:
                if granted is None or (failure.status is not None and failure.status not in PASSING):
                    raise
                log.debug("a subscription is opened anew: the server %s", failure)
                await asyncio.sleep(backoff(attempt))
                attempt += 1
            else:
                if answer is not None:
                    self._hear(answer, call)
                    return

    def _learn(self, line: bytes) -> None:
        """Remember which arguments of listed tools want a header."""
        if len(self._mirrored) > MOST_TOOLS:
            self._mirrored.clear()
        with contextlib.suppress(Rejection):
            for name, mirrored in mirrored_tools(jsontext.member(line, "result")).items():
                if mirrored:
                    self._mirrored[name] = mirrored
                else:
                    self._mirrored.pop(name, None)

    async def _list_tools(self, call: Call) -> None:
        """List the tools as the client of a call sees them."""
        meta = jsontext.fields(jsontext.member(call.request.params, "_meta"))
        meta.pop("progressToken", None)
        params: dict[str, object] = {"_meta": meta}
        cursor: str | None = None
        for _ in range(MOST_PAGES):
            answer = await self.ask(Request(b"", "tools/list", jsontext.encode(params)))
            self._learn(messages.response_line(answer))
            cursor = next_cursor(answer.result, cursor)
            if cursor is None:
                return
            params["cursor"] = cursor


def _is_error_of(call: Call, body: bytes | Oversized) -> bool:
    """Whether this is the error of a request, and not of a server that does not understand it."""
    if isinstance(body, Oversized):
        return False
    try:
        members = jsontext.fields(body)
    except Rejection:  # nested too deeply: whoever hears it tells so
        return True
    return "error" in members and messages.same_id(bytes(members.get("id", b"")), call.id)


def _is_mismatch(call: Call, line: bytes | Oversized) -> bool:
    if call.request.method != "tools/call" or isinstance(line, Oversized) or b"%d" % HEADER_MISMATCH not in line:
        return False
    try:
        return jsontext.member(jsontext.member(line, "error"), "code") == b"%d" % HEADER_MISMATCH
    except Rejection:
        return False


def _parsed(line: bytes) -> Message | None:
    try:
        return messages.parse(line)
    except Rejection:
        return None
