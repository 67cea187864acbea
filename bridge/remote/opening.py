"""How a remote server is spoken to: its era, and in the era of the handshake its dialect of HTTP.

The first request decides. ``server/discover`` asks for the modern era, and whoever does not know it answers with some
error (specification 2026-07-28, versioning). Whoever refuses ``initialize`` is either of the modern era alone, which is
asked by ``server/discover`` as well, or speaks the older dialect, HTTP+SSE (specification, backwards compatibility).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from bridge.protocol import handshake, messages, translate
from bridge.protocol.errors import UNSUPPORTED_PROTOCOL_VERSION
from bridge.protocol.handshake import Greeted
from bridge.protocol.versions import MODERN_VERSION
from bridge.remote.call import Call, Hear, Wire
from bridge.remote.events import EventsWire
from bridge.remote.http import Gone, HttpClient, HttpFailure
from bridge.remote.modern import ModernWire
from bridge.remote.streamable import StreamableWire

log = logging.getLogger(__name__)

#: What a server that speaks only HTTP+SSE answers to a POST of ``initialize`` (specification, backwards compatibility).
OLDER_DIALECT = (400, 404, 405)
#: Answers that tell nothing of the era: another try, or another key, may help.
NO_VERDICT = frozenset({401, 402, 403, 407, 408, 425, 429, *range(500, 600)} - {501})


class Opening:
    """The first request to a server. ``use`` gets each wire that it is tried on, before it is: answers to questions of
    the server may have to go out meanwhile. ``read`` starts reading an event stream, for as long as the session lasts.
    """

    def __init__(
        self,
        name: str,
        http: HttpClient,
        hear: Hear,
        use: Callable[[Wire], None],
        read: Callable[[EventsWire], object],
    ) -> None:
        self._name = name
        self._http = http
        self._hear = hear
        self._use = use
        self._read = read

    async def discover(self, call: Call) -> None:
        """See ``server/discover`` to its end. Raises :class:`HttpFailure` for what tells nothing of the era."""
        wire = ModernWire(self._http, self._hear)
        self._use(wire)
        try:
            await wire.call(call)
        except Gone as other:
            self._refuse(call, str(other))
        except HttpFailure as failure:
            if failure.status is None or failure.status in NO_VERDICT:
                raise
            self._refuse(call, f"it {failure}")
        if not call.answered.is_set():
            self._refuse(call, "it answered with something that is no answer")

    async def initialize(self, call: Call) -> None:
        """See ``initialize`` to its end. Raises :class:`HttpFailure` when there is no answer, and :class:`Gone`."""
        wire = StreamableWire(self._http, self._hear)
        self._use(wire)
        try:
            await wire.call(call)
        except HttpFailure as failure:
            if failure.status not in OLDER_DIALECT:
                raise
            if await self._is_modern():
                self._refuse(call, f"it speaks {MODERN_VERSION} only")
            else:
                await self._initialize_older(call, failure)

    async def _is_modern(self) -> bool:
        wire = ModernWire(self._http, self._hear)
        try:
            return isinstance(handshake.discovered(await wire.ask(translate.discover_request())), Greeted)
        except (Gone, HttpFailure) as failure:
            log.debug("server %s is not of %s: %s", self._name, MODERN_VERSION, failure)
            return False

    async def _initialize_older(self, call: Call, refusal: HttpFailure) -> None:
        wire = EventsWire(self._http, self._hear)
        self._read(wire)
        try:
            await wire.opened()
        except HttpFailure as failure:
            raise HttpFailure(f"{refusal}; asked for HTTP+SSE, it {failure}") from None
        log.debug("server %s speaks HTTP+SSE", self._name)
        self._use(wire)
        await wire.call(call)

    def _refuse(self, call: Call, why: str) -> None:
        """Answer in the server's place that it is of the other era."""
        self._hear(messages.error_line(call.id, UNSUPPORTED_PROTOCOL_VERSION, why), call)
