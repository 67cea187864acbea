"""The address of this bridge, as the client of a request sees it. Every absolute URL of ours begins with it."""

from __future__ import annotations

from aiohttp import web


def base_url(request: web.BaseRequest) -> str:
    """Return scheme and host, without a slash at the end."""
    return f"{request.scheme}://{request.host.lower()}"
