"""One answer for all nodes: what every node lists and counts, put together, and what is done to all of them.

Each node answers for itself as to any hop, this one too, and :mod:`bridge.web.rows` puts the answers together. A node
that does not answer, or refuses what others do not, is left out, and makes health degraded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from bridge.cluster.members import Member, absent
from bridge.cluster.node import Node
from bridge.protocol import jsontext
from bridge.protocol.errors import Fault, Rejection
from bridge.web import rows
from bridge.web.address import below
from bridge.web.body import read_body
from bridge.web.hops import Hops
from bridge.web.links import Broken
from bridge.web.merged_events import MergedEvents
from bridge.web.reply import json_answer
from bridge.web.server import Handler

log = logging.getLogger(__name__)

Merge = Callable[[Mapping[str, Any]], Any]

_LISTS: dict[str, Merge] = {
    "/sessions": rows.listed,
    "/children": rows.listed,
    "/servers": rows.servers,
    "/api/v1/sessions/stats": rows.added,
    "/api/v1/pins": rows.pins,
}
_LISTS |= {f"/api/v1{path}": _LISTS[path] for path in ("/sessions", "/children", "/servers")}
_DONE_TO_ALL = re.compile(r"/api/v1/(drain|reload|servers/[^/]+/(stop|start|restart|pins/approve))")
#: How answers to these become one; of any other all are the same.
_MERGED: dict[str, Merge] = {"pins/approve": rows.approved, "reload": rows.reloaded}
#: Seconds that another node may take for its part.
PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a node has answered, whole."""

    node: str
    status: int
    content_type: str
    body: bytes


class Merged:
    """Answers for all nodes what concerns all. ``admit`` raises :class:`Rejection` when a client may stay no more."""

    def __init__(self, node: Node, hops: Hops, admit: Callable[[web.BaseRequest], Awaitable[None]], base: str) -> None:
        self._node = node
        self._hops = hops
        self._base = base
        self._events = MergedEvents(node, hops, admit)

    def handler(self, handler: Handler) -> Handler:
        """Return a handler that answers such requests for all nodes, and leaves all others to ``handler``."""

        async def serve(request: web.BaseRequest) -> web.StreamResponse:
            path = below(request.path, self._base)
            if request.method == "GET":
                if path in _LISTS:
                    return await self._list(request, _LISTS[path])
                if path == "/health":
                    return await self._health(request)
                if path == "/metrics":
                    return await self._metrics(request)
                if path == "/api/v1/events":
                    return await self._events.connect(request)
            elif request.method == "POST" and (what := _DONE_TO_ALL.fullmatch(path)) is not None:
                return await self._do(request, _MERGED.get(what[2] or what[1]))
            return await handler(request)

        return serve

    async def _list(self, request: web.BaseRequest, merge: Merge) -> web.StreamResponse:
        found = await self._told(request)
        return _refused(found) or json_answer(merge({each.node: jsontext.decode(each.body) for each in found}))

    async def _health(self, request: web.BaseRequest) -> web.StreamResponse:
        asked = absent(self._node.members, ())
        told = await self._told(request)
        found = {each.node: jsontext.decode(each.body) for each in told}
        # Who came while we asked was not asked, who left meanwhile is not missed.
        missing = [node for node in absent(self._node.members, found) if node in asked]
        return _refused(told) or json_answer(rows.health(found, missing))

    async def _metrics(self, request: web.BaseRequest) -> web.StreamResponse:
        found = await self._told(request)
        body = rows.metrics({each.node: each.body for each in found})
        return _refused(found) or web.Response(body=body, headers={"Content-Type": found[0].content_type})

    async def _do(self, request: web.BaseRequest, merge: Merge | None) -> web.StreamResponse:
        """Do it on every node. Where one has not done it, the answer says why, and which nodes have; one that does not
        know a server has nothing to do.
        """
        found, missing = await self._ask_all(request, await read_body(request))
        done = [each for each in found if each.status < 400]
        where = f"; it is done on {', '.join(each.node for each in done)}" if done else ""
        for failure in missing:
            raise Rejection(failure.fault, f"{failure}{where}", retry_in=failure.retry_in)
        refused = _refused([each for each in found if not done or each.status != Fault.UNKNOWN_SERVER.status], where)
        if refused is not None:
            return refused
        if merge is not None:
            return json_answer(merge({each.node: jsontext.decode(each.body) for each in done}))
        return _copy(done[0])

    async def _told(self, request: web.BaseRequest) -> list[Answer]:
        """Return the answers of nodes that tell what was asked for; all refusals, where no node does.

        One that refuses alone does not believe us, as while CLUSTER_KEY is changed at one node after the other.
        """
        found, missing = await self._ask_all(request)
        if not found:
            raise missing[0]
        told = [each for each in found if each.status < 400]
        for each in found:
            if told and each not in told:
                log.warning("node %s refuses what others do not (%d): it is left out", each.node, each.status)
        return told or found

    async def _ask_all(
        self, request: web.BaseRequest, body: bytes | None = None
    ) -> tuple[list[Answer], list[Rejection]]:
        """Return the answers in the order of the nodes, and why others do not come."""
        members = [self._node.members.own, *self._node.members.others()]
        asking = (self._ask(request, member, body) for member in members)
        found = await asyncio.gather(*asking, return_exceptions=True)
        answers = [*rows.ordered({each.node: each for each in found if isinstance(each, Answer)}).values()]
        missing = []
        for each in found:
            if isinstance(each, Rejection):
                missing.append(each)
            elif isinstance(each, BaseException):
                raise each
        return answers, missing

    async def _ask(self, request: web.BaseRequest, member: Member, body: bytes | None) -> Answer:
        try:
            async with asyncio.timeout(PATIENCE if request.method == "GET" else None):
                with contextlib.closing(await self._hops.open(request, member, body or b"")) as found:
                    content_type = found.headers.get("Content-Type", "")
                    return Answer(member.node, found.status, content_type, await found.read())
        except (TimeoutError, Broken):
            raise Rejection(Fault.UNAVAILABLE, f"node {member.node} does not answer", retry_in=1) from None


def _refused(found: list[Answer], where: str = "") -> web.Response | None:
    """The first answer that is a refusal, None where there is none. ``where`` says which nodes do not refuse."""
    first = next((each for each in found if each.status >= 400), None)
    if first is None or not where:
        return None if first is None else _copy(first)
    said = jsontext.decode(first.body)
    said["error"]["message"] = f"node {first.node}: {said['error']['message']}{where}"
    return json_answer(said, status=first.status)


def _copy(answer: Answer) -> web.Response:
    return web.Response(status=answer.status, body=answer.body, headers={"Content-Type": answer.content_type})
