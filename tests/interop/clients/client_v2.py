"""A client on the Python SDK 2.x: ``client_v2.py URL SCENARIO OPTIONS MODE``; the SDK's default mode is ``auto``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import mcp
import mcp_types as types
from mcp import StdioServerParameters
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from scenarios import MODEL, Client, main


@asynccontextmanager
async def streams(client: Client) -> AsyncIterator[tuple[Any, Any]]:
    """Open the transport that the options name."""
    http = client.watch(create_mcp_http_client)
    match client.options.get("transport"):
        case "stdio":
            async with stdio_client(StdioServerParameters(**client.options["program"])) as pair:
                yield pair
        case "sse":
            async with sse_client(client.url, httpx_client_factory=http) as pair:
                yield pair
        case _:
            async with http() as opened, streamable_http_client(client.url, http_client=opened) as pair:
                yield pair


async def connect(client: Client, mode: str) -> None:
    async def sampling(_: Any, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
        content = types.TextContent(type="text", text=client.sample(params))
        return types.CreateMessageResult(role="assistant", content=content, model=MODEL)

    async def elicitation(_: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        return types.ElicitResult(action="accept", content=await client.fill_in(params))

    async def list_roots(_: Any) -> types.ListRootsResult:
        return types.ListRootsResult(roots=[types.Root(uri=client.options["root"], name="interop")])

    async def logging(params: types.LoggingMessageNotificationParams) -> None:
        client.log.put_nowait(params.data)

    async with mcp.Client(
        streams(client),
        mode=mode,
        sampling_callback=sampling,
        elicitation_callback=elicitation,
        list_roots_callback=list_roots if "root" in client.options else None,
        logging_callback=logging,
        message_handler=client.on_message,
    ) as session:
        client.seen["protocol"] = session.protocol_version
        client.seen["server"] = session.server_info.name
        await client.play(session)


if __name__ == "__main__":
    main(connect)
