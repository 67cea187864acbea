"""aiohttp alone, answering the same POST with the same bytes: what any bridge on aiohttp costs at least.

``python bare.py KIND PORT``: ``application`` is ``web.Application`` with a route, ``server`` the low-level
``web.Server``, ``raw`` no HTTP server at all: it answers whatever it reads, to see what the load generator can do.
A path that ends in a number gets an answer with a text of so many bytes.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import cast

import uvloop
from aiohttp import web

TEXT = b"hello from the child"


def _body(path: str) -> bytes:
    size = path.rpartition("/")[2]
    text = b"x" * int(size) if size.isdecimal() else TEXT
    return b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"%b"}]}}' % text


BODIES: dict[str, bytes] = {}


async def answer(request: web.BaseRequest) -> web.Response:
    await request.read()
    body = BODIES.get(request.path)
    if body is None:
        body = BODIES[request.path] = _body(request.path)
    return web.Response(body=body, content_type="application/json")


async def application(port: int) -> None:
    app = web.Application(client_max_size=1 << 30)
    app.add_routes([web.post("/{path:.*}", answer)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()


async def server(port: int) -> None:
    runner = web.ServerRunner(web.Server(answer, access_log=None, client_max_size=1 << 30))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()


class _Raw(asyncio.Protocol):
    ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(_body("")), _body(""))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass

    def data_received(self, data: bytes) -> None:
        self._transport.write(self.ANSWER)


async def raw(port: int) -> None:
    await asyncio.get_running_loop().create_server(_Raw, "127.0.0.1", port, backlog=1024)


KINDS: dict[str, Callable[[int], Awaitable[None]]] = {"application": application, "server": server, "raw": raw}


async def main(kind: str, port: int) -> None:
    await KINDS[kind](port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1], int(sys.argv[2])))
