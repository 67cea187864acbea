"""The rules of MCP and of its transports, as pure code.

Knows messages, framing, ids, eras, states and error codes. Bytes or values in, decisions out: no I/O, no clock, no
logging. Imports nothing of ours and none of ``asyncio, time, os, logging, aiohttp, psutil``.
"""
