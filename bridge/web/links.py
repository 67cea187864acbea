"""Connections to other nodes that are kept, and requests over them.

aiohttp reads the answers (``ResponseHandler``, which its client is made of) and holds back what nobody has read. The
client itself costs several times as much as all the rest of passing a request on, for cookies, redirects, proxies and
compression, which nodes do not have among themselves (docs/decisions/080).
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Container
from dataclasses import dataclass

import aiohttp
from aiohttp import StreamReader
from aiohttp.client_proto import ResponseHandler
from multidict import CIMultiDictProxy
from yarl import URL

from bridge.remote.certificates import trusted

#: Seconds for a connection to another node to come about.
CONNECT_PATIENCE = 2.0
#: Seconds without a sign of life from the kernel of another node, after which what waits for its answer is given up: a
#: network that loses packets tells nobody, and by itself TCP tries for a quarter of an hour.
SILENCE = 10
#: Seconds between two questions to it on a connection on which nothing is sent.
ASKED = 2
#: Seconds for which an unused connection is kept; the other node keeps it longer.
KEEP_ALIVE = 60.0
#: Bytes of an answer that may wait to be read, half of what makes the other side stop.
BUFFER = 256 * 1024
#: Bytes of one header, and headers: more than what was let in here.
LONGEST_HEADER, MOST_HEADERS = 64 * 1024, 256


class Unreachable(Exception):
    """No connection came about, so nothing was done."""


class Broken(Exception):
    """The connection has ended before the answer did: nobody knows what was done."""


@dataclass(slots=True)
class _Idle:
    since: float
    connection: ResponseHandler


class Reply:
    """An answer that has begun. Whoever has it closes it, read or not."""

    def __init__(
        self, links: Links, address: str, connection: ResponseHandler, status: int, headers: CIMultiDictProxy[str]
    ) -> None:
        self._links = links
        self._address = address
        self._connection = connection
        self.status = status
        self.headers = headers
        self._content: StreamReader | None = None

    @property
    def content_type(self) -> str:
        """The media type without parameters."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    @property
    def length(self) -> int | None:
        """How long the body is, None for a stream."""
        found = self.headers.get("Content-Length")
        return None if found is None else int(found)

    def begin(self, content: StreamReader) -> Reply:
        """Set what its body is read from."""
        self._content = content
        return self

    @property
    def is_over(self) -> bool:
        """Whether everything has been read."""
        assert self._content is not None
        return self._content.at_eof()

    async def some(self) -> bytes:
        """Return what has come, empty at the end. Raises :class:`Broken`."""
        assert self._content is not None
        try:
            return await self._content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise Broken(_reason(error)) from None

    async def read(self) -> bytes:
        """Return all of the body. Raises :class:`Broken`."""
        chunks = [await self.some()]
        while not self.is_over:
            chunks.append(await self.some())
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def close(self) -> None:
        """Keep the connection for the next request, or end it, and with it a request that has not been answered."""
        self._links.give_back(self._address, self._connection)


class Links:
    """All connections to other nodes, by address. Must be made on the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle: dict[str, deque[_Idle]] = {}
        self._used: dict[ResponseHandler, str] = {}

    async def ask(self, address: str, head: bytes, body: bytes) -> Reply:
        """Send a request; return its answer when that has begun.

        Raises :class:`Unreachable` and :class:`Broken`.
        """
        connection = self._take(address)
        if connection is None:  # and not "or": one without messages is empty
            connection = await self._connect(address)
        self._used[connection] = address
        try:
            connection.set_response_params(
                skip_payload=head.startswith(b"HEAD "),
                auto_decompress=False,
                read_bufsize=BUFFER,
                max_line_size=LONGEST_HEADER,
                max_field_size=LONGEST_HEADER,
                max_headers=MOST_HEADERS,
            )
            assert connection.transport is not None
            connection.transport.write(head + body)
            message, content = await connection.read()
        except (aiohttp.ClientError, OSError) as error:
            self._end(connection)
            raise Broken(_reason(error)) from None
        except BaseException:
            self._end(connection)
            raise
        return Reply(self, address, connection, message.code, message.headers).begin(content)

    def give_back(self, address: str, connection: ResponseHandler) -> None:
        """Keep a connection, if another request can go over it."""
        if connection.should_close or not connection.is_connected():
            self._end(connection)
        else:
            del self._used[connection]
            self._idle.setdefault(address, deque()).append(_Idle(self._loop.time(), connection))

    def keep(self, addresses: Container[str]) -> None:
        """Cut what waits for answers from any other address: nobody is there any longer who could give them."""
        for connection, address in list(self._used.items()):
            if address not in addresses and connection.transport is not None:
                connection.transport.abort()

    def expire(self) -> None:
        """Close connections that nobody has used for long."""
        oldest = self._loop.time() - KEEP_ALIVE
        for address, idle in list(self._idle.items()):
            while idle and (idle[0].since < oldest or not idle[0].connection.is_connected()):
                idle.popleft().connection.close()
            if not idle:
                del self._idle[address]

    def close(self) -> None:
        """Close those that nobody uses."""
        for idle in self._idle.values():
            for each in idle:
                each.connection.close()
        self._idle.clear()

    def _end(self, connection: ResponseHandler) -> None:
        self._used.pop(connection, None)
        connection.close()

    def _take(self, address: str) -> ResponseHandler | None:
        idle = self._idle.get(address)
        while idle:
            connection = idle.pop().connection  # the last one: those that are not needed grow old
            if connection.is_connected() and not connection.should_close:
                return connection
            connection.close()
        return None

    async def _connect(self, address: str) -> ResponseHandler:
        def make() -> ResponseHandler:
            return ResponseHandler(self._loop)

        try:
            async with asyncio.timeout(CONNECT_PATIENCE):
                if address.startswith("unix:"):
                    _, connection = await self._loop.create_unix_connection(make, address.removeprefix("unix:"))
                else:
                    url = URL(address)
                    trust = trusted() if url.scheme == "https" else None
                    host, port = url.host or "", url.port or 0
                    _, connection = await self._loop.create_connection(make, host, port, ssl=trust)
        except (OSError, TimeoutError) as error:
            raise Unreachable(_reason(error)) from None
        assert connection.transport is not None
        notice_silence(connection.transport.get_extra_info("socket"))
        return connection


def notice_silence(each: socket.socket) -> None:
    """Have the kernel end a connection whose other end has said nothing for :data:`SILENCE`, not even that it lives."""
    if each.family not in (socket.AF_INET, socket.AF_INET6):
        return
    each.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    wanted = {
        "TCP_KEEPIDLE": ASKED,
        "TCP_KEEPINTVL": ASKED,
        "TCP_KEEPCNT": SILENCE // ASKED,
        "TCP_USER_TIMEOUT": SILENCE * 1000,  # where something was sent and is not acknowledged
    }
    for name, value in wanted.items():
        if (option := getattr(socket, name, None)) is not None:  # not every system has all
            each.setsockopt(socket.IPPROTO_TCP, option, value)


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
