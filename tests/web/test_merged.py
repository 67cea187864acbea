"""Nodes that come and go while all are asked: an order of events that no real node produces on demand."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.pytest_plugin import AiohttpClient
from aiohttp.test_utils import TestClient

from bridge.cluster.members import Member
from bridge.cluster.node import Node
from bridge.protocol.errors import Fault, Rejection
from bridge.web.errors import answer_to
from bridge.web.hops import Hops
from bridge.web.links import Broken
from bridge.web.merged import Merged

A, B, C = (Member(name, 1, f"http://{name}") for name in "abc")


class Changing:
    """Members that are others when this node has been asked. B does not answer."""

    own = A

    def __init__(self, before: list[Member], after: list[Member]) -> None:
        self._now, self._after = before, after

    def others(self) -> list[Member]:
        return self._now

    def missing(self) -> list[str]:
        return []

    async def open(self, request: web.BaseRequest, member: Member, body: bytes) -> Any:
        if member is B:
            raise Rejection(Fault.CHILD_FAILED, "b is gone") if request.method == "POST" else Broken
        self._now = self._after
        return SimpleNamespace(status=200, headers={}, read=self._read, close=lambda: None)

    async def _read(self) -> bytes:
        one = {"status": "ok", "version": "1", "uptime_s": 1, "servers": {}, "children": 0, "sessions": 0}
        return json.dumps(one).encode()


async def asking(aiohttp_client: AiohttpClient, members: Changing) -> TestClient[web.Request, web.Application]:
    """A client of what answers for all of these."""
    node, hops = cast(Node, SimpleNamespace(members=members)), cast(Hops, members)

    async def admit(request: web.BaseRequest) -> None:
        raise AssertionError("of streams only")

    async def nothing(request: web.BaseRequest) -> web.StreamResponse:
        raise AssertionError(request.path)

    merged = Merged(node, hops, admit, "").handler(nothing)

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await merged(request)
        except Rejection as refused:
            return answer_to(refused, request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    return await aiohttp_client(app)


@pytest.mark.parametrize(
    ("before", "after", "status", "reasons"),
    [
        ([B], [B], "degraded", ["node b does not answer"]),
        ([], [B], "ok", []),
        ([B], [], "ok", []),
        ([C, B], [C, B], "degraded", ["node b does not answer"]),
    ],
)
async def test_health_misses_those_that_were_asked_and_still_live(
    aiohttp_client: AiohttpClient, before: list[Member], after: list[Member], status: str, reasons: list[str]
) -> None:
    client = await asking(aiohttp_client, Changing(before, after))
    async with client.get("/health") as response:
        told = await response.json()
    assert (told["status"], told.get("reasons", [])) == (status, reasons)


@pytest.mark.parametrize("verb", ["reload", "drain", "servers/peer/stop"])
async def test_what_one_node_has_not_done_is_said_with_those_that_have(
    aiohttp_client: AiohttpClient, verb: str
) -> None:
    client = await asking(aiohttp_client, Changing([B, C], [B, C]))
    async with client.post(f"/api/v1/{verb}") as response:
        assert response.status == 502
        told = (await response.json())["error"]["message"]
    assert told == "b is gone; it is done on a, c"
