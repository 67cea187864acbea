"""What headers of a client say to its own child (``headerEnv``): taken where a session begins, refused elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from bridge.children.variables import OwnVariables
from bridge.config.server import ServerConfig
from bridge.protocol.errors import Fault, Rejection

#: Bytes of one value.
LONGEST = 8 * 1024


class ClientVariables:
    """Reads the headers that servers want. ``entries`` is what is configured now."""

    def __init__(self, entries: Mapping[str, ServerConfig]) -> None:
        self._entries = entries

    def take(self, request: web.BaseRequest, server: str) -> OwnVariables | None:
        """Return the variables of a session that begins with a request; None where it brings none.

        Raises :class:`Rejection` for a value that can be none; it repeats no value.
        """
        config = self._entries.get(server)
        found: dict[str, str] = {}
        for header, variable in {} if config is None else config.header_env.items():
            values = request.headers.getall(header, [])
            if not values:
                continue
            [*others, value] = values
            if others or not value or not value.isprintable() or len(value.encode()) > LONGEST:
                why = f"header {header} must be there once, as one line of 1 to {LONGEST} printable bytes"
                raise Rejection(Fault.BAD_PARAMS, why)
            found[variable] = value
        return OwnVariables(found) if found else None

    def refuse(self, request: web.BaseRequest, server: str) -> None:
        """Raise :class:`Rejection` where a request brings a header that would have to change a child of many."""
        config = self._entries.get(server)
        if config is None or not config.header_env:
            return
        for header in config.header_env:
            if header in request.headers:
                raise Rejection(
                    Fault.BAD_PARAMS,
                    f"header {header} is for a process of your own, and calls without a session share one; initialize "
                    f"a session on /mcp/{server} with it, in a version up to 2025-11-25, or leave it out",
                )
