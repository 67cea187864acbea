"""FastMCP as a proxy in front of one stdio server: ``fastmcp_proxy.py PORT COMMAND ARGS...``."""

import sys

from fastmcp.server import create_proxy

port, command, *args = sys.argv[1:]
proxy = create_proxy({"mcpServers": {"bench": {"command": command, "args": args}}}, name="bench")
proxy.run(transport="http", host="127.0.0.1", port=int(port), path="/mcp", log_level="critical", show_banner=False)
