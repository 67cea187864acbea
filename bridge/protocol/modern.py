"""The modern era (2026-07-28): every request carries its own envelope, and headers that repeat it.

Checks stand in the order of the specification's validation ladder; the first that fails wins. Pure: headers and body
in, a :class:`ModernRequest` out, or a :class:`Rejection` that knows its status.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from bridge.protocol import jsontext
from bridge.protocol.errors import Fault, Rejection
from bridge.protocol.jsontext import ABSENT, Raw
from bridge.protocol.messages import Request
from bridge.protocol.versions import HANDSHAKE_VERSIONS, MODERN_VERSION

PREFIX = "io.modelcontextprotocol/"
VERSION = PREFIX + "protocolVersion"
CAPABILITIES = PREFIX + "clientCapabilities"
CLIENT_INFO = PREFIX + "clientInfo"
LOG_LEVEL = PREFIX + "logLevel"
SERVER_INFO = PREFIX + "serverInfo"
SUBSCRIPTION_ID = PREFIX + "subscriptionId"

DISCOVER = "server/discover"
LISTEN = "subscriptions/listen"
ACKNOWLEDGED = "notifications/subscriptions/acknowledged"

#: What the handshake era had and this one has not; a handshake child would answer it, so it is refused before.
REMOVED = frozenset(
    {
        "initialize",
        "ping",
        "logging/setLevel",
        "resources/subscribe",
        "resources/unsubscribe",
        "tasks/get",
        "tasks/list",
    }
    | {"tasks/result", "tasks/cancel"}
)
#: Methods whose calls may ask the client for input.
INTERACTIVE = frozenset({"tools/call", "prompts/get", "resources/read"})
#: Methods whose results say how long they may be cached.
CACHED = frozenset(
    {DISCOVER, "tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read"}
)
#: The parameter that ``Mcp-Name`` repeats.
NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_OURS = Raw(jsontext.encode(MODERN_VERSION))
_ROUTING = ("mcp-protocol-version", "mcp-method", "mcp-name")


class _Params(msgspec.Struct, gc=False):
    """What the checks want to know of params."""

    name: Raw = ABSENT
    uri: Raw = ABSENT


class _Meta(msgspec.Struct, gc=False):
    """The envelope."""

    version: Raw = msgspec.field(default=ABSENT, name=VERSION)
    capabilities: Raw = msgspec.field(default=ABSENT, name=CAPABILITIES)
    client_info: Raw = msgspec.field(default=ABSENT, name=CLIENT_INFO)
    log_level: Raw = msgspec.field(default=ABSENT, name=LOG_LEVEL)


_params = msgspec.json.Decoder(_Params)
_meta = msgspec.json.Decoder(_Meta)


class ModernRequest(msgspec.Struct, frozen=True, gc=False):
    """A request and what its envelope says. ``capabilities`` and ``client_info`` are JSON text."""

    request: Request
    capabilities: bytes
    client_info: bytes
    log_level: str | None
    name: str | None

    @property
    def method(self) -> str:
        """The JSON-RPC method."""
        return self.request.method


def check_envelope(request: Request, headers: Mapping[str, list[str]]) -> ModernRequest:
    """Return a request that may be served. ``headers`` are by lower-case name. Raises :class:`Rejection`."""
    said: dict[str, str] = {}
    for routing in _ROUTING:
        values = headers.get(routing)
        if values is not None:
            if len(values) > 1:
                raise Rejection(Fault.HEADER_MISMATCH, f"header {routing} is there more than once")
            said[routing] = values[0]
    meta = jsontext.read(_meta, request.meta) or _Meta()
    for key, value in ((VERSION, meta.version), (CAPABILITIES, meta.capabilities)):
        if value is ABSENT:
            raise Rejection(Fault.BAD_PARAMS, f'params._meta["{key}"] is missing{_unless_known(said)}')
    capabilities = bytes(meta.capabilities)
    if capabilities[:1] != b"{":
        raise Rejection(Fault.BAD_PARAMS, f'params._meta["{CAPABILITIES}"] must be an object')
    version = MODERN_VERSION if meta.version == _OURS else jsontext.string(bytes(meta.version))
    _same(said, "mcp-protocol-version", version)
    _same(said, "mcp-method", request.method)
    named = NAMED.get(request.method)
    subject = None
    if named:
        params = jsontext.read(_params, request.params) or _Params()
        subject = jsontext.string(bytes(params.uri if named == "uri" else params.name))
        if subject is None:
            raise Rejection(Fault.BAD_PARAMS, f"params.{named} is missing")
        _same(said, "mcp-name", subject, encoded=True)
    if version != MODERN_VERSION:
        raise Rejection(
            Fault.UNSUPPORTED_VERSION,
            f"unsupported protocol version {str(version)[:40]!r}",
            data={"supported": [MODERN_VERSION], "requested": version},
        )
    if request.method in REMOVED:
        raise Rejection(Fault.UNKNOWN_METHOD, f"method {request.method} does not exist in {MODERN_VERSION}")
    return ModernRequest(
        request,
        capabilities,
        bytes(meta.client_info),
        None if meta.log_level is ABSENT else jsontext.string(bytes(meta.log_level)),
        subject,
    )


def _unless_known(said: Mapping[str, str]) -> str:
    """What else may be wrong where there is no envelope: a version that nobody knows looks like the modern era."""
    version = said.get("mcp-protocol-version", MODERN_VERSION)
    if version == MODERN_VERSION:
        return ""
    return f"; a session has header mcp-protocol-version {', '.join(HANDSHAKE_VERSIONS)}, not {version[:40]!r}"


def _same(said: Mapping[str, str], header: str, wanted: str | None, *, encoded: bool = False) -> None:
    found = said.get(header)
    if found is None:
        raise Rejection(Fault.HEADER_MISMATCH, f"header {header} is missing")
    if (unwrap(found) if encoded else found) != wanted:
        raise Rejection(Fault.HEADER_MISMATCH, f"header {header} does not say what the body says")


def unwrap(value: str) -> str | None:
    """Return what a header value stands for: itself, or the text in ``=?base64?...?=``; None when that is broken."""
    if not (value.startswith("=?base64?") and value.endswith("?=") and len(value) > 10):
        return value
    try:
        text = base64.b64decode(value[9:-2], validate=True)
        return text.decode() if base64.b64encode(text).decode() == value[9:-2] else None
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None


def mirrored_parameters(schema: Any) -> dict[str, tuple[str, ...]]:
    """Return which ``Mcp-Param-`` headers a tool's input schema asks for: lower-case name to the path of properties."""
    found: dict[str, tuple[str, ...]] = {}
    # A list and no recursion: from Python 3.12 on, JSON may be nested deeper than functions.
    todo: list[tuple[Any, tuple[str, ...]]] = [(schema, ())]
    while todo:
        node, path = todo.pop()
        properties = node.get("properties") if isinstance(node, dict) else None
        for name, child in properties.items() if isinstance(properties, dict) else ():
            if not isinstance(child, dict):
                continue
            header = child.get("x-mcp-header")
            if isinstance(header, str) and child.get("type") in ("string", "integer", "boolean"):
                key = f"mcp-param-{header}".lower()
                if key in found or not _TOKEN.fullmatch(header):
                    return {}  # clients must not use such a tool, so nobody sends its headers
                found[key] = (*path, name)
            todo.append((child, (*path, name)))
    return found


def check_parameters(
    request: Request, headers: Mapping[str, list[str]], mirrored: Mapping[str, tuple[str, ...]]
) -> None:
    """Raise :class:`Rejection` unless each mirrored argument of a tools/call and its header say the same."""
    if not mirrored:
        return
    arguments = jsontext.member(request.params, "arguments")
    for header, path in mirrored.items():
        value = arguments
        for name in path:
            value = jsontext.member(value, name)
        if value[:1] in (b"{", b"["):  # no header can say it; the server will tell
            value = b""
        given = headers.get(header, [])
        if len(given) > 1 or (not given) != (value in (b"", b"null")):
            raise Rejection(Fault.HEADER_MISMATCH, f"header {header} and the argument {'.'.join(path)} differ")
        if given and not _says(unwrap(given[0]), value):
            raise Rejection(Fault.HEADER_MISMATCH, f"header {header} does not say what the body says")


_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,9})?")


def _says(text: str | None, value: bytes) -> bool:
    if text is None:
        return False
    if value[:1] == b'"':
        return text == jsontext.string(value)
    if value in (b"true", b"false"):
        return text == value.decode()
    if not _NUMBER.fullmatch(text) or not _NUMBER.fullmatch(value.decode()):
        return False
    return Decimal(text) == Decimal(value.decode())


def status_of(code: int | None) -> int:
    """The HTTP status of an error that a server answers with, while nothing has been sent yet."""
    return _STATUS.get(code or 0, 200)


_STATUS = {-32601: 404, -32020: 400, -32021: 400, -32022: 400}


def with_meta(params: bytes, entries: Mapping[str, bytes]) -> bytes:
    """Return params with these entries in ``_meta``, JSON text both; an empty text takes the entry out."""
    members = jsontext.fields(params)
    meta = jsontext.fields(bytes(members.get("_meta", b"")))
    for key, value in entries.items():
        if value:
            meta[key] = Raw(value)
        else:
            meta.pop(key, None)
    if meta:
        members["_meta"] = Raw(jsontext.encode(meta))
    else:
        members.pop("_meta", None)
    return jsontext.encode(members)
