"""Streamable HTTP as a client: each message is a POST, its answer JSON or an event stream, and one GET for the rest.

Specification 2025-11-25, transports. A stream that ends before its answer is no end of the request: if it had ids, the
request goes on over a GET with the last of them (resumability; servers that make their clients poll end it on purpose).
"""

from __future__ import annotations

import asyncio
import logging
import random

import aiohttp

from bridge.protocol import jsontext
from bridge.protocol.errors import SERVER_ERROR
from bridge.protocol.sse import EventParser
from bridge.remote.call import Call, Hear
from bridge.remote.http import JSON_TYPE, SSE_TYPE, Gone, HttpClient, HttpFailure

log = logging.getLogger(__name__)

#: Seconds before a stream is opened again, where the server says nothing, and the longest they become by doubling.
FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0
#: Seconds that a server may ask us to wait.
LONGEST_HINT = 600.0
#: Times in a row that a request's stream is opened again without anything coming.
RESUMES = 6
#: Seconds for the end of a stream behind its answer: a connection that was read to its end can be used again.
LINGER = 0.1
#: Seconds for a message that wants no answer to be accepted.
TELL_PATIENCE = 30.0
#: Answers to the first GET after which another try may help.
PASSING = frozenset({408, 409, 425, 429, *range(500, 600)} - {501})

POST_HEADERS = {"Accept": f"{JSON_TYPE}, {SSE_TYPE}", "Content-Type": JSON_TYPE}
_SESSION_ID = "session ID"
_random = random.SystemRandom()


class StreamableWire:
    """One session with a remote server. ``hear`` gets each message of it."""

    hangs_up = False

    def __init__(self, http: HttpClient, hear: Hear) -> None:
        self._http = http
        self._hear = hear
        self.session_id = ""
        self.version = ""

    async def call(self, call: Call) -> None:
        """POST a request and read until it is answered."""
        parser = EventParser(self._http.limit)
        headers = self._headers(POST_HEADERS)
        async with self._http.open("POST", headers, data=call.line, on_sent=call.went_out) as response:
            call.went_out()
            if response.status == 200 and response.content_type == JSON_TYPE:
                self._opened(response, call)
                self._hear(await self._http.body(response), call)
            elif response.status == 200 and response.content_type == SSE_TYPE:
                self._opened(response, call)
                await follow(response, parser, self._hear, call)
            else:
                raise await self._failure(response)
        if response.content_type == SSE_TYPE:
            await self._resume(call, parser)
        if call.request.method == "initialize" and call.answer is not None:
            version = jsontext.fields(call.answer.result).get("protocolVersion", b"")
            self.version = jsontext.string(bytes(version)) or ""

    async def tell(self, line: bytes) -> None:
        """POST a notification, or an answer to a question."""
        try:
            async with (
                asyncio.timeout(TELL_PATIENCE),
                self._http.open("POST", self._headers(POST_HEADERS), data=line) as response,
            ):
                if not 200 <= response.status < 300:
                    raise await self._failure(response)
        except TimeoutError:
            raise HttpFailure(f"did not accept a message within {TELL_PATIENCE:g} s") from None

    async def listen(self) -> None:
        """Keep a GET stream open. A server may have none (405), which is told at the first try only."""
        parser = EventParser(self._http.limit)
        opened = False
        attempt = 0
        while True:
            try:
                came = await self._get(parser, None, first=not opened)
                opened = True
                attempt = 0 if came else attempt + 1
            except HttpFailure as failure:
                if not opened and failure.status is not None and failure.status not in PASSING:
                    log.debug("no GET stream: the server %s", failure)
                    return
                attempt += 1
            await asyncio.sleep(backoff(attempt, parser.retry))

    async def leave(self) -> None:
        """DELETE the session; a server need not allow that (405)."""
        if self.session_id:
            async with self._http.open("DELETE", self._headers({})) as response:
                log.debug("DELETE of the session: HTTP %d", response.status)

    def _headers(self, headers: dict[str, str]) -> dict[str, str]:
        named = dict(headers)
        if self.session_id:
            named["Mcp-Session-Id"] = self.session_id
        if self.version:
            named["MCP-Protocol-Version"] = self.version
        return named

    def _opened(self, response: aiohttp.ClientResponse, call: Call) -> None:
        """The session id comes with the response that carries InitializeResult."""
        if not self.version:
            self.session_id = response.headers.get("Mcp-Session-Id", "")
            self._http.keep_secret(self.session_id)

    async def _failure(self, response: aiohttp.ClientResponse) -> HttpFailure:
        """What is wrong. Raises :class:`Gone` for 404 (specification: the session has been terminated), and for what
        examples of the TypeScript SDK answer instead, and the servers made after them.
        """
        if response.status == 404 and self.session_id:
            raise Gone("its session has ended (it answered HTTP 404)")
        failure = await self._http.failure(response)
        if response.status == 400 and self.session_id and failure.code == SERVER_ERROR and _SESSION_ID in str(failure):
            raise Gone(f"its session has ended (it {failure})")
        return failure

    async def _resume(self, call: Call, parser: EventParser) -> None:
        """Go on with a stream that ended before its answer."""
        attempt, why = 0, ""
        while not call.answered.is_set():
            if not parser.last_id:
                raise HttpFailure("ended its event stream before it answered, without an id to go on with")
            if attempt >= RESUMES:
                ended = f"ended its event stream before it answered, {RESUMES} times without any progress"
                raise HttpFailure(f"{ended}{why}")
            await asyncio.sleep(backoff(attempt, parser.retry))
            try:
                attempt = 0 if await self._get(parser, call) else attempt + 1
            except HttpFailure as failure:
                if failure.status is not None and failure.status not in PASSING:
                    raise HttpFailure(
                        f"ended its event stream before it answered, and when asked to go on with it {failure}"
                    ) from None
                attempt, why = attempt + 1, f"; the last time it {failure}"

    async def _get(self, parser: EventParser, call: Call | None, *, first: bool = False) -> bool:
        """Read one GET stream to its end; whether anything came on it. A server without GET may answer the first one
        with 404 as well, which then says nothing of the session.
        """
        headers = self._headers({"Accept": SSE_TYPE})
        if parser.last_id:
            headers["Last-Event-ID"] = parser.last_id
        async with self._http.open("GET", headers) as response:
            if response.status != 200 or response.content_type != SSE_TYPE:
                raise await (self._http.failure if first else self._failure)(response)
            return await follow(response, parser, self._hear, call)


async def follow(response: aiohttp.ClientResponse, parser: EventParser, hear: Hear, call: Call | None) -> bool:
    """Hear a stream until it ends, breaks, or has answered the call; whether anything came on it."""
    before = parser.count
    parser.reopen()
    try:
        async with asyncio.timeout(None) as patience:
            async for chunk in response.content.iter_any():
                for event in parser.feed(chunk):
                    if event.kind == "message":
                        hear(event.data, call)
                if call is not None and call.answered.is_set() and patience.when() is None:
                    patience.reschedule(asyncio.get_running_loop().time() + LINGER)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        log.debug("an event stream broke: %s", type(error).__name__)
    return parser.count > before


def backoff(attempt: int, hint: float | None = None) -> float:
    """Seconds before the next try: what the server asked for (``retry``: MUST be respected), doubling while nothing
    comes, and never the same for all who lost their streams at once.
    """
    first = FIRST_WAIT if hint is None else min(max(hint, 0.001), LONGEST_HINT)
    wait = max(first, min(first * 2.0 ** min(attempt, 30), LONGEST_WAIT))
    return wait * _random.uniform(1.0, 1.25)
