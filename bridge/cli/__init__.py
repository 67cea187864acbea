"""The command ``mcp-bridge``: verbs, exit codes, signals. The outermost layer, which may import all others."""
