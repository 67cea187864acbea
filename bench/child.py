"""A stdio MCP server that costs as little as Python can, so that what is measured is the bridge."""

from __future__ import annotations

import os
import re

ID = re.compile(rb'"id":\s*("[^"]*"|\d+)')
INITIALIZED = (
    b'{"jsonrpc":"2.0","id":%b,"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},'
    b'"serverInfo":{"name":"bench","version":"1"}}}\n'
)
DISCOVERED = (
    b'{"jsonrpc":"2.0","id":%b,"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":'
    b'{"tools":{}},"ttlMs":0,"cacheScope":"private"}}\n'
)
LISTED = b'{"jsonrpc":"2.0","id":%b,"result":{"resultType":"complete","tools":[],"ttlMs":0,"cacheScope":"private"}}\n'
CALLED = b'{"jsonrpc":"2.0","id":%b,"result":{"content":[{"type":"text","text":"hello from the child"}]}}\n'


def main() -> None:
    rest = b""
    while data := os.read(0, 1 << 20):
        *lines, rest = (rest + data).split(b"\n")
        out = bytearray()
        for line in lines:
            found = ID.search(line)
            if found is not None:
                out += _answer(line) % found[1]
        os.write(1, out)


def _answer(line: bytes) -> bytes:
    if b'"tools/call"' in line:
        return CALLED
    if b'"initialize"' in line:
        return INITIALIZED
    return DISCOVERED if b'"server/discover"' in line else LISTED


if __name__ == "__main__":
    main()
