"""The context of traces (``traceparent``, ``tracestate``, ``baggage``) in ``params._meta``, its place (SEP-414).

Pure: what else stands in params stays the bytes that came.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from msgspec import structs

from bridge.protocol import jsontext
from bridge.protocol.messages import Request

_EMPTY = re.compile(rb"\{\s*\}")


def context_in(request: Request, names: Collection[str]) -> dict[str, str]:
    """Return what of these names a request carries. Raises :class:`Rejection` where ``_meta`` is nested too deeply."""
    if not request.meta:
        return {}
    members = jsontext.fields(request.meta)
    found = {name: jsontext.string(bytes(members[name])) for name in names if name in members}
    return {name: value for name, value in found.items() if value is not None}


def with_context(request: Request, context: Mapping[str, str]) -> Request:
    """Return the request with this context in place of its own; itself where its ``_meta`` can hold none."""
    meta = request.meta or b"{}"
    if meta[:1] != b"{" or not context:
        return request
    present = jsontext.fields(meta)
    for name, value in context.items():
        if name in present:
            meta = jsontext.replaced(meta, name, jsontext.encode(value))
        else:
            meta = _before(meta, name, jsontext.encode(value))
    if request.meta:
        params = jsontext.replaced(request.params, "_meta", meta)
    else:
        params = _before(request.params or b"{}", "_meta", meta)
    return structs.replace(request, params=params)


def _before(raw: bytes, name: str, value: bytes) -> bytes:
    """A JSON object with one more member, before all others."""
    rest = b"}" if _EMPTY.match(raw) else b",%b" % raw[1:]
    return b'{"%b":%b%b' % (name.encode(), value, rest)
