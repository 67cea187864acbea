"""What an operator does to a running bridge."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from bridge.protocol.errors import Fault, Rejection
from bridge.web.principal import is_admin
from bridge.web.reply import json_answer


class AdminFace:
    """The handlers of administration. ``drain`` begins the slow way out."""

    def __init__(self, drain: Callable[[], None]) -> None:
        self._drain = drain

    async def drain(self, request: web.Request) -> web.Response:
        """Take no new sessions, and end when the open ones have ended or are kept."""
        _check_admin(request)
        self._drain()
        return json_answer({"status": "draining"}, status=202)


def _check_admin(request: web.Request) -> None:
    if not is_admin(request):
        raise Rejection(Fault.FORBIDDEN, "this needs a token with the scope admin")
