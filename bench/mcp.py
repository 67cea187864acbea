"""The bytes of the requests that are measured, as a client would send them.

``ID`` and ``SESSION`` are filled in by the load generator: each request has an id of its own, and a script that opens a
session goes on in it.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any

ID = 1000000000
SESSION = "@session@"
VERSION = "2025-06-18"
MODERN = "2026-07-28"
SESSION_HEADER = "Mcp-Session-Id"

Message = dict[str, Any]
Headers = Mapping[str, str]

#: What every client sends. The names are written as common clients write them.
COMMON = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
MODERN_META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


def call(tool: str, **arguments: Any) -> Message:
    """A ``tools/call`` of one of the tools of the child."""
    return {"jsonrpc": "2.0", "id": ID, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}


#: 100 bytes there and 100 bytes back.
ECHO = call("echo", text="hello")


def with_meta(message: Message, meta: Message) -> Message:
    """The same request with ``_meta`` in its params."""
    return {**message, "params": {**message["params"], "_meta": meta}}


def modern(message: Message) -> tuple[Message, Headers]:
    """The same call in the modern era: an envelope, and headers that repeat it."""
    headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": message["method"], "Mcp-Name": message["params"]["name"]}
    return with_meta(message, MODERN_META), headers


def bare(message: Message) -> Message:
    """The same call as a script writes it for ``/bridge``."""
    return {"method": message["method"], "params": message["params"]}


INITIALIZE: Message = {
    "jsonrpc": "2.0",
    "id": ID,
    "method": "initialize",
    "params": {"protocolVersion": VERSION, "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}},
}
INITIALIZED: Message = {"jsonrpc": "2.0", "method": "notifications/initialized"}


def session_headers(session: str = SESSION) -> dict[str, str]:
    """What the requests of a session carry."""
    return {SESSION_HEADER: session, "MCP-Protocol-Version": VERSION}


def request(path: str, message: Message | None, headers: Headers | None = None, method: str = "POST") -> bytes:
    """The bytes of one HTTP request."""
    body = b"" if message is None else json.dumps(message, separators=(",", ":")).encode()
    lines = {"Host": "127.0.0.1", **COMMON, **(headers or {})}
    if message is not None:
        lines["Content-Length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def visit(path: str, delete: bool = True) -> list[bytes]:
    """A whole session: open it, call once, close it."""
    inside = session_headers()
    script = [request(path, INITIALIZE), request(path, INITIALIZED, inside), request(path, ECHO, inside)]
    return [*script, request(path, None, inside, "DELETE")] if delete else script


def open_session(port: int, path: str, headers: Headers | None = None, patience: float = 60.0) -> dict[str, str]:
    """Initialize; return the headers of the session. Raises :class:`OSError` when the server refuses."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience)
    try:
        given = _post(connection, path, INITIALIZE, {**COMMON, **(headers or {})})
        session = {**session_headers(given), **(headers or {})} if given else dict(headers or {})
        _post(connection, path, INITIALIZED, {**COMMON, **session})
    except http.client.HTTPException as error:
        raise OSError(repr(error)) from None
    finally:
        connection.close()
    return session


def _post(connection: http.client.HTTPConnection, path: str, message: Message, headers: Headers) -> str | None:
    connection.request("POST", path, json.dumps(message), dict(headers))
    response = connection.getresponse()
    body = response.read()
    if response.status not in (200, 202) or b'"error"' in body:
        raise OSError(f"{message['method']}: HTTP {response.status}: {body[:400].decode(errors='replace')}")
    return response.headers[SESSION_HEADER]
