"""An MCP server that never reads JSON: what it answers are the very bytes that it was sent, or that it was told to say.

A ``tools/call`` is answered with its params, as they came; where there is a progress token, progress with those params
comes before. ``say`` writes any bytes; ``ID`` in them is the id of the request. ``--modern`` makes it a server of the
modern era only. Standard library only, so that it starts at once.
"""

from __future__ import annotations

import os
import re
import sys

MODERN = "--modern" in sys.argv
REQUEST = re.compile(rb'\{"jsonrpc":"2\.0","id":(\d+),"method":"([^"]*)"(?:,"params":(.*))?\}', re.DOTALL)
SAY = re.compile(rb'"say":\s*"([0-9a-f]*)"')
TOKEN = re.compile(rb'"progressToken":\s*(\d+)')
TOOLS = b'{"tools":[],"resultType":"complete","ttlMs":0,"cacheScope":"private"}'
INITIALIZED = (
    b'{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"mirror","version":"1"}}'
)
DISCOVERED = (
    b'{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":0,'
    b'"cacheScope":"private"}'
)
GREETING = {b"server/discover": DISCOVERED} if MODERN else {b"initialize": INITIALIZED}


def answer(id_: bytes, method: bytes, params: bytes) -> bytes:
    if method == b"tools/list":
        return b'{"jsonrpc":"2.0","id":%b,"result":%b}\n' % (id_, TOOLS)
    if method in GREETING:
        return b'{"jsonrpc":"2.0","id":%b,"result":%b}\n' % (id_, GREETING[method])
    if method != b"tools/call":
        return b'{"jsonrpc":"2.0","id":%b,"error":{"code":-32022,"message":"not this one"}}\n' % id_
    said = SAY.search(params)
    if said:
        return bytes.fromhex(said[1].decode()).replace(b"ID", id_) + b"\n"
    token = TOKEN.search(params)
    before = b""
    if token:
        before = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%b,"progress":1.0}}\n'
        before %= token[1]
    return b'%b{"jsonrpc":"2.0","id":%b,"result":%b}\n' % (before, id_, params)


def main() -> None:
    for line in sys.stdin.buffer:
        found = REQUEST.fullmatch(line.rstrip(b"\n"))
        if found:
            os.write(1, answer(found[1], found[2], found[3] or b"{}"))


if __name__ == "__main__":
    main()
