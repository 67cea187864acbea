"""A client that speaks to the socket itself."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

from tests.conftest import Running, in_time

#: All that were opened; a fixture closes them.
opened: list[Raw] = []


class Raw:
    """A TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, bridge: Running) -> Raw:
        connection = cls(*await asyncio.open_connection("127.0.0.1", int(bridge.url.rpartition(":")[2])))
        opened.append(connection)
        return connection

    async def response(self, has_body: bool = True) -> tuple[int, dict[str, str], bytes]:
        """Read one response with a length."""
        async with in_time():
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
            content = await self.reader.readexactly(int(headers.get("content-length", "0")) * has_body)
        return int(head[0].split()[1]), headers, content

    async def is_closed(self) -> bool:
        async with in_time():
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True

    def reset(self) -> None:
        """Go away as a process does that is killed while it has something to read."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def close(self) -> None:
        with contextlib.suppress(ValueError):  # the fixture has taken it out
            opened.remove(self)
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()
