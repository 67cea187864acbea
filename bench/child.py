"""The child of ``child.c`` in Python, for machines without a C compiler: what its tools do is described there."""

from __future__ import annotations

import os
import re

#: Bytes at both ends of a line that are looked at.
ENDS = 1024

_ID = re.compile(rb'"id": *("[^"]*"|\d+)')
_VERSION = re.compile(rb'"protocolVersion": *("[^"]*")')
_TOKEN = re.compile(rb'"progressToken": *("[^"]*"|\d+)')
_BYTES = re.compile(rb'"bytes": *(\d+)')
_COUNT = re.compile(rb'"count": *(\d+)')

_INITIALIZED = b'{"protocolVersion":%b,"capabilities":{"tools":{}},"serverInfo":{"name":"bench","version":"1"}}'
_DISCOVERED = (
    b'{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":0,'
    b'"cacheScope":"private"}'
)
_LISTED = b'{"resultType":"complete","ttlMs":0,"cacheScope":"private","tools":[%b]}' % b",".join(
    b'{"name":"%b","description":"a tool","inputSchema":{"type":"object"}}' % name
    for name in (b"echo", b"give", b"notes")
)
_TEXT = b'{"content":[{"type":"text","text":"%b"}]}'
_NOTE = (
    b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%b,"progress":%d,"message":"%b"}}\n'
)
_LINE = bytes(ord("a") + i % 26 for i in range(78)) + rb"\n"


def filler(size: int) -> bytes:
    """Text as tools give it: lines of 80 characters, with the escape of their newline."""
    lines, rest = divmod(size, len(_LINE))
    end = _LINE[:rest]
    return _LINE * lines + (end[:-1] + b"z" if end.endswith(b"\\") else end)


def answers(line: bytes) -> list[bytes]:
    """What is written for one line."""
    ends = line if len(line) < 2 * ENDS else line[:ENDS] + line[-ENDS:]
    found = _ID.search(ends)
    if found is None:
        return []
    notes: list[bytes] = []
    if b'"tools/call"' in ends:
        result = _TEXT % b"hello from the child"
        if b'"give"' in ends:
            result = _TEXT % filler(_number(_BYTES, ends))
        elif b'"notes"' in ends:
            token, text = _TOKEN.search(ends), filler(_number(_BYTES, ends))
            notes = [_NOTE % (token[1] if token else b"0", i + 1, text) for i in range(_number(_COUNT, ends))]
    elif b'"initialize"' in ends:
        version = _VERSION.search(ends)
        result = _INITIALIZED % (version[1] if version else b'"2025-06-18"')
    elif b'"server/discover"' in ends:
        result = _DISCOVERED
    else:
        result = _LISTED if b'"tools/list"' in ends else b"{}"
    return [*notes, b'{"jsonrpc":"2.0","id":%b,"result":%b}\n' % (found[1], result)]


def _number(name: re.Pattern[bytes], line: bytes) -> int:
    found = name.search(line)
    return int(found[1]) if found else 0


def main() -> None:
    waiting: list[bytes] = []
    while data := os.read(0, 1 << 20):
        waiting.append(data)
        if b"\n" not in data:
            continue
        *lines, rest = b"".join(waiting).split(b"\n")
        waiting = [rest]
        _write(b"".join(answer for line in lines for answer in answers(line)))


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


if __name__ == "__main__":
    main()
