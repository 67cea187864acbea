"""A span for each MCP request, by OpenTelemetry's conventions for MCP, in the trace that the request names.

That is the one in ``params._meta``; else the one in the headers, which is that of the HTTP request and a link where
both name one. The span is what the server hears of in ``_meta``. Never arguments, results, tokens; session ids are as
short as in the log. Imported where tracing is on: OpenTelemetry is an extra.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagate import get_global_textmap
from opentelemetry.trace import Link, Span, SpanKind, StatusCode

from bridge.observe.export import Export
from bridge.observe.ids import shorten
from bridge.protocol import jsontext
from bridge.protocol.errors import Fault
from bridge.protocol.messages import Request
from bridge.protocol.modern import LISTEN, NAMED
from bridge.protocol.trace import context_in, with_context
from bridge.web.calls import CANCELLED
from bridge.web.proxy import client_of

#: Characters of what a client chooses: ids and names of methods, tools and prompts.
SHOWN = 128
_NAMES = {"tools/call": "gen_ai.tool.name", "prompts/get": "gen_ai.prompt.name"}


class Traces:
    """Makes spans."""

    def __init__(self) -> None:
        self._export = Export()
        self._propagator = get_global_textmap()
        self._fields = frozenset(self._propagator.fields)

    def begin(self, request: web.BaseRequest, server: str, message: Request) -> CallSpan:
        """Begin the span of a request."""
        sent = self._propagator.extract(request.headers, Context())
        said = context_in(message, self._fields)
        context = self._propagator.extract(said, Context()) if said else sent
        links = []
        if not trace.get_current_span(context).get_span_context().is_valid:
            context = sent
        elif context is not sent and (around := trace.get_current_span(sent).get_span_context()).is_valid:
            links = [Link(around)]
        name, attributes = _named(message)
        attributes |= {
            "mcp_bridge.server": server,
            "jsonrpc.request.id": (jsontext.string(message.id) or message.id.decode())[:SHOWN],
            "network.transport": "tcp",
            "network.protocol.name": "http",
            "network.protocol.version": f"{request.version.major}.{request.version.minor}",
            "client.address": client_of(request),
        }
        span = self._export.tracer.start_span(name, context, SpanKind.SERVER, attributes, links)
        if message.method != "initialize":  # it is kept, and said again to another process
            carrier: dict[str, str] = {}
            self._propagator.inject(carrier, trace.set_span_in_context(span, context))
            message = with_context(message, carrier)
        return CallSpan(span, message)

    async def close(self) -> None:
        """Send what waits."""
        await self._export.close()


class CallSpan:
    """The span of one request; ``message`` is the request with that in it."""

    def __init__(self, span: Span, message: Request) -> None:
        self._span = span
        self.message = message

    def in_session(self, session_id: str, version: str) -> None:
        """Say where it belongs; both may be empty."""
        if session_id:
            self._span.set_attribute("mcp.session.id", shorten(session_id))
        if version:
            self._span.set_attribute("mcp.protocol.version", version[:SHOWN])

    def end(self, error_type: str = "", code: int | None = None, fault: Fault | None = None) -> None:
        """It has ended: with what kind of error, if any, and which fault of ours that is."""
        if error_type and not (error_type == CANCELLED and self.message.method == LISTEN):  # whose only end that is
            self._span.set_attribute("error.type", error_type)
            # Not the message of the error, which may tell what the arguments were.
            self._span.set_status(StatusCode.ERROR, None if fault is None else fault.name.lower())
        if code is not None:
            self._span.set_attribute("rpc.response.status_code", str(code))
        self._span.end()


def _named(message: Request) -> tuple[str, dict[str, Any]]:
    """The name of a span, and what it says of method and target."""
    method = message.method[:SHOWN]
    attributes: dict[str, Any] = {"mcp.method.name": method}
    if method == "tools/call":
        attributes["gen_ai.operation.name"] = "execute_tool"
    member = NAMED.get(method) or ("uri" if method.startswith("resources/") else None)
    subject = jsontext.string(jsontext.member(message.params, member)) if member and message.params else None
    if subject is None:
        return method, attributes
    if method not in _NAMES:  # of a resource, which would be one name for each
        attributes["mcp.resource.uri"] = _without_secrets(subject)[:SHOWN]
        return method, attributes
    attributes[_NAMES[method]] = subject[:SHOWN]
    return f"{method} {subject[:SHOWN]}", attributes


def _without_secrets(uri: str) -> str:
    """Without user, password and query."""
    try:
        parts = urlsplit(uri)
        host = parts.netloc.rpartition("@")[2]
        return parts._replace(netloc=host, query="", fragment="").geturl()
    except ValueError:
        return uri.partition(":")[0]
