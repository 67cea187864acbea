"""``/bridge/{server_id}``: one POST, one answer. No session, no ``Accept``, no handshake: the bridge has done all that.

For scripts and programs without an MCP client. The body is a JSON-RPC message that may leave out ``jsonrpc`` and
``id``.
"""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from bridge.protocol import jsontext, messages
from bridge.protocol.errors import BridgeError, Fault, Rejection
from bridge.protocol.jsontext import Raw
from bridge.protocol.messages import Notification, Request, Response
from bridge.sessions.bridge import last
from bridge.sessions.catalogue import Catalogue, Tools
from bridge.web.around import Around
from bridge.web.body import LARGE, others_first, read_json
from bridge.web.calls import Call
from bridge.web.errors import refusal
from bridge.web.prebuilt import Prebuilt, taken
from bridge.web.principal import check_server, owner_of

#: Keys with which other bridges let a request name the program to run. This one never does.
PROGRAM_KEYS = ("serverPath", "args", "env")
#: The id of a call that came without one.
NO_ID = b"0"


class BridgeFace:
    """The handlers of ``/bridge``."""

    def __init__(self, around: Around) -> None:
        self._registry = around.core.registry
        self._clients = around.core.clients
        self._timing = around.core.timing
        self._drain = around.drain
        self._limits = around.limits
        self._calls = around.calls
        self._variables = around.variables

    def routes(self) -> list[web.RouteDef]:
        """Return what it answers."""
        return [
            web.post("/bridge", self.post_any),
            web.post("/bridge/{server_id}", self.post),
        ]

    async def post(self, request: web.Request) -> web.Response:
        """Call the server that the path names."""
        return await self.serve(request, request.match_info["server_id"])

    async def serve(self, request: web.BaseRequest, server: str) -> web.Response:
        """Call this server."""
        self._registry.pool(server)  # 404 before anything else is looked at
        return await self._call_server(request, server, _members(await read_json(request)))

    async def post_any(self, request: web.Request) -> web.Response:
        """Call the server that the body names, by ``server`` or by the exact command that is configured for it."""
        members = _members(await read_json(request))
        if "serverPath" in members:
            server = self._configured(members)
            return await self._checked(request, server, members)
        named = jsontext.string(bytes(members.pop("server", b"")))
        if named is None:
            raise Rejection(Fault.NOT_A_MESSAGE, 'say which server: POST /bridge/{server_id}, or "server" in the body')
        return await self._checked(request, named, members)

    async def _checked(self, request: web.BaseRequest, server: str, members: dict[str, Raw]) -> web.Response:
        """Call a server that the path did not name, so that nobody has asked whether this caller may."""
        check_server(request, server)
        self._limits.check_server(request, server)
        return await self._call_server(request, server, members)

    def _configured(self, members: dict[str, Raw]) -> str:
        """Take the program out of a body, and return the server that it is."""
        named = {key: jsontext.decode(bytes(members.pop(key))) for key in PROGRAM_KEYS if key in members}
        args = named.get("args") or []
        if isinstance(args, list) and not named.get("env"):
            for config in self._registry.entries.values():
                if config.argv == (named["serverPath"], *args):
                    return config.id
        raise _names_a_program(named)

    async def _call_server(self, request: web.BaseRequest, server: str, members: dict[str, Raw]) -> web.Response:
        if named := [key for key in PROGRAM_KEYS if key in members]:
            raise _names_a_program(named)
        self._variables.refuse(request, server)
        is_bare = "jsonrpc" not in members and "id" not in members
        body = _completed(members)
        if len(body) >= LARGE:
            await others_first()
        message = messages.parse_body(body)
        if len(body) >= LARGE:
            await others_first()
        if isinstance(message, Response):
            raise Rejection(Fault.NOT_A_MESSAGE, '"method" is missing')
        try:
            if isinstance(message, Notification):
                # About an id, a handshake or capabilities of its sender; the child knows only the bridge's own.
                with self._drain:
                    await self._clients.client(server, owner_of(request))
                return taken()
            line = await self.ask(request, server, message)
            if is_bare and len(line) >= LARGE:
                await others_first()
            return _answer(line, is_bare)
        except BridgeError as rejection:
            if isinstance(message, Request):
                self._calls.refused(request, server, message, rejection)
            return refusal(rejection, None if is_bare or isinstance(message, Notification) else message.id)

    async def ask(self, request: web.BaseRequest, server: str, message: Request) -> bytes:
        """Send what a caller wants to know, and return the answer. Raises :class:`BridgeError` where there is none."""
        with self._drain:
            call = self._calls.begin(request, server, message)
            asking = self._ask(server, owner_of(request), message if call is None else call.message, call)
            return await (asking if call is None else call.handled(asking))

    async def tools(self, request: web.BaseRequest, server: str, catalogue: Catalogue, *, anew: bool = False) -> Tools:
        """Return the tools that a caller sees. Raises :class:`BridgeError` where they cannot be known."""
        self._variables.refuse(request, server)
        with self._drain:
            entry = await self._clients.client(server, owner_of(request))
            with self._clients.pool.using(entry):
                return await catalogue.tools(entry, anew=anew)

    async def _ask(self, server: str, owner: str, message: Request, call: Call | None) -> bytes:
        entry = await self._clients.client(server, owner)
        with self._clients.pool.using(entry) as client:
            if message.method == "initialize":
                return messages.response_line(Response(message.id, client.greeting))
            exchange = await client.call(message, self._timing.bridge_silence(server))
            answer = await last(exchange)
        if call is not None:
            call.ended(exchange)
        if exchange.failure is not None:
            raise exchange.failure
        return answer


def _members(body: bytes) -> dict[str, Raw]:
    members = jsontext.fields(body)
    if not members and body.strip() != b"{}":
        messages.parse(body)  # says what is wrong with it
    if "method" not in members:
        raise Rejection(Fault.NOT_A_MESSAGE, '"method" is missing')
    return members


def _names_a_program(keys: Iterable[str]) -> Rejection:
    named = ", ".join(f'"{key}"' for key in keys)
    return Rejection(Fault.FORBIDDEN, f"{named}: a request never names a program to run; configure it in servers.json")


def _completed(members: dict[str, Raw]) -> bytes:
    """Add what was left out: ``jsonrpc``, and an ``id`` where an answer is wanted."""
    members.setdefault("jsonrpc", Raw(b'"2.0"'))
    if not bytes(members.get("method", b"")).startswith(b'"notifications/'):
        members.setdefault("id", Raw(NO_ID))
    return jsontext.encode(members)


def _answer(line: bytes, is_bare: bool) -> web.Response:
    if is_bare:
        kept = {key: value for key, value in jsontext.fields(line).items() if key in ("result", "error")}
        line = jsontext.encode(kept)
    return Prebuilt(line)
