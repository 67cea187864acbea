"""What stands before every route: who may come in, errors as answers, and the short way for calls.

A POST to a configured server goes from here to its handler; everything else is found by the routes of the application.
The short way saves a sixth of what a call costs (docs/decisions/020), and nothing but time: guards, limits and errors
are the same on both, and the routes name the same handlers.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Container, Mapping
from typing import Protocol

from aiohttp import hdrs, web
from yarl import URL

from bridge.observe import audit
from bridge.web.cors import is_preflight, preflight, share
from bridge.web.errors import WHY, answer_to, shown_path
from bridge.web.guards import FirstSight
from bridge.web.limits import Limits
from bridge.web.prebuilt import Prebuilt
from bridge.web.principal import Challenge, name_of
from bridge.web.proxy import client_of
from bridge.web.server import Handler
from bridge.web.strangers import Strangers

log = logging.getLogger(__name__)

#: Takes a POST to the server of this id.
ServerHandler = Callable[[web.BaseRequest, str], Awaitable[web.StreamResponse]]
#: What people and programs write with a slash at the end, as if something came behind it.
SLASHED = frozenset({"mcp", "bridge", "sse"})


class Gate(Protocol):
    """The checks before a request, as :class:`bridge.web.guards.Guards` has them; all raise :class:`Rejection`."""

    def check_page(self, request: web.BaseRequest) -> None:
        """Check Host and Origin."""
        ...

    def check(self, request: web.BaseRequest, server: str | None = None) -> None:
        """Check everything, and say who asks. Raises :class:`FirstSight` when that cannot be said at once."""
        ...

    async def meet(self, request: web.BaseRequest, server: str | None, token: bytes) -> None:
        """Check a token that was not seen before."""
        ...

    def check_target(self, request: web.BaseRequest) -> None:
        """Check a target with a host of its own."""
        ...

    def lets_in(self, request: web.BaseRequest, origin: str) -> bool:
        """Whether pages of this origin get to see answers."""
        ...

    def challenge(self, challenge: Challenge, request: web.BaseRequest) -> Challenge:
        """Complete a refusal."""
        ...


class Front:
    """Answers every request of a server. ``posts`` are the handlers of ``/{name}/{server_id}`` by name, ``servers``
    the ids that may follow, ``routes`` the handler of all that is neither. What stands below ``base`` is the same as
    what stands below ``/`` (``BASE_PATH``).
    """

    def __init__(
        self,
        guards: Gate,
        posts: Mapping[str, ServerHandler],
        servers: Container[str],
        routes: Handler,
        limits: Limits,
        base: str = "",
    ) -> None:
        self._limits = limits
        self._guards = guards
        self._is_audited = audit.is_on()
        self._strangers = Strangers()
        self._base = base + "/"
        self._posts = posts
        self._servers = servers
        self._routes = routes
        self._ways: dict[str, tuple[ServerHandler, str]] = {}  # short ones that have been taken, by what was sent

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request; what a handler raises becomes its answer."""
        begun = time.perf_counter() if log.isEnabledFor(logging.DEBUG) else 0.0
        origin = request.headers.get(hdrs.ORIGIN)
        try:
            if origin is not None and is_preflight(request):
                self._guards.check_page(request)
                return preflight(request, origin)
            way = self._ways.get(request.raw_path) or self._way(request.raw_path)
            server = None if way is None else way[1]
            try:
                self._guards.check(request, server)
            except FirstSight as unknown:
                await self._guards.meet(request, server, unknown.token)
            if self._limits.is_set:
                self._limits.check(request)
            if way is not None and request.method == "POST" and hdrs.EXPECT not in request.headers:
                handler, named = way
                if self._limits.is_set:
                    self._limits.check_server(request, named)
                response = await handler(request, named)
            else:
                self._guards.check_target(request)
                response = await self._routes(self._unslashed(request))
        except Challenge as challenge:
            response = answer_to(self._guards.challenge(challenge, request), request)
        except Exception as error:
            response = answer_to(error, request)
        if response.status >= 400 and WHY in response:
            if response.status in (401, 403):
                self._strangers.refused(client_of(request), response.status, response[WHY])
            if self._is_audited:
                _record(request, response)
        if origin is not None and self._guards.lets_in(request, origin):  # a refusal too is for its page to see
            if isinstance(response, Prebuilt):
                response.share(origin)
            else:
                share(response, origin)
        if begun:
            spent = (time.perf_counter() - begun) * 1000
            log.debug("%s %s %d %.1fms", request.method, shown_path(request), response.status, spent)
        return response

    def _way(self, path: str) -> tuple[ServerHandler, str] | None:
        """The short way, None when there is none: to an id that is written with escapes, or with a query behind it."""
        name, server = named(path, self._base)
        handler = self._posts.get(name)
        if handler is None or server not in self._servers:
            return None
        way = self._ways[path] = handler, server
        return way

    def _unslashed(self, request: web.BaseRequest) -> web.BaseRequest:
        """The same request without the slash at the end of an URL of MCP clients."""
        path, mark, query = request.raw_path.partition("?")
        if not path.endswith("/"):
            return request
        if named(path, self._base)[0] not in SLASHED:
            return request
        return request.clone(rel_url=URL(path[:-1] + mark + query, encoded=True))


def named(path: str, base: str) -> tuple[str, str]:
    """The first segment of a path and what is behind it, below ``base``, which ends in a slash, or below the root."""
    name, _, rest = path[len(base) if path.startswith(base) else 1 :].partition("/")
    return name, rest


def _record(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Write down a refusal, for the audit log."""
    audit.record(
        "refused",
        principal=name_of(request),
        address=client_of(request),
        route=f"{request.method} {shown_path(request)}",
        status=response.status,
        why=response[WHY],
    )
