"""The HTTP faces, on aiohttp: routes, guards, Streamable HTTP, the classic bridge, status pages.

Parses and answers; every decision that is not about HTTP lies further in. May import ``sessions`` and inward.
"""
