"""The headers that a modern client repeats its request in (specification 2026-07-28, transports)."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from bridge.protocol import jsontext
from bridge.protocol.errors import Fault, Rejection
from bridge.protocol.messages import Request
from bridge.protocol.modern import NAMED, mirrored_parameters, unwrap
from bridge.protocol.versions import MODERN_VERSION


def headers_of(request: Request, mirrored: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Return the headers of a request. ``mirrored`` are the arguments that its tool wants in headers, by header.

    Raises :class:`Rejection` for a method that no header can name.
    """
    if wrap(request.method) != request.method:
        raise Rejection(Fault.UNKNOWN_METHOD, "a method's name must be of visible ASCII characters")
    headers = {"MCP-Protocol-Version": MODERN_VERSION, "Mcp-Method": request.method}
    if request.method in NAMED:
        subject = jsontext.string(jsontext.member(request.params, NAMED[request.method]))
        if subject is not None:
            headers["Mcp-Name"] = wrap(subject)
    for header, path in mirrored.items():
        value = jsontext.member(request.params, "arguments")
        for name in path:
            value = jsontext.member(value, name)
        text = _text(value)
        if text is not None:
            headers[header] = text
    return headers


def mirrored_tools(result: bytes) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return, for each tool in the result of ``tools/list``, which headers repeat which of its arguments."""
    found = {}
    for tool in jsontext.items(jsontext.member(result, "tools")):
        members = jsontext.fields(bytes(tool))
        name = jsontext.string(bytes(members.get("name", b"")))
        if name is not None:
            found[name] = mirrored_parameters(jsontext.decode(bytes(members.get("inputSchema", b""))))
    return found


def wrap(text: str) -> str:
    """Return a text as the value of a header: itself, or in ``=?base64?...?=`` where it would not arrive unchanged."""
    plain = text.isascii() and text.isprintable() and text == text.strip() and unwrap(text) == text
    return text if plain else f"=?base64?{base64.b64encode(text.encode()).decode()}?="


def _text(value: bytes) -> str | None:
    """A JSON value as the text of a header; None for what no header says."""
    if value[:1] in (b"", b"{", b"[") or value == b"null":
        return None
    text = jsontext.string(value)
    return value.decode() if text is None else wrap(text)
