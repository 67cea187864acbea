"""The address of this bridge, as the client of a request sees it. Every absolute URL of ours begins with it."""

from __future__ import annotations

from aiohttp import web

from bridge.web.proxy import origin_of


def base_url(request: web.BaseRequest, base: str) -> str:
    """Return scheme, host and ``BASE_PATH``, without a slash at the end."""
    return f"{origin_of(request).lower()}{base}"
