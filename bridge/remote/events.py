"""HTTP+SSE of 2024-11-05 as a client: one event stream for all that the server says, a POST for each message to it.

The stream is the session. Its first event names the endpoint that takes the messages.
"""

from __future__ import annotations

import asyncio

from yarl import URL

from bridge.protocol.framing import Oversized
from bridge.protocol.sse import Event, EventParser
from bridge.remote.call import Call, Hear
from bridge.remote.http import SSE_TYPE, HttpClient, HttpFailure
from bridge.remote.streamable import POST_HEADERS, TELL_PATIENCE

#: Seconds until the first event.
ENDPOINT_PATIENCE = 30.0


class EventsWire:
    """One session with a remote server; whoever owns it runs :meth:`read`. ``hear`` gets each message of it."""

    hangs_up = False

    def __init__(self, http: HttpClient, hear: Hear) -> None:
        self._http = http
        self._hear = hear
        self.endpoint: asyncio.Future[URL] = asyncio.get_running_loop().create_future()
        # Whoever waits for it may have gone when it fails.
        self.endpoint.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def read(self) -> None:
        """Read the stream to its end. Raises :class:`HttpFailure` when it breaks."""
        try:
            async with self._http.open("GET", {"Accept": SSE_TYPE}) as response:
                if response.status != 200 or response.content_type != SSE_TYPE:
                    raise await self._http.failure(response)
                parser = EventParser(self._http.limit)
                async for chunk in response.content.iter_any():
                    for event in parser.feed(chunk):
                        self._take(event, response.url)
            raise HttpFailure("ended its event stream")
        except HttpFailure as failure:
            if self.endpoint.done():
                raise
            self.endpoint.set_exception(failure)

    async def opened(self) -> None:
        """Wait until messages can be sent. Raises :class:`HttpFailure`."""
        try:
            async with asyncio.timeout(ENDPOINT_PATIENCE):
                await asyncio.shield(self.endpoint)
        except TimeoutError:
            raise HttpFailure(f"sent no endpoint event within {ENDPOINT_PATIENCE:g} s") from None

    async def call(self, call: Call) -> None:
        """POST a request and wait for its answer on the stream."""
        await self._post(call.line, call)
        await call.answered.wait()

    async def tell(self, line: bytes) -> None:
        """POST a notification, or an answer to a question."""
        await self._post(line, None)

    async def listen(self) -> None:
        """Nothing to do: everything comes on the one stream."""

    async def leave(self) -> None:
        """Nothing to say: the end of the stream is the end of the session."""

    async def _post(self, line: bytes, call: Call | None) -> None:
        on_sent = None if call is None else call.went_out
        url = self.endpoint.result()
        try:
            async with (
                asyncio.timeout(TELL_PATIENCE),
                self._http.open("POST", POST_HEADERS, url=url, data=line, on_sent=on_sent) as response,
            ):
                if not 200 <= response.status < 300:
                    raise await self._http.failure(response)
        except TimeoutError:
            raise HttpFailure(f"did not accept a message within {TELL_PATIENCE:g} s") from None
        finally:
            if call is not None:
                call.went_out()

    def _take(self, event: Event, base: URL) -> None:
        if event.kind == "message":
            self._hear(event.data, None)
        elif event.kind == "endpoint" and not self.endpoint.done():
            if isinstance(event.data, Oversized):
                raise HttpFailure("named an endpoint that is none")
            self.endpoint.set_result(self._http.within(base, event.data.decode(errors="replace"), "sends its messages"))
