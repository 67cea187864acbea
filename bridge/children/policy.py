"""Who may hold a child, and for how long, as a frozen value that the pool reads in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Sharing:
    """``holders``: how many may hold one child at once, None for any number. ``hold``: how long a lease lasts.

    ``warm``: children started before anyone asks. ``limit``: most children of one server under this policy, None for
    as many as ``MAX_CHILDREN`` allows. ``greets``: the bridge initializes the child itself, with no client
    capabilities, because what one client declares must not bind another.
    """

    holders: int | None
    hold: Literal["session", "exchange"]
    warm: int = 0
    limit: int | None = None
    greets: bool = False


#: A child for many holders, greeted by the bridge.
SHARED = Sharing(holders=None, hold="session", limit=1, greets=True)
#: A child for one session, greeted by its client.
DEDICATED = Sharing(holders=1, hold="session")
#: The same for a client that never initializes: the bridge does it.
IMPLICIT = Sharing(holders=1, hold="session", greets=True)
