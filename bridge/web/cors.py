"""What a browser has to be told before it shows an answer to a page (Fetch standard, CORS protocol).

Only pages whose Origin the guards have let in are told anything; there is no ``*``, because answers depend on tokens.
"""

from __future__ import annotations

from aiohttp import web

_EXPOSED = "Mcp-Session-Id, MCP-Protocol-Version, WWW-Authenticate, Retry-After"
_METHODS = "GET, POST, PATCH, DELETE, OPTIONS"
_HEADERS = (
    "Accept, Authorization, Content-Type, Last-Event-ID, Mcp-Method, Mcp-Name, MCP-Protocol-Version, Mcp-Session-Id, "
    "X-API-Key"
)
#: Seconds for which a browser may remember the answer to its question.
_REMEMBERED = "600"


def is_preflight(request: web.BaseRequest) -> bool:
    """Whether a browser asks what a page may do. It sends no token with that."""
    return request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers


def preflight(request: web.BaseRequest, origin: str) -> web.Response:
    """Answer that question for a page that may come in."""
    asked = request.headers.get("Access-Control-Request-Headers", "")
    # Names of mirrored arguments (Mcp-Param-*) are the server's, so what is asked for is allowed as well.
    allowed = f"{_HEADERS}, {asked}" if asked.replace(",", "").replace(" ", "").replace("-", "").isalnum() else _HEADERS
    headers = {
        **sharing(origin),
        "Access-Control-Allow-Methods": _METHODS,
        "Access-Control-Allow-Headers": allowed,
        "Access-Control-Max-Age": _REMEMBERED,
    }
    return web.Response(status=204, headers=headers)


def sharing(origin: str | None) -> dict[str, str]:
    """Headers with which a page of ``origin`` gets to see an answer; none for who is no page."""
    if origin is None:
        return {}
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Expose-Headers": _EXPOSED,
        "Vary": "Origin",
    }


def share(response: web.StreamResponse, origin: str) -> None:
    """Let a page see a response that has not begun."""
    if not response.prepared:
        response.headers.update(sharing(origin))
