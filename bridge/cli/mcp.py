"""A small MCP client for the command line: one session with one server of a running bridge.

It speaks Streamable HTTP of the handshake era over ``http.client``; the bridge translates for servers of the other one.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

from bridge.cli.client import Client, Reply, quoted
from bridge.cli.errors import CommandError, NotReady, Refused
from bridge.cli.table import text
from bridge.version import __version__

VERSION = "2025-11-25"
#: Pages of a list, so that a server that never ends one ends here.
MOST_PAGES = 1000
#: States of a server in which another try may succeed later, or after somebody said so.
_RESTING = frozenset({"stopped", "backoff", "fatal"})
_METHOD_NOT_FOUND = -32601
_URL_REQUIRED = -32042

Message = dict[str, Any]
#: Takes the params of ``elicitation/create``; returns its result.
Ask = Callable[[Message], Message]
#: Takes the params of ``notifications/progress``.
OnProgress = Callable[[Message], None]


class ServerError(CommandError):
    """The server answered with a JSON-RPC error."""


class Session:
    """One session; a ``with`` block is its life. Raises what :meth:`Client.ask` raises, and :class:`ServerError`."""

    def __init__(self, client: Client, server: str, ask: Ask, on_progress: OnProgress) -> None:
        self._client = client
        self._server = server
        self._path = f"/mcp/{quoted(server)}"
        self._ask = ask
        self._on_progress = on_progress
        self._headers = {"Accept": "application/json, text/event-stream"}
        self._last = 0

    def __enter__(self) -> Session:
        about = {"name": "mcp-bridge", "version": __version__}
        offered: Message = {"elicitation": {"form": {}, "url": {}}}
        params = {"protocolVersion": VERSION, "capabilities": offered, "clientInfo": about}
        try:
            result = self.request("initialize", params)
        except (ServerError, Refused) as error:
            raise self._explained(error) from None
        try:
            version = result.get("protocolVersion") if isinstance(result, dict) else None
            if not isinstance(version, str):
                raise CommandError(
                    f"server {self._server} answered initialize without a protocolVersion: no MCP server?"
                )
            self._headers["MCP-Protocol-Version"] = version
            self._send({"method": "notifications/initialized"})
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if "Mcp-Session-Id" in self._headers:
            with contextlib.suppress(CommandError), self._client.open("DELETE", self._path, None, self._headers):
                pass

    def _explained(self, error: ServerError | Refused) -> CommandError:
        """Why there is no session, as far as the bridge tells who asks."""
        if isinstance(error, Refused) and error.status != 404:
            return error
        for row in self._client.ask("GET", "/api/v1/servers"):
            if row["id"] == self._server and row["state"] == "invalid":
                return CommandError(f'server "{self._server}" is invalid: {row["error"]}')
            if row["id"] == self._server and row["state"] in _RESTING:
                return NotReady(str(error))
        return error

    def request(self, method: str, params: Message) -> Message:
        """Send a request and return its result; what the server asks meanwhile is answered."""
        self._last += 1
        sent = {"jsonrpc": "2.0", "id": self._last, "method": method, "params": params}
        try:
            return self._exchange(sent)
        except KeyboardInterrupt:
            with contextlib.suppress(CommandError):
                cancel = {"requestId": self._last, "reason": "its user pressed Ctrl-C"}
                self._send({"method": "notifications/cancelled", "params": cancel})
            raise

    def _exchange(self, sent: Message) -> Message:
        with self._client.open("POST", self._path, sent, self._headers) as reply:
            if session_id := reply.headers.get("Mcp-Session-Id"):
                self._headers["Mcp-Session-Id"] = session_id
            for message in _messages(reply):
                if "method" in message:
                    self._take(message)
                elif message.get("id") == self._last:
                    return _result(message)
        raise CommandError(f"the stream of {sent['method']} ended without an answer; mcp-bridge logs may tell why")

    def pages(self, method: str, member: str) -> list[Message]:
        """Return every item of a list."""
        found: list[Message] = []
        params: Message = {}
        for _ in range(MOST_PAGES):
            result = self.request(method, params)
            found += result.get(member) or []
            cursor = result.get("nextCursor")
            if cursor is None or params == {"cursor": cursor}:
                return found
            params = {"cursor": cursor}
        return found

    def _take(self, message: Message) -> None:
        """Answer a question of the server, or take its notification."""
        params = message.get("params") or {}
        if "id" not in message:
            if message["method"] == "notifications/progress":
                self._on_progress(params)
            return
        match message["method"]:
            case "elicitation/create":
                answer: Message = {"result": self._ask(params)}
            case "ping":
                answer = {"result": {}}
            case method:
                why = f"the command line does not do {method}"
                answer = {"error": {"code": _METHOD_NOT_FOUND, "message": why}}
        self._send({"id": message["id"], **answer})

    def _send(self, message: Message) -> None:
        with self._client.open("POST", self._path, {"jsonrpc": "2.0", **message}, self._headers) as reply:
            reply.read()


def _messages(reply: Reply) -> Iterator[Message]:
    """The messages of an answer, one as JSON or many as events."""
    if reply.headers.get_content_type() != "text/event-stream":
        yield reply.json()
        return
    for data in reply.events():
        if data:
            yield json.loads(data)


def _result(message: Message) -> Message:
    if "error" not in message:
        return message.get("result") or {}
    error = message["error"]
    code = error.get("code", "without a code")
    pages = f"; open {', '.join(urls)}, and call it again" if code == _URL_REQUIRED and (urls := _urls(error)) else ""
    raise ServerError(f"{error.get('message', 'no message')} (error {code}){pages}")


def _urls(error: Message) -> list[str]:
    """The pages that a user has to open before the server does what it was asked for."""
    data = error.get("data")
    asked = data.get("elicitations") if isinstance(data, dict) else None
    found = asked if isinstance(asked, list) else []
    return [text(each["url"]) for each in found if isinstance(each, dict) and "url" in each]
