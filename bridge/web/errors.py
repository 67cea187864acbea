"""Errors as HTTP: every refusal is a JSON-RPC error body with the status that the table gives it."""

from __future__ import annotations

import logging
import math
import re

from aiohttp import web

from bridge.observe.ids import shorten
from bridge.protocol import messages
from bridge.protocol.errors import BridgeError, Fault, Rejection
from bridge.web.principal import Challenge

#: Why a request was refused, on its answer.
WHY = web.ResponseKey("why", str)
_SESSION_PATH = re.compile(r"(?<=/sessions/)[^/]+")

#: Statuses of refusals that repeat what a client has sent, or a tool has said.
_PRIVATE = frozenset({400, 422, 424})

log = logging.getLogger(__name__)

#: What people look for who come to a path that is none.
_WAYS = "a server is at /mcp/{server_id}, or /sse/{server_id} for HTTP+SSE, and GET /servers lists them"
#: What aiohttp refuses by itself, in our words.
_OWN_FAULTS = {404: Fault.UNKNOWN_PATH, 405: Fault.BAD_METHOD, 413: Fault.BODY_TOO_LARGE}


def refusal(error: BridgeError, request_id: bytes | None = None, status: int | None = None) -> web.Response:
    """Return the answer to a request that is refused, or that could not be served.

    ``status`` replaces the one that belongs to the fault.
    """
    body = messages.error_line(request_id, error.fault.code, str(error), error.data)
    response = web.Response(body=body, status=status or error.fault.status, content_type="application/json")
    # What is wrong with a message is told with pieces of it, which are for its sender only; so is what a tool says.
    response[WHY] = error.fault.name.lower().replace("_", " ") if error.fault.status in _PRIVATE else str(error)
    if error.retry_in is not None:
        response.headers["Retry-After"] = str(math.ceil(error.retry_in))
    if isinstance(error, Challenge):
        response.headers["WWW-Authenticate"] = error.header
    if error.fault is Fault.BAD_METHOD:
        response.headers["Allow"] = "POST"
    return response


def shown_path(request: web.BaseRequest) -> str:
    """The path as logs may show it: without ids of sessions, which are as good as passwords."""
    return _SESSION_PATH.sub(lambda found: shorten(found[0]), request.path)


def answer_to(error: Exception, request: web.BaseRequest) -> web.StreamResponse:
    """Return the answer to what a handler raised; no traceback reaches a client."""
    if isinstance(error, BridgeError):
        return refusal(error)
    if isinstance(error, web.HTTPException):
        if error.status < 400:
            raise error
        fault = _OWN_FAULTS.get(error.status, Fault.NOT_HTTP)
        way = f"; {_WAYS}" if fault is Fault.UNKNOWN_PATH else ""
        why = f"{request.method} {request.path}: {error.reason}{way}"
        response = refusal(Rejection(fault, why), status=error.status)
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response
    if isinstance(error, ConnectionError):  # the client has gone while it sent its request: nobody will read this
        return web.Response(status=400)
    log.error("%s %s failed", request.method, shown_path(request), exc_info=error)
    return refusal(BridgeError("internal error; the log has the details"))
