"""A client of the modern era, in plain HTTP."""

from __future__ import annotations

from typing import Any

from bridge.protocol.modern import CAPABILITIES, CLIENT_INFO, VERSION
from tests.conftest import Running, last


class ModernClient:
    """What a modern client sends to a server, or without a name to all of them."""

    def __init__(self, bridge: Running, server: str, capabilities: dict[str, Any] | None = None) -> None:
        self.bridge = bridge
        self.path = f"/mcp/{server}" if server else "/mcp"
        self.capabilities = capabilities or {}

    def body(self, method: str, id_: Any = 1, meta: dict[str, Any] | None = None, **params: Any) -> dict[str, Any]:
        envelope = {
            VERSION: "2026-07-28",
            CAPABILITIES: self.capabilities,
            CLIENT_INFO: {"name": "modern", "version": "1"},
            **(meta or {}),
        }
        return {"jsonrpc": "2.0", "id": id_, "method": method, "params": {**params, "_meta": envelope}}

    def send(self, body: dict[str, Any], **headers: str) -> Any:
        params = body.get("params", {})
        named = params.get("name") or params.get("uri")
        given = {"MCP_Protocol_Version": "2026-07-28", "Mcp_Method": body["method"]}
        if named:
            given["Mcp_Name"] = named
        return self.bridge.post(self.path, body, **{**given, **headers})

    async def ask(self, method: str, id_: Any = 1, meta: dict[str, Any] | None = None, **params: Any) -> dict[str, Any]:
        async with self.send(self.body(method, id_, meta, **params)) as response:
            return await last(response)

    async def call(self, name: str, id_: Any = 1, meta: dict[str, Any] | None = None, **arguments: Any) -> Any:
        return await self.ask("tools/call", id_, meta, name=name, arguments=arguments)
