"""Greeting a child that the bridge itself owns, as a state machine without I/O.

A client's own ``initialize`` goes to its child verbatim; this is only for children that serve many callers. The bridge
declares no client capabilities then, so the child never asks anyone anything.
"""

from __future__ import annotations

from dataclasses import dataclass

from bridge.protocol import jsontext
from bridge.protocol.errors import METHOD_NOT_FOUND, UNSUPPORTED_PROTOCOL_VERSION
from bridge.protocol.messages import Request, Response
from bridge.protocol.versions import LATEST_HANDSHAKE, MODERN_VERSION, is_handshake

INITIALIZED = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'


@dataclass(frozen=True, slots=True)
class Greeted:
    """The child answered: ``result`` is its InitializeResult as JSON text; send ``line`` to it before all else."""

    result: bytes
    line: bytes = INITIALIZED


@dataclass(frozen=True, slots=True)
class Refused:
    """The child cannot be greeted; ``other_era`` says that it may be in the other one."""

    why: str
    other_era: bool = False


def greeting(name: str, version: str, capabilities: bytes = b"{}") -> Request:
    """Return the bridge's own ``initialize``. ``capabilities`` are those of the client it is for, as JSON text."""
    params = {
        "protocolVersion": LATEST_HANDSHAKE,
        "capabilities": jsontext.Raw(capabilities),
        "clientInfo": {"name": name, "version": version},
    }
    return Request(b"0", "initialize", jsontext.encode(params))


def greeted(response: Response) -> Greeted | Refused:
    """Decide what the child's answer to :func:`greeting` means."""
    if response.error:
        text = jsontext.decode(jsontext.member(response.error, "message"))
        said = "without a message" if text is None else " ".join(str(text).split())
        return Refused(f"it refused to initialize: {said}", is_other_era(response.error))
    spoken = jsontext.decode(jsontext.member(response.result, "protocolVersion"))
    if not isinstance(spoken, str) or not is_handshake(spoken):
        return Refused(f"it speaks protocol version {spoken!r}, which this bridge does not")
    return Greeted(response.result)


def discovered(response: Response) -> Greeted | Refused:
    """Decide what a child's answer to ``server/discover`` means. Nothing is to be sent to it afterwards."""
    versions = jsontext.decode(jsontext.member(response.result, "supportedVersions", b"null"))
    if isinstance(versions, list) and MODERN_VERSION in versions:
        return Greeted(response.result, b"")
    return Refused(f"it does not speak {MODERN_VERSION}", other_era=True)


def is_other_era(error: bytes) -> bool:
    """Whether a child refused ``initialize`` because it only speaks the modern era."""
    code = jsontext.decode(jsontext.member(error, "code", b"0"))
    return code in (METHOD_NOT_FOUND, UNSUPPORTED_PROTOCOL_VERSION)


def agreed(greeting: bytes, params: bytes) -> bytes:
    """Return the InitializeResult for one client of a child that the bridge has greeted.

    It is the child's own, with the version that the client asked for where the child knows that one.
    """
    members = jsontext.fields(greeting)
    theirs = jsontext.string(bytes(members.get("protocolVersion", b""))) or ""
    asked = jsontext.string(jsontext.member(params, "protocolVersion")) or ""
    if is_handshake(asked) and asked <= theirs:
        members["protocolVersion"] = jsontext.Raw(jsontext.encode(asked))
    return jsontext.encode(members)
