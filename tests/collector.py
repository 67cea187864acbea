"""A collector of OpenTelemetry's: takes spans by OTLP over HTTP and keeps them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Seen:
    """A span, ids in hexadecimal. ``kind`` and ``status`` are the numbers of OTLP: 2 is a server's, 2 is an error."""

    name: str
    trace: str
    id: str
    parent: str
    kind: int
    status: int
    said: str
    links: list[str]
    attributes: dict[str, Any]
    resource: dict[str, Any]

    @property
    def traceparent(self) -> str:
        """Where the client of a span has named its trace: else it is of a random number, which is a flag more."""
        return f"00-{self.trace}-{self.id}-01"


class Collector:
    """``status`` is what it answers with."""

    def __init__(self) -> None:
        self.spans: list[Seen] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.status = 200
        self.raw = b""
        self._came = asyncio.Condition()
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.paths.append(request.path)
        self.headers.append(dict(request.headers))
        async with self._came:
            if self.status == 200:
                self.raw += body
                for each in ExportTraceServiceRequest.FromString(body).resource_spans:
                    resource = _attributes(each.resource.attributes)
                    self.spans += [_seen(span, resource) for scope in each.scope_spans for span in scope.spans]
            self._came.notify_all()
        return web.Response(status=self.status)

    async def until(self, count: int = 1) -> list[Seen]:
        """Wait until there are so many spans; return all, in the order in which they ended."""
        async with asyncio.timeout(10), self._came:
            await self._came.wait_for(lambda: len(self.spans) >= count)
        return self.spans

    async def asked(self, count: int) -> None:
        """Wait until it was asked so often."""
        async with asyncio.timeout(20), self._came:
            await self._came.wait_for(lambda: len(self.paths) >= count)


@contextlib.asynccontextmanager
async def collectors(port: int = 0) -> AsyncIterator[Collector]:
    """Run one."""
    collector = Collector()
    application = web.Application()
    application.router.add_post("/{path:.*}", collector.take)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield collector
    await runner.cleanup()


def _seen(span: Any, resource: dict[str, Any]) -> Seen:
    return Seen(
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        kind=span.kind,
        status=span.status.code,
        said=span.status.message,
        links=[f"{link.trace_id.hex()}-{link.span_id.hex()}" for link in span.links],
        attributes=_attributes(span.attributes),
        resource=resource,
    )


def _attributes(found: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in found}
