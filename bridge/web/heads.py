"""Heads of requests that need not be parsed again.

A client sends the same head with each of its calls, but for ``Content-Length``, and aiohttp spends more on reading it
than the bridge on the call. Nothing is parsed here: these are the bytes of a head that aiohttp has read on the same
connection, and what it has read in them. Whatever differs in more than the digits of that one field is for aiohttp.
"""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import hdrs
from aiohttp.http import HttpVersion11, RawRequestMessage

#: How far a head ends behind its last line.
_END = b"\r\n\r\n"
_LENGTH = b"\r\ncontent-length:"
#: Digits of a length that is taken from a head.
_DIGITS = 9
#: Bytes of a head that is remembered.
MOST = 8 * 1024
#: What :func:`rest_of` says where it cannot know.
UNKNOWN = -1


class Head:
    """The head of a request whose body has a length, as ``message``, whose own ``Content-Length`` means nothing.

    ``without_body`` is the same request with an empty body.
    """

    __slots__ = ("_after", "_before", "message", "without_body")

    def __init__(self, message: RawRequestMessage, before: bytes, after: bytes) -> None:
        self.message = message
        self._before = before
        self._after = after
        self.without_body = b"%b0%b" % (before, after)

    @classmethod
    def of(cls, data: bytes, message: RawRequestMessage) -> Head | None:
        """Return the head that ``data`` begins with, which :func:`rest_of` knew, and aiohttp has read as ``message``;
        None where such requests are not alike, or it has no length.
        """
        if not is_plain(message) or hdrs.EXPECT in message.headers:
            return None
        end = data.index(_END)
        if end > MOST:
            return None
        names = data[:end].lower()
        start = names.find(_LENGTH) + len(_LENGTH)
        if start < len(_LENGTH) or names.find(_LENGTH, start) >= 0:
            return None
        while data.startswith(b" ", start):
            start += 1
        stop = data.index(b"\r", start)
        return cls(message, data[:start], data[stop : end + len(_END)])

    def begins(self, data: bytes) -> tuple[int, int] | None:
        """Where the body of a request with this head begins in ``data``, and how long it is; None for another head."""
        before, after = self._before, self._after
        if not data.startswith(before):
            return None
        start = len(before)
        stop = data.find(b"\r", start, start + _DIGITS + 1)
        digits = data[start:stop]
        if stop < 0 or not digits.isdigit() or not data.startswith(after, stop):
            return None
        return stop + len(after), int(digits)

    def body(self, pieces: Sequence[bytes]) -> list[memoryview]:
        """The body of a request that has come in ``pieces``, whose first one begins with this head."""
        found = self.begins(pieces[0])
        assert found is not None
        first, *more = [memoryview(piece) for piece in pieces]
        return [first[found[0] :], *more]


def is_plain(message: RawRequestMessage) -> bool:
    """Whether nothing about a request wants more than to be answered, and its connection kept for the next one."""
    return (
        message.version == HttpVersion11
        and not message.should_close
        and not message.upgrade
        and message.compression is None
    )


def rest_of(data: bytes, message: object) -> int:
    """How much of a request is still to come behind ``data``, which it begins with, and in which aiohttp has read
    ``message``; ``UNKNOWN`` where that is not sure, or more has come.
    """
    if not isinstance(message, RawRequestMessage) or message.chunked or message.upgrade or message.should_close:
        return UNKNOWN
    end = data.find(_END) + len(_END)
    # Empty lines before it and bare line feeds may be forgiven by a parser: then it ends elsewhere.
    if end < len(_END) or data[0] in b"\r\n" or data.count(b"\n", 0, end) != data.count(b"\r\n", 0, end):
        return UNKNOWN
    length = message.headers.get(hdrs.CONTENT_LENGTH, "0")
    if len(length) > _DIGITS:  # thousands of zeros are a length, but none for int()
        return UNKNOWN
    return max(end + int(length) - len(data), UNKNOWN)
