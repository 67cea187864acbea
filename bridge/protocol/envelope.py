"""Large messages, read once: where ``params`` begin and end is told by what stands around them.

Decoding an envelope and then looking into its ``params`` are two readings of half a millisecond per megabyte. The other
members of a message are short, and stand in front of ``params`` or behind. So they are matched from either end, and
what lies between is read as what it has to be, one object. That it can be read is the proof of both: text inside of a
string that looks like the end of a message would leave an object that has none. What is written in any other way, or
is no message at all, is for the decoder of the whole.
"""

from __future__ import annotations

import re

import msgspec

from bridge.protocol.jsontext import ABSENT, Raw

#: Bytes from which it is worth it.
LARGE = 16 * 1024
#: Bytes at either end in which the short members must stand.
_ENDS = 512

_BLANK = rb"[ \t\r\n]*"
_TEXT = rb'"[^"\\\x00-\x1f]*"'
_MEMBER = rb'"jsonrpc"@:@"2\.0"|"id"@:@(?:0|-?[1-9][0-9]{0,17}|%b)|"method"@:@%b' % (_TEXT, _TEXT)
_HEAD = re.compile((rb'@\{@((?:(?:%b)@,@)*)"params"@:@(?=\{)' % _MEMBER).replace(b"@", _BLANK))
_TAIL = re.compile((rb"\}((?:@,@(?:%b))*)@\}@\Z" % _MEMBER).replace(b"@", _BLANK))


class _Members(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    jsonrpc: str
    method: str
    id: Raw = ABSENT


class _Params(msgspec.Struct, gc=False):
    meta: Raw = msgspec.field(default=ABSENT, name="_meta")


_members = msgspec.json.Decoder(_Members)
#: Reads ``params``, as far as its ``_meta``.
PARAMS = msgspec.json.Decoder(_Params)


def split(data: bytes | bytearray) -> tuple[bytes, str, bytes, bytes] | None:
    """Return id, method, params and ``params._meta`` of a request or notification; absent ones are empty.

    None when it is written in a way that is not known here, or not right. ``data`` must be UTF-8.
    """
    head = _HEAD.match(data, 0, _ENDS)
    tail = _TAIL.search(data, max(0, len(data) - _ENDS))
    if head is None or tail is None:
        return None
    params = bytes(memoryview(data)[head.end() : tail.start() + 1])
    short = b",".join(filter(None, (ends[1].strip(b", \t\r\n") for ends in (head, tail))))
    try:
        members, read = _members.decode(b"{%b}" % short), PARAMS.decode(params)
    except (msgspec.DecodeError, RecursionError):
        return None
    return bytes(members.id), members.method, params, bytes(read.meta)
