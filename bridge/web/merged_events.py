"""``GET /api/v1/events`` for all nodes: the snapshots of each, as :mod:`bridge.web.events` makes them, put together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp import web

from bridge.cluster.members import Member, absent
from bridge.cluster.node import Node
from bridge.protocol import jsontext
from bridge.protocol.errors import Fault, Rejection
from bridge.web import rows
from bridge.web.hops import Hops
from bridge.web.links import Broken, Reply
from bridge.web.reply import event_stream

#: Streams at the same time; each is one at every node.
MOST_STREAMS = 50
#: Snapshots of this node that are left out at the beginning, while those of others are on their way.
MOST_SKIPPED = 5
_DATA = b"data: "


class MergedEvents:
    """The handler. ``admit`` raises :class:`Rejection` when a client may be here no more."""

    def __init__(self, node: Node, hops: Hops, admit: Callable[[web.BaseRequest], Awaitable[None]]) -> None:
        self._members = node.members
        self._hops = hops
        self._admit = admit
        self._streams = 0

    async def connect(self, request: web.BaseRequest) -> web.StreamResponse:
        """Send the newest snapshots of all nodes whenever this node has a new one."""
        if self._streams >= MOST_STREAMS:
            raise Rejection(Fault.UNAVAILABLE, f"all {MOST_STREAMS} event streams are in use", retry_in=30)
        stream = await self._hops.open(request, self._members.own)
        following: dict[str, asyncio.Task[None]] = {}
        self._streams += 1
        try:
            if stream.status != 200:
                return web.Response(status=stream.status, body=await stream.read(), content_type=stream.content_type)
            response = event_stream(request)
            await response.prepare(request)
            with contextlib.suppress(ConnectionError, Broken, Rejection):
                await self._pump(request, response, stream, following)
            return response
        finally:
            self._streams -= 1
            stream.close()
            for task in following.values():
                task.cancel()
            await asyncio.gather(*following.values(), return_exceptions=True)

    async def _pump(
        self,
        request: web.BaseRequest,
        response: web.StreamResponse,
        stream: Reply,
        following: dict[str, asyncio.Task[None]],
    ) -> None:
        newest: dict[str, Any] = {}
        skipped = 0
        async for snapshot in _snapshots(stream):
            await self._admit(request)
            for member in self._members.others():
                if member.node not in following or following[member.node].done():
                    following[member.node] = asyncio.create_task(self._follow(request, member, newest))
            found = {self._members.own.node: snapshot, **newest}
            missing = absent(self._members, found)
            if missing and skipped < MOST_SKIPPED:  # they have just been asked
                skipped += 1
                continue
            await response.write(
                b"event: snapshot\ndata: %b\n\n" % jsontext.encode(rows.snapshot(found, snapshot["at"], missing))
            )
        await response.write_eof()

    async def _follow(self, request: web.BaseRequest, member: Member, newest: dict[str, Any]) -> None:
        """Keep the newest snapshot of another node, as long as it sends any."""
        with (
            contextlib.suppress(Broken, Rejection),
            contextlib.closing(await self._hops.open(request, member)) as stream,
        ):
            try:
                async for snapshot in _snapshots(stream):
                    newest[member.node] = snapshot
            finally:
                newest.pop(member.node, None)


async def _snapshots(stream: Reply) -> AsyncIterator[Any]:
    """Yield the data of each event: one line of JSON."""
    rest: list[bytes] = []
    while chunk := await stream.some():
        *lines, last = chunk.split(b"\n")
        for line in lines:
            whole = b"".join([*rest, line])
            rest = []
            if whole.startswith(_DATA):
                yield jsontext.decode(whole[len(_DATA) :])
        rest.append(last)
