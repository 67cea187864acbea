"""The routes of all faces as one application, once more below ``BASE_PATH``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from aiohttp import web
from aiohttp.typedefs import Middleware

from bridge.config.settings import Settings
from bridge.web.address import below
from bridge.web.limits import Limits
from bridge.web.principal import check_server

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Face(Protocol):
    """Some of what the bridge answers."""

    def routes(self) -> list[web.RouteDef]:
        """Return what it answers. A path that names a server has it as ``server_id``, which is what guards look at."""
        ...


def application(settings: Settings, faces: Sequence[Face], limits: Limits) -> web.Application:
    """Return what answers all requests that the front does not hand on by itself."""
    app = web.Application(
        client_max_size=settings.max_request_bytes, middlewares=[_permitted(limits, settings.base_path)]
    )
    routes = [route for face in faces for route in face.routes()]
    app.add_routes(routes)
    app.add_routes(_below(settings.base_path, routes))
    return app


def aliased(name: str, handler: Handler) -> list[web.RouteDef]:
    """A list of the REST API, and its short path."""
    return [web.get(f"/{name}", handler), web.get(f"/api/v1/{name}", handler)]


def _permitted(limits: Limits, base: str) -> Middleware:
    @web.middleware
    async def permitted(request: web.Request, handler: Handler) -> web.StreamResponse:
        """No route that names a server is for a token that may not use it, or that uses it too much."""
        server = request.match_info.get("server_id")
        if server is not None:
            check_server(request, server)
            path = "" if (resource := request.match_info.route.resource) is None else resource.canonical
            if not below(path, base).startswith("/api/v1/"):  # to stop a server is not to use it
                limits.check_server(request, server)
        return await handler(request)

    return permitted


def _below(base: str, routes: Sequence[web.RouteDef]) -> list[web.RouteDef]:
    """The same routes below a base path."""
    if not base:
        return []
    return [web.RouteDef(route.method, base + route.path, route.handler, route.kwargs) for route in routes]
