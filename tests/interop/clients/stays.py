"""A client on the Python SDK 1.x that stays: ``stays.py URL``. For each line on stdin it calls a tool, and prints the
session id and what the tool answered.
"""

from __future__ import annotations

import asyncio
import json
import sys

from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client


async def main() -> None:
    async with (
        streamable_http_client(sys.argv[1]) as (read, write, session_id),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        while await asyncio.to_thread(sys.stdin.readline):
            result = await session.call_tool("echo", {"text": "still here"})
            print(json.dumps({"id": session_id(), "text": result.content[0].text}), flush=True)


asyncio.run(main())
