"""The modern era on ``/mcp/{server_id}``: POST only, no session, no event ids; closing the stream cancels the call."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping

from aiohttp import web
from msgspec import structs
from multidict import CIMultiDictProxy

from bridge.children.silence import SilenceWatch
from bridge.children.stream import Kind, Stream
from bridge.protocol import jsontext, messages
from bridge.protocol.errors import Fault, Rejection
from bridge.protocol.messages import Message, Notification, Request, Response
from bridge.protocol.modern import LISTEN, ModernRequest, check_envelope, status_of
from bridge.sessions.modern import ModernAnswer
from bridge.web.around import Around
from bridge.web.arrivals import has_arrived
from bridge.web.calls import Call
from bridge.web.prebuilt import Prebuilt, taken
from bridge.web.principal import owner_of
from bridge.web.reply import JSON_TYPE, PING, event_stream, plain_event, pump


class ModernFace:
    """The handler of modern requests."""

    def __init__(self, around: Around) -> None:
        self._calls = around.core.modern
        self._drain = around.drain
        self._followed = around.calls
        self._silence = around.silence
        self._stays = around.stays
        self._nodes = around.nodes

    async def post(self, request: web.BaseRequest, server: str, message: Message) -> web.StreamResponse:
        """Take one message that claims to be modern. Raises :class:`BridgeError` for what cannot be served."""
        if isinstance(message, Notification):
            return taken()  # clients of this era have none; they cancel by closing the stream
        if isinstance(message, Response):
            raise Rejection(Fault.NOT_A_MESSAGE, "no request of the server waits for an answer in this era")
        message, there = await self._elsewhere(request, message)
        if there is not None:
            return there
        headers, owner = Headers(request.headers), owner_of(request)
        asked = check_envelope(message, headers)

        def serve(asked: ModernRequest) -> Awaitable[ModernAnswer]:
            return self._calls.answer(server, asked, headers, owner)

        if message.method == LISTEN:  # the way out waits for calls, and ends these
            self._drain.check()
            return await self._serve(request, server, asked, serve)
        with self._drain:
            return await self._serve(request, server, asked, serve)

    def ask_now(self, server: str, message: Message, headers: CIMultiDictProxy[str], owner: str) -> ModernAnswer | None:
        """Send a request where nothing has to be waited for, else nothing and return None.

        Raises :class:`BridgeError` for what cannot be served; nothing was sent then.
        """
        if not isinstance(message, Request):
            return None
        named = Headers(headers)
        return self._calls.answer_now(server, check_envelope(message, named), named, owner)

    async def _elsewhere(self, request: web.BaseRequest, message: Request) -> tuple[Request, web.StreamResponse | None]:
        """Return a request as it was meant, and its answer where it is a retry that another node waits for."""
        if self._nodes is None:
            return message, None
        meant, member = self._nodes.states.read(message)
        if member is None or has_arrived(request):
            return meant, None
        line = messages.request_line(message.id, message.method, message.params)
        return meant, await self._nodes.send(request, member, line)

    async def _serve(
        self,
        request: web.BaseRequest,
        server: str,
        asked: ModernRequest,
        serve: Callable[[ModernRequest], Awaitable[ModernAnswer]],
    ) -> web.StreamResponse:
        """Answer with what ``serve`` gives, followed by whoever wants to know of such calls."""
        reply = self._listen if asked.method == LISTEN else self._answer
        call = self._followed.begin(request, server, asked.request)
        if call is None:
            return await reply(request, serve(asked), None)
        asked = structs.replace(asked, request=call.message)
        return await call.handled(reply(request, serve(asked), call))

    async def _answer(
        self, request: web.BaseRequest, coming: Awaitable[ModernAnswer], call: Call | None
    ) -> web.StreamResponse:
        return await self.go_on(request, await coming, call)

    async def go_on(
        self, request: web.BaseRequest, answer: ModernAnswer, call: Call | None = None, *, has_begun: bool = False
    ) -> web.StreamResponse:
        """Answer with what a request was given; with the rest of its events, where those have begun."""
        try:
            first = None if has_begun else await answer.stream.first_within(self._silence)
            if first is not None and first[1] is Kind.ANSWER:
                if call is not None:
                    call.answered(first[0])
                return _json(first[0] if self._nodes is None else self._nodes.states.named(first[0]))
            as_event = plain_event if self._nodes is None else self._nodes.states.event
            if call is None:
                return await _events(request, answer, self._silence, as_event, has_begun=has_begun)
            response = await _events(request, answer, self._silence, call.seeing(as_event))
            call.answered(call.last if answer.stream.is_over else None)
            return response
        finally:
            if not answer.stream.ended:
                answer.cancel()

    async def _listen(
        self, request: web.BaseRequest, coming: Awaitable[ModernAnswer], _: Call | None
    ) -> web.StreamResponse:
        """A subscription: events, whatever comes first."""
        answer = await coming
        try:
            with self._stays.during(request):
                return await _events(request, answer, self._silence)
        finally:
            if not answer.stream.ended:
                answer.cancel()


class Headers(Mapping[str, list[str]]):
    """All values of a header by its name, looked up when asked for: a request has many that nobody asks for."""

    def __init__(self, headers: CIMultiDictProxy[str]) -> None:
        self._headers = headers

    def __getitem__(self, name: str) -> list[str]:
        return self._headers.getall(name)

    def __iter__(self) -> Iterator[str]:
        return iter({name.lower() for name in self._headers})

    def __len__(self) -> int:
        return len(set(self))


def _json(answer: bytes) -> web.Response:
    status = status_of_answer(answer)
    return Prebuilt(answer) if status == 200 else web.Response(body=answer, content_type=JSON_TYPE, status=status)


def status_of_answer(answer: bytes) -> int:
    """The HTTP status of an answer."""
    if answer.find(b'"error"') < 0:
        return 200
    error = jsontext.fields(jsontext.member(answer, "error"))
    code = jsontext.decode(bytes(error.get("code", b"0")))
    return status_of(code if isinstance(code, int) else None)


async def _events(
    request: web.BaseRequest,
    answer: ModernAnswer,
    silence: SilenceWatch[Stream],
    as_event: Callable[[bytes], bytes] = plain_event,
    *,
    has_begun: bool = False,
) -> web.StreamResponse:
    response = event_stream(request)
    if has_begun:
        response.go_on(request)
    with contextlib.suppress(ConnectionError):  # the client has gone, which cancels
        await response.prepare(request)
        head = PING if has_begun else b""
        await pump(response, answer.stream, as_event, silence, f"a call of {request.path}", head=head)
        await response.write_eof()
    return response
