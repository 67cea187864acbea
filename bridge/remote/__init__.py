"""Servers elsewhere that look like processes: MCP over HTTP as a client speaks it, in each of its versions.

What a connection needs of the other side is ``protocol.transport``. May import ``protocol``.
"""
