"""JSON-RPC messages, decoded by envelope only: what lies inside ``params`` and ``result`` stays the bytes that came.

Ids are kept as the JSON text they were written in, so ``7`` and ``"7"`` are two ids (users' scar 14). A message that is
passed on is rebuilt around those untouched bytes; only names that must change (ids, progress tokens) are written anew.
"""

from __future__ import annotations

import functools
import re
from typing import Any

import msgspec
from msgspec.structs import force_setattr

from bridge.protocol.envelope import LARGE, PARAMS, split
from bridge.protocol.errors import Fault, Rejection
from bridge.protocol.jsontext import (
    ABSENT,
    NOT_JSON,
    SMALL,
    Raw,
    encode,
    in_a_sentence,
    not_json,
    parsed,
    read,
    string,
    with_room,
)

_NULL = b"null"


class _Envelope(msgspec.Struct, gc=False):
    """The outside of any JSON-RPC message. Fields that are absent are empty."""

    jsonrpc: str = ""
    id: Raw = ABSENT
    method: str | None = None
    params: Raw = ABSENT
    result: Raw = ABSENT
    error: Raw = ABSENT


# Values on the way of every message are msgspec structs: a frozen dataclass costs ten times as much to make. Those that
# hold nothing but text can be part of no cycle, and are none of the collector's business.


class Request(msgspec.Struct, frozen=True, gc=False):
    """A call that wants an answer. ``id`` and ``params`` are JSON text; ``params`` may be empty.

    ``meta`` is ``params._meta``, empty where there is none; it is not given, but found.
    """

    id: bytes
    method: str
    params: bytes = b""
    meta: bytes = b""

    def __post_init__(self) -> None:
        if self.params:
            force_setattr(self, "meta", _meta_in(self.params))


class Notification(msgspec.Struct, frozen=True, gc=False):
    """A message that wants no answer."""

    method: str
    params: bytes = b""


class Response(msgspec.Struct, frozen=True, gc=False):
    """The answer to a request: ``result`` or ``error`` as JSON text, the other one empty."""

    id: bytes
    result: bytes = b""
    error: bytes = b""


Message = Request | Notification | Response

#: A line for the other side, without the line end: in one piece, or in several that are joined only where they must.
Line = bytes | tuple[bytes, ...]


class LargeResult(msgspec.Struct, frozen=True, gc=False):
    """The answer to a request, its ``result`` not copied out of the line that it came in. It has no line ends."""

    id: bytes
    result: Raw


_decoder = msgspec.json.Decoder(_Envelope)
_items = msgspec.json.Decoder(list[Raw])


def parse(data: bytes | bytearray) -> Message:
    """Decode one JSON-RPC message.

    Raises :class:`Rejection` with ``NOT_JSON`` when the bytes are not JSON in UTF-8, with ``BATCH`` for an array and
    with ``NOT_A_MESSAGE`` when the JSON is no JSON-RPC 2.0 message.
    """
    found = _read(data)
    return _message(found) if isinstance(found, _Envelope) else found


def parse_body(data: bytes | bytearray) -> Message:
    """Decode what a client has sent, as :func:`parse` does, with room for those who read it again."""
    found = _read(data) if len(data) <= SMALL else with_room(_read, data)
    return _message(found) if isinstance(found, _Envelope) else found


def parse_line(line: bytes) -> Message | LargeResult:
    """Decode what a child has written, as :func:`parse_body` does; a large result stays where it is."""
    found = _read(line) if len(line) <= SMALL else with_room(_read, line)
    if not isinstance(found, _Envelope):
        return found
    if len(line) >= LARGE and _is_plain_result(found) and _CR not in line and _LF not in line:
        return LargeResult(bytes(found.id), found.result)
    return _message(found)


def _is_plain_result(found: _Envelope) -> bool:
    has_result = found.method is None and found.error == ABSENT and found.result != ABSENT
    return has_result and found.jsonrpc == "2.0" and bytes(found.id) != b""


def _read(data: bytes | bytearray) -> _Envelope | Request | Notification:
    try:
        if not data.isascii():
            data.decode()  # which msgspec does not do with strings that it skips
        if len(data) >= LARGE and (found := split(data)) is not None:
            return _with_meta(*found)
        return _decoder.decode(data)
    except msgspec.ValidationError as error:
        if data.lstrip()[:1] == b"[":
            parsed(_items, data)  # a line of a log may begin like one (``[INFO] ready``)
            raise Rejection(Fault.BATCH, "batches are not supported; send one message") from None
        raise Rejection(Fault.NOT_A_MESSAGE, f"not a JSON-RPC message: {in_a_sentence(error)}") from None
    except NOT_JSON as error:
        raise not_json(error) from None


def parse_batch(data: bytes, most: int) -> list[Message | Rejection]:
    """Decode an array of messages, each by itself. Raises :class:`Rejection` when it is no array, empty, or longer than
    ``most``.
    """
    items = parsed(_items, data)
    if not items:
        raise Rejection(Fault.NOT_A_MESSAGE, "the batch is empty")
    if len(items) > most:
        raise Rejection(Fault.BATCH, f"the batch has {len(items)} messages, may have {most}; send it in parts")
    found: list[Message | Rejection] = []
    for item in items:
        try:
            found.append(parse_body(bytes(item)))
        except Rejection as rejection:
            found.append(rejection)
    return found


def _message(envelope: _Envelope) -> Message:
    if envelope.jsonrpc != "2.0":
        raise Rejection(Fault.NOT_A_MESSAGE, 'not a JSON-RPC message: "jsonrpc" must be "2.0"')
    id_ = bytes(envelope.id)
    if envelope.method is not None:
        params = bytes(envelope.params)
        if params[:1] not in (b"", b"{"):
            if params != _NULL:
                raise Rejection(Fault.NOT_A_MESSAGE, 'not a JSON-RPC message: "params" must be an object')
            params = b""
        if not id_:
            return Notification(envelope.method, params)
        if not is_id(id_):
            raise Rejection(Fault.NOT_A_MESSAGE, 'not a JSON-RPC message: "id" must be a string or an integer')
        return Request(id_, envelope.method, params)
    if id_ and envelope.error is ABSENT and envelope.result is not ABSENT:  # nearly all are
        return Response(id_, bytes(envelope.result))
    result, error = bytes(envelope.result), bytes(envelope.error)
    if error == _NULL:  # loose servers write both
        error = b""
    elif error and result == _NULL:
        result = b""
    if not id_ or bool(result) == bool(error):
        raise Rejection(
            Fault.NOT_A_MESSAGE, 'not a JSON-RPC message: neither "method", nor "id" with "result" or "error"'
        )
    if error and error[:1] != b"{":  # SDKs drop it, and their callers would wait for ever
        raise Rejection(Fault.NOT_A_MESSAGE, 'not a JSON-RPC message: "error" must be an object')
    return Response(id_, result, error)


def _with_meta(id_: bytes, method: str, params: bytes, meta: bytes) -> Request | Notification:
    """A message whose ``params`` have been read already."""
    if not id_:
        return Notification(method, params)
    request = Request(id_, method)
    force_setattr(request, "params", params)
    force_setattr(request, "meta", meta)
    return request


def is_id(raw: bytes) -> bool:
    """Whether this JSON text may be a request id: a string or an integer (MCP, Requests: never null)."""
    return raw.isdigit() or raw[:1] == b'"' or raw.removeprefix(b"-").isdigit()


def same_id(left: bytes, right: bytes) -> bool:
    """Whether two ids in JSON text are one id, however their strings are escaped."""
    if left == right:
        return True
    if left[:1] != b'"' or right[:1] != b'"':
        return False
    return string(left) == string(right)


#: Bytes up to which it is quicker to search for a name than to read.
SEARCHED = 1024


def _meta_in(params: bytes) -> bytes:
    # A name may be written with escapes; where there are such, only reading tells.
    if len(params) <= SEARCHED and params.find(b"_meta") < 0 and params.find(b"\\u00") < 0:
        return b""
    found = read(PARAMS, params)
    return bytes(found.meta) if found else b""


# Lines are joined and not formatted: the buffer of a format grows on its way, which takes a megabyte 0.3 ms.


def request_line(id_: bytes, method: str, params: bytes = b"") -> bytes:
    """One request as a line for a child, without the line end."""
    if params:
        return b"".join((b'{"jsonrpc":"2.0","id":', id_, _named(method), b',"params":', _one_line(params), b"}"))
    return b'{"jsonrpc":"2.0","id":%b%b}' % (id_, _named(method))


def large_request(id_: bytes, method: str, params: bytes) -> Line:
    """One request with large ``params`` as a line in pieces."""
    return b'{"jsonrpc":"2.0","id":%b%b,"params":' % (id_, _named(method)), _one_line(params), b"}"


def joined(line: Line) -> bytes:
    """Return a line in one piece."""
    return b"".join(line) if isinstance(line, tuple) else line


@functools.lru_cache(maxsize=100)
def _named(method: str) -> bytes:
    """The member ``method``, behind another one. There are few, and each is said again and again."""
    return b',"method":%b' % encode(method)


def notification_line(method: str, params: bytes = b"") -> bytes:
    """One notification as a line, without the line end."""
    if params:
        return b"".join((b'{"jsonrpc":"2.0"', _named(method), b',"params":', _one_line(params), b"}"))
    return b'{"jsonrpc":"2.0"%b}' % _named(method)


#: Where the id begins in the lines that are made here.
_ID_AT = len(b'{"jsonrpc":"2.0","id":')


def response_line(response: Response, id_: bytes | None = None) -> bytes:
    """One response as a line, under ``id_`` if given, without the line end."""
    name = response.id if id_ is None else id_
    if response.error:
        return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (name, _one_line(response.error))
    return b"".join((b'{"jsonrpc":"2.0","id":', name, b',"result":', _one_line(response.result), b"}"))


def error_in(line: bytes, id_: bytes) -> bytes:
    """Return the error of a line that :func:`response_line` has made under this id; empty where it has a result."""
    return line[_ID_AT + len(id_) + 9 : -1] if line.startswith(b',"error":', _ID_AT + len(id_)) else b""


def large_line(answer: LargeResult, id_: bytes) -> bytes:
    """A large answer as a line under ``id_``, without the line end."""
    return b"".join((b'{"jsonrpc":"2.0","id":', id_, b',"result":', answer.result, b"}"))


def error_line(id_: bytes | None, code: int, message: str, data: Any = None) -> bytes:
    """One error response as a line; ``id_`` is None when the request's id is not known."""
    error: dict[str, Any] = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (id_ or _NULL, encode(error))


def _one_line(raw: bytes) -> bytes:
    """Without the newlines that pretty-printed JSON has between its tokens (a string can hold none unescaped)."""
    return raw.replace(b"\r", b"").replace(b"\n", b"") if _LF in raw or _CR in raw else raw


#: Numbers, because ``b"x" in raw`` first tries to read its left side as one: an exception, which costs a microsecond.
_CR, _LF = b"\r\n"


_VERSION = rb'"jsonrpc"\s*:\s*"?[\d.]{1,4}"?\s*,\s*'
_BROKEN_HEAD = re.compile(
    rb'\s*\{\s*(?:%b)?(?:"id"\s*:\s*(\d{1,18})\s*,\s*(?:%b)?)?"(?:result|error)"\s*:' % (_VERSION, _VERSION)
)
_BROKEN_TAIL = re.compile(rb',\s*"id"\s*:\s*(\d{1,18})\s*(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*$')
_EMPTY = re.compile(rb'\s*\{\s*%b"id"\s*:\s*(\d{1,18})\s*\}\s*$' % _VERSION)


def id_in_broken(line: bytes) -> int | None:
    """The number of the request that a line answers which is no message, or its two ends if it is too long to be read;
    None unless that is certain: it must begin as an answer, because questions of a child have numbers of their own.
    """
    head = _BROKEN_HEAD.match(line, 0, 100)
    if head is None:
        found = _EMPTY.match(line)
    else:
        found = head if head[1] else _BROKEN_TAIL.search(line, max(0, len(line) - 100))
    return int(found[1]) if found else None


def number(raw: bytes) -> int | None:
    """The integer an id of ours comes back as; None for anything else."""
    return int(raw) if raw.isdigit() and len(raw) <= 18 else None
