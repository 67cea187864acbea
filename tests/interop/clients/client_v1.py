"""A client on the Python SDK 1.x: ``client_v1.py URL SCENARIO OPTIONS``."""

from __future__ import annotations

from typing import Any

from mcp import ClientSession, types
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from scenarios import MODEL, Client, main


async def connect(client: Client) -> None:
    async def sampling(_: Any, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
        content = types.TextContent(type="text", text=client.sample(params))
        return types.CreateMessageResult(role="assistant", content=content, model=MODEL)

    async def elicitation(_: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        return types.ElicitResult(action="accept", content=await client.fill_in(params))

    async def list_roots(_: Any) -> types.ListRootsResult:
        return types.ListRootsResult(roots=[types.Root(uri=client.options["root"], name="interop")])

    async def logging(params: types.LoggingMessageNotificationParams) -> None:
        client.log.put_nowait(params.data)

    http = create_mcp_http_client()
    http.event_hooks["response"].append(client.on_response)
    async with (
        http,
        streamable_http_client(client.url, http_client=http) as (read, write, _),
        ClientSession(
            read,
            write,
            sampling_callback=sampling,
            elicitation_callback=elicitation,
            list_roots_callback=list_roots if "root" in client.options else None,
            logging_callback=logging,
        ) as session,
    ):
        result = await session.initialize()
        client.seen["protocol"] = result.protocolVersion
        client.seen["server"] = result.serverInfo.name
        await client.play(session)


if __name__ == "__main__":
    main(connect)
