"""Who may hold a child, and for how long, as a frozen value that the pool reads in one place."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal

from bridge.config.servers import ServerConfig


@dataclass(frozen=True, slots=True)
class Sharing:
    """``holders``: how many may hold one child at once, None for any number. ``hold``: how long a lease lasts.

    ``warm``: children kept ready before anyone asks. ``limit``: most children of one server under this policy, None for
    as many as ``MAX_CHILDREN`` allows. ``greets``: the bridge initializes the child itself, with no client
    capabilities, because what one client declares must not bind another.
    """

    holders: int | None
    hold: Literal["session", "exchange"]
    warm: int = 0
    limit: int | None = None
    greets: bool = False

    @property
    def is_private(self) -> bool:
        """Whether a child has one holder in its life: nobody else may find what that one left in it."""
        return self.holders == 1 and self.hold == "session"


#: A child for many holders, greeted by the bridge.
SHARED = Sharing(holders=None, hold="session", limit=1, greets=True)
#: A child for one session, greeted by its client.
DEDICATED = Sharing(holders=1, hold="session")
#: The same for a client that never initializes: the bridge does it.
IMPLICIT = Sharing(holders=1, hold="session", greets=True)


class Need(enum.Enum):
    """What a child is wanted for."""

    SESSION = enum.auto()  # a client that sends its own initialize
    IMPLICIT = enum.auto()  # a client that never will
    BRIDGE = enum.auto()  # the bridge's own client


def choose(config: ServerConfig, need: Need) -> Sharing:
    """Return who may hold the child: as ``sharing`` says, else one per session and one for all bridge calls."""
    spec = config.sharing
    if spec is None or (spec.holders == 1 and spec.hold == "session" and need is Need.BRIDGE):
        return {Need.SESSION: DEDICATED, Need.IMPLICIT: IMPLICIT, Need.BRIDGE: SHARED}[need]
    private = spec.holders == 1 and spec.hold == "session"
    greets = need is Need.IMPLICIT or not private
    return Sharing(spec.holders, spec.hold, 0 if need is Need.IMPLICIT and private else spec.warm, spec.limit, greets)
