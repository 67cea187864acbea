"""The era of one HTTP request, from its headers and body.

*Handshake* is 2024-11-05 to 2025-11-25: sessions that begin with ``initialize``. *Modern* is 2026-07-28: every request
carries its own envelope. A header of another version than the handshake ones, or an envelope, makes a request modern.
"""

from __future__ import annotations

from bridge.protocol import jsontext
from bridge.protocol.errors import Fault, Rejection
from bridge.protocol.messages import Message, Request
from bridge.protocol.modern import VERSION
from bridge.protocol.versions import is_handshake


def is_modern(header: str | None, message: Message | None) -> bool:
    """Whether a request belongs to the modern era. ``header`` is ``MCP-Protocol-Version``.

    Raises :class:`Rejection` for a request that claims both.
    """
    if header is not None and not is_handshake(header):
        return True
    enveloped = isinstance(message, Request) and bool(message.meta) and VERSION in jsontext.fields(message.meta)
    if enveloped and header is not None:
        raise Rejection(Fault.HEADER_MISMATCH, f"header mcp-protocol-version says {header}, the body has an envelope")
    return enveloped
