"""An MCP server whose tools stand in a file that is read for each list: its pages as JSON texts, one a line.

With ``--modern`` it speaks 2026-07-28 only, else the handshake era only. A call answers which tools have been called,
notifications included. Of two members of one name it takes the first, as some servers do. Standard library only, so
that it starts at once.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

PAGES = Path(sys.argv[1])
MODERN = "--modern" in sys.argv
calls: list[str] = []


def answer(method: str, params: dict[str, object]) -> str:
    extra = '"resultType":"complete","ttlMs":0,"cacheScope":"private",' if MODERN else ""
    match method:
        case "initialize" if not MODERN:
            capabilities = {"tools": {"listChanged": True}}
            return json.dumps(
                {
                    "protocolVersion": params["protocolVersion"],
                    "capabilities": capabilities,
                    "serverInfo": {"name": "tools", "version": "1"},
                }
            )
        case "server/discover" if MODERN:
            return f'{{{extra}"supportedVersions":["2026-07-28"],"capabilities":{{"tools":{{"listChanged":true}}}}}}'
        case "tools/list":
            pages = PAGES.read_text().splitlines()
            at = int(str(params.get("cursor", 0)))
            following = f', "nextCursor":"{at + 1}"' if at + 1 < len(pages) else ""
            return f'{{{extra} "tools" : {pages[at]}{following}}}'
        case "tools/call":
            calls.append(str(params["name"]))
            said = {"calls": calls, "pid": os.getpid(), "environment": dict(os.environ)}
            return f'{{{extra}"content":[],"structuredContent":{json.dumps(said)}}}'
    raise KeyError(method)


for line in sys.stdin:
    message = json.loads(line, object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    if MODERN and message["method"] == "subscriptions/listen":  # granted, and that is all that ever comes
        meta = {"io.modelcontextprotocol/subscriptionId": message["id"]}
        granted = {"notifications": message["params"]["notifications"], "_meta": meta}
        acknowledged = {"method": "notifications/subscriptions/acknowledged", "params": granted}
        print(json.dumps({"jsonrpc": "2.0", **acknowledged}), flush=True)
        continue
    try:
        outcome = '"result":' + answer(message["method"], message.get("params", {}))
    except KeyError as unknown:
        outcome = '"error":' + json.dumps({"code": -32601, "message": f"no {unknown}"})
    if "id" in message:
        print(f'{{"jsonrpc":"2.0","id":{json.dumps(message["id"])},{outcome}}}', flush=True)
