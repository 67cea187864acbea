"""Which servers a request is about: those of ``?servers=a,b``, which may be written ``?server=a`` too."""

from __future__ import annotations

from aiohttp import web

from bridge.protocol.errors import Fault, Rejection


def chosen_servers(request: web.BaseRequest) -> frozenset[str]:
    """Return the ids that a request names, none where it names no list. Raises :class:`Rejection` for an empty one."""
    lists = [*request.query.getall("servers", ()), *request.query.getall("server", ())]
    chosen = frozenset(part.strip() for each in lists for part in each.split(",") if part.strip())
    if lists and not chosen:
        raise Rejection(
            Fault.BAD_PARAMS, "?servers= names no server; write ?servers=a,b, or leave it out for all of them"
        )
    return chosen
