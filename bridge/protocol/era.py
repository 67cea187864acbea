"""The era of one HTTP request, from its headers and body.

*Handshake* is 2024-11-05 to 2025-11-25: sessions that begin with ``initialize``. *Modern* is 2026-07-28: every request
carries its own envelope. This version serves the handshake era and answers the modern one so that its clients fall
back: -32022 with a list of handshake versions (specification 2026-07-28, version negotiation).
"""

from __future__ import annotations

from bridge.protocol import messages
from bridge.protocol.errors import Fault, Rejection
from bridge.protocol.messages import Message, Request
from bridge.protocol.versions import HANDSHAKE_VERSIONS, MODERN_VERSION, is_handshake

#: The key of a modern request's envelope.
MODERN_KEY = "io.modelcontextprotocol/protocolVersion"


def check_version(header: str | None, message: Message | None) -> None:
    """Raise :class:`Rejection` unless this request belongs to the handshake era.

    ``header`` is ``MCP-Protocol-Version``; absent, the version agreed on at ``initialize`` holds.
    """
    if header is not None and not is_handshake(header):
        _refuse(header)
    if isinstance(message, Request) and (MODERN_KEY.encode() in message.params or b"\\u" in message.params):
        meta = messages.fields(bytes(messages.fields(message.params).get("_meta", b"")))
        if MODERN_KEY in meta:
            _refuse(messages.decode(bytes(meta[MODERN_KEY])))


def _refuse(requested: object) -> None:
    fault = Fault.UNSUPPORTED_VERSION if requested == MODERN_VERSION else Fault.BAD_VERSION
    supported = list(HANDSHAKE_VERSIONS)
    raise Rejection(
        fault,
        f"unsupported protocol version {str(requested)[:40]!r}; supported: {', '.join(supported)}",
        data={"supported": supported, "requested": requested},
    )
