"""Calls, and what wants no answer, that are answered without a task.

Most of what a server spends on a request is what lets its handler wait: a task, and turns of the event loop to wake it.
A call whose child is there waits for nothing but its answer. So it is sent to the child as soon as it has been read,
and answered as soon as the child has answered, each in the turn that brings it (docs/decisions/105).

Nothing is decided here that is not decided on the usual way (:mod:`bridge.web.front`, :mod:`bridge.web.mcp`): what is
not the usual case goes there before anything of it has happened, and what goes wrong is found again there, and told. So
does what has to wait for anything else (:mod:`bridge.web.direct_answer`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from aiohttp import hdrs
from aiohttp.http import RawRequestMessage
from multidict import CIMultiDictProxy

from bridge.auth.principal import Principal
from bridge.protocol import messages
from bridge.protocol.era import is_modern
from bridge.protocol.errors import BridgeError
from bridge.protocol.messages import Message, Request
from bridge.protocol.versions import is_handshake
from bridge.sessions.streamable import StreamableSession
from bridge.web.around import Around
from bridge.web.body import ENOUGH, LARGE
from bridge.web.direct_answer import ModernDirectAnswer, SessionAnswer, Taken
from bridge.web.front import named
from bridge.web.mcp import VERSION_HEADER, hand_on
from bridge.web.modern import ModernFace
from bridge.web.prebuilt import fits_a_head
from bridge.web.reply import JSON_TYPE, SESSION_HEADER
from bridge.web.waiting import Asker, Body, Waiting

log = logging.getLogger(__name__)

#: Says who asks, where all that is to be checked was found good before; None where it has to be checked.
Recall = Callable[[RawRequestMessage, Callable[[], str], str], Principal | None]


_POST = b"POST "
_PATH_AT = len(_POST)


class DirectCalls:
    """Calls over ``/mcp/{server_id}``, below ``base`` or not (``BASE_PATH``): of sessions, and modern ones.

    ``recall`` says who asks, ``face`` is that of the modern ones, ``most`` the size in bytes of a body. What nodes tell
    each other in modern answers is added on the usual way.
    """

    def __init__(self, around: Around, recall: Recall, face: ModernFace, most: int, base: str) -> None:
        self._face = face
        self._is_alone = around.nodes is None
        self._base = base + "/"
        self._recall = recall
        self._limits = around.limits
        self.most = min(most, LARGE - 1)
        self._servers: dict[str, str] = {}  # by paths that have come
        self._beginnings: set[bytes] = set()  # of requests to them
        self._known = around.core.registry.entries
        self._find = around.core.stream_pool.find
        self._timing = around.core.timing
        self._drain = around.drain
        self._calls = around.calls
        self._silence = around.silence

    def begin(self, connection: Asker, message: RawRequestMessage, body: Body) -> Waiting | None:
        """Send what a client says to its child; None where it has to go the usual way, and nothing has happened."""
        asker = self._asker(connection, message)
        if asker is None:
            return None
        server, principal = asker
        headers = message.headers
        origin = headers.get(hdrs.ORIGIN)
        if (
            headers.get(hdrs.CONTENT_TYPE) != JSON_TYPE
            or headers.get(hdrs.ACCEPT, "*/*") not in ENOUGH
            or (origin is not None and not fits_a_head(origin))
            or not 0 < body.total_bytes <= self.most
            or self._calls.are_watched
            or server in self._calls.most
        ):
            return None
        version = headers.get(VERSION_HEADER)
        session = None
        if version is None or is_handshake(version):
            session = self._session(headers.get(SESSION_HEADER), server, principal.owner)
            if session is None:
                return None
        elif not self._takes_modern(server):
            return None
        data = body.read_nowait()
        answer: Waiting | None = None
        try:
            called = messages.parse_body(data)
            if session is not None:
                answer = self._in_session(connection, session, version, called, origin)
            else:
                answer = self._modern(connection, server, principal.owner, headers, called, origin)
        except BridgeError:  # nothing was sent, and the usual way says why
            pass
        if answer is None:
            connection.put_back(data)
        return answer

    def may_begin(self, data: bytes) -> bool:
        """Whether this may be the beginning of a call, by its method and path."""
        return data[: data.find(b" ", _PATH_AT)] in self._beginnings

    def lets_in(self, connection: Asker, message: RawRequestMessage) -> bool:
        """Whether whoever sends such a request may, so that it can be kept until it is whole."""
        return self._asker(connection, message) is not None

    def _asker(self, connection: Asker, message: RawRequestMessage) -> tuple[str, Principal] | None:
        """The server that is asked, and who asks; None where the usual way has to say that."""
        server = self._servers.get(message.path) or self._named(message.path)
        if (
            not server
            or message.method != "POST"
            or self._limits.is_set
            or self._drain.begun
            or log.isEnabledFor(logging.DEBUG)
        ):
            return None
        principal = self._recall(message, connection.peer, server)
        return None if principal is None else (server, principal)

    def _session(self, session_id: str | None, server: str, owner: str) -> StreamableSession | None:
        entry = None if session_id is None else self._find(session_id)
        if entry is None or entry.session.server != server or entry.session.owner != owner:
            return None
        return entry.session

    def _in_session(
        self,
        connection: Asker,
        session: StreamableSession,
        version: str | None,
        called: Message,
        origin: str | None,
    ) -> Waiting | None:
        if not isinstance(called, Request):
            hand_on(session, called)
            return Taken(connection, origin)
        if called.method == "initialize":
            return None
        if called.meta and is_modern(version, called):
            return None
        exchange = session.call_now(called, silence=self._timing.silence(session.server))
        if exchange is None:
            return None
        return SessionAnswer(connection, session, exchange, origin, self._drain, self._silence)

    def _takes_modern(self, server: str) -> bool:
        """Whether nothing of a modern call has to be refused or added that is about more than the call."""
        config = self._known.get(server)
        return self._is_alone and config is not None and not config.header_env

    def _modern(
        self,
        connection: Asker,
        server: str,
        owner: str,
        headers: CIMultiDictProxy[str],
        called: Message,
        origin: str | None,
    ) -> ModernDirectAnswer | None:
        answer = self._face.ask_now(server, called, headers, owner)
        if answer is None:
            return None
        return ModernDirectAnswer(connection, self._face, answer, origin, self._drain, self._silence)

    def _named(self, path: str) -> str:
        name, server = named(path, self._base)
        if name != "mcp" or server not in self._known:
            return ""
        self._servers[path] = server
        self._beginnings.add(_POST + path.encode(errors="surrogateescape"))
        return server
