"""Which servers the endpoint of all servers has for whom, and who is meant by a name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bridge.children.registry import Registry
from bridge.protocol.merged import RESOURCES, TEMPLATES, Index, Listing, Origin
from bridge.protocol.prefix import Prefixes


@dataclass(frozen=True, slots=True)
class View:
    """What one client has chosen, None for all, as far as its token ``permits``."""

    chosen: frozenset[str] | None
    permits: Callable[[str], bool]


class Roster:
    """The servers that are enabled now. ``patience``: seconds that a list waits for one of them; for those in ``late``
    it waits no more, because it did so in vain the last time.
    """

    def __init__(self, registry: Registry, separator: str, patience: float) -> None:
        self._registry = registry
        self.separator = separator
        self.patience = patience
        self.late: set[str] = set()

    def servers(self, view: View) -> list[str]:
        """Return the servers that a client sees, in the order of the configuration."""
        return [
            server
            for server, config in self._registry.entries.items()
            if not config.disabled and (view.chosen is None or server in view.chosen) and view.permits(server)
        ]

    @property
    def prefixes(self) -> Prefixes:
        """How their things are named: by all that are configured, so that names do not depend on who looks."""
        return Prefixes(self._registry.entries, self.separator)

    def check(self, server: str) -> None:
        """Raise :class:`Rejection` for a server that is not there."""
        self._registry.pool(server)

    async def find(
        self, index: Index, listing: Listing, public: str, view: View, read: Callable[[Listing], Awaitable[object]]
    ) -> Origin | None:
        """Return which server is meant by a name, and what that calls it; None where nobody is.

        ``read`` takes a list into the index, where the name alone does not tell.
        """
        servers, prefixes = self.servers(view), self.prefixes
        origin = index.told(listing, public, prefixes)
        if origin is not None and origin[0] in servers:
            return origin
        lists = (RESOURCES, TEMPLATES) if listing is RESOURCES else (listing,)
        stale = [each for each in lists if each in index.stale]
        # What nobody is known to have is looked for in all lists: not every server tells whom it concerns what has
        # changed, and one may have failed when it was asked.
        for due in (stale, [each for each in lists if each not in stale]):
            for each in due:
                await read(each)
            origin = index.told(listing, public, prefixes)
            if origin is None and listing is RESOURCES:
                origin = index.fitting(public)
            if origin is not None:
                break
        else:
            origin = index.likely(public) if listing is RESOURCES else None
        return origin if origin is not None and origin[0] in servers else None
