"""One child process and the operating system around it: pipes, process group, exit, usage.

Knows bytes and lines, not MCP. May import ``protocol`` (framing and messages).
"""
