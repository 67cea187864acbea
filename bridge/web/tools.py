"""Tools as plain HTTP, for programs that know nothing of MCP: one POST per tool, and ``/openapi.json`` to find them.

Calls go the way of ``/bridge``: the same clients, limits, rights and log. Arguments are checked before, so that a wrong
one is told with its place; what is not checked here is for the server to check.
"""

from __future__ import annotations

import asyncio
import functools

import msgspec
from aiohttp import web

from bridge.children.registry import Registry
from bridge.protocol import jsontext, messages, tools
from bridge.protocol.errors import INVALID_PARAMS, METHOD_NOT_FOUND, BridgeError, Fault, Rejection
from bridge.protocol.jsontext import Raw
from bridge.protocol.messages import Request, Response
from bridge.sessions.catalogue import Catalogue, Tool, Tools
from bridge.web.body import read_json
from bridge.web.bridge import NO_ID, BridgeFace
from bridge.web.chosen import chosen_servers
from bridge.web.guards import Guards
from bridge.web.limits import Limits
from bridge.web.openapi import Describing
from bridge.web.prebuilt import Prebuilt
from bridge.web.principal import check_server, may_use
from bridge.web.proxy import origin_of
from bridge.web.reply import json_answer

#: Seconds that a server gets to start and list its tools for ``/openapi.json``.
PATIENCE = 10.0
#: HTTP statuses of what servers refuse, by JSON-RPC code; of everything else 502.
_STATUSES = {INVALID_PARAMS: Fault.WRONG_ARGUMENTS.status, METHOD_NOT_FOUND: Fault.UNKNOWN_TOOL.status}
_parsed = functools.partial(jsontext.parsed, msgspec.json.Decoder())


class ToolsFace:
    """The handlers of tools. ``bridge`` is the way to servers."""

    def __init__(
        self,
        registry: Registry,
        bridge: BridgeFace,
        catalogue: Catalogue,
        limits: Limits,
        guards: Guards,
        base_path: str,
    ) -> None:
        self._registry = registry
        self._bridge = bridge
        self._catalogue = catalogue
        self._limits = limits
        self._guards = guards
        self._base = base_path

    def routes(self) -> list[web.RouteDef]:
        """Return what it answers."""
        return [
            web.get("/api/v1/servers/{server_id}/tools", self.list),
            web.post("/api/v1/servers/{server_id}/tools/{tool:[^/]+}", self.call),
            web.get("/openapi.json", self.describe),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """List the tools of a server as it describes them, all pages in one."""
        server = self._server(request)
        found = await self._bridge.tools(request, server, self._catalogue, anew=True)
        return json_answer({"tools": [Raw(tool.definition) for tool in found.values()]})

    async def call(self, request: web.Request) -> web.Response:
        """Call a tool with the arguments in the body."""
        server = self._server(request)
        body = await read_json(request) if request.body_exists else b""
        arguments = _arguments(body)
        tool = await self._tool(request, server)
        fault = None if tool.input is None else tool.input.fault(arguments)
        if fault is not None:
            raise _wrong(*fault)
        params = jsontext.encode({"name": tool.name, "arguments": Raw(body.strip() or b"{}")})
        answer = jsontext.fields(await self._bridge.ask(request, server, Request(NO_ID, tools.CALL, params)))
        if "error" in answer:
            return _refused(bytes(answer["error"]))
        return Prebuilt(_value(bytes(answer["result"])))

    async def describe(self, request: web.Request) -> web.Response:
        """Describe all tools that a caller may use, or those of the servers in ``?servers=``."""
        asked = chosen_servers(request)
        for server in sorted(asked):
            check_server(request, server)
            self._registry.pool(server)
        servers = [id_ for id_, config in self._registry.entries.items() if not config.disabled]
        chosen = [server for server in servers if may_use(request, server) and (not asked or server in asked)]
        descriptions = {server: self._registry.entries[server].description for server in chosen}
        found = await asyncio.gather(*(self._within_patience(request, server) for server in chosen))
        describing = Describing(origin_of(request) + self._base, descriptions, needs_token=not self._guards.is_open)
        each = dict(zip(chosen, found, strict=True))
        # Off the event loop: to read the schemas of a thousand tools takes seconds.
        document = await asyncio.get_running_loop().run_in_executor(None, describing.document, each)
        return Prebuilt(document)

    async def _within_patience(self, request: web.Request, server: str) -> Tools | str:
        """The tools of a server, or why there are none."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._bridge.tools(request, server, self._catalogue, anew=True)
        except TimeoutError:
            return f"it did not list its tools within {PATIENCE:g} s"
        except BridgeError as error:
            return str(error)

    def _server(self, request: web.Request) -> str:
        """The server that the path names, unless its caller uses it too much."""
        server = request.match_info["server_id"]
        self._registry.pool(server)
        self._limits.check_server(request, server)
        return server

    async def _tool(self, request: web.Request, server: str) -> Tool:
        name = request.match_info["tool"]
        found = await self._bridge.tools(request, server, self._catalogue)
        if name not in found:  # it may have been approved, or be of a server that does not say what changes
            found = await self._bridge.tools(request, server, self._catalogue, anew=True)
        if name not in found:
            why = f"no tool {name[:100]!r}; GET /api/v1/servers/{server}/tools lists them"
            raise Rejection(Fault.UNKNOWN_TOOL, why)
        return found[name]


def _arguments(body: bytes) -> object:
    if not body.strip():
        return {}
    arguments = jsontext.with_room(_parsed, body)
    if not isinstance(arguments, dict):
        raise _wrong("the body must be the object of the arguments", "")
    return arguments


def _wrong(why: str, path: str) -> Rejection:
    return Rejection(Fault.WRONG_ARGUMENTS, why, data={"path": path})


def _refused(error: bytes) -> web.Response:
    """What a server says of a call that it does not take, as it says it."""
    status = _STATUSES.get(jsontext.decode(jsontext.member(error, "code")), Fault.CHILD_FAILED.status)
    body = messages.response_line(Response(b"null", error=error))
    return web.Response(body=body, status=status, content_type="application/json")


def _value(result: bytes) -> bytes:
    """What a tool has returned, without what MCP has around it. Raises :class:`Rejection` when the tool has failed."""
    members = jsontext.fields(result)
    content = jsontext.items(bytes(members.get("content", b"")))
    if bytes(members.get("isError", b"")) == b"true":
        said = "\n".join(text for item in content if (text := _text(bytes(item))) is not None)
        shown = {key: members[key] for key in ("content", "structuredContent") if key in members}
        raise Rejection(Fault.TOOL_FAILED, said or "the tool has failed, and does not say why", data=shown)
    structured = bytes(members.get("structuredContent", b"null"))
    if structured != b"null":
        return structured
    if "content" not in members:  # a server that is none by the book
        return result
    text = _text(bytes(content[0])) if len(content) == 1 else None
    if text is not None and (text.strip() == "null" or jsontext.decode(text.encode()) is not None):
        return text.encode()
    return jsontext.encode({"content": members["content"]})


def _text(item: bytes) -> str | None:
    return jsontext.string(jsontext.member(item, "text")) if jsontext.member(item, "type") == b'"text"' else None
