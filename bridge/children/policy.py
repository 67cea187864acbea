"""Who may hold a child, and for how long, as a frozen value that the pool reads in one place."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace
from typing import Literal

from bridge.children.variables import OwnVariables
from bridge.config.server import ServerConfig

#: Most children of one server that are held by modern calls which may ask back, per set of capabilities.
INTERACTIVE_CHILDREN = 16


class Greeting(enum.Enum):
    """Who speaks first to a child, and in which era. A child speaks one era all its life."""

    CLIENT = enum.auto()  # its only holder sends its own initialize
    HANDSHAKE = enum.auto()  # the bridge sends initialize
    MODERN = enum.auto()  # the bridge asks server/discover


@dataclass(frozen=True, slots=True)
class Sharing:
    """``holders``: how many may hold one child at once, None for any number. ``hold``: how long a lease lasts.

    ``warm``: children kept ready before anyone asks. ``limit``: most children of one server under this policy, None for
    as many as ``MAX_CHILDREN`` allows. ``greeting``: who speaks first. ``capabilities``: what the bridge offers a child
    that it initializes itself, as JSON text; nothing where many hold it, because what one client declares must not bind
    another. ``logs``: whether a child is asked for all of its log, because each request says what it wants of that.
    ``owner``: digest of the one principal whose requests reach the child, empty where that does not matter.
    ``variables``: what its one client has put into its environment. ``words``: the params with which its client greets
    a child; one that is kept ready has heard them already, or nothing (:mod:`bridge.children.ahead`).
    """

    holders: int | None
    hold: Literal["session", "exchange"]
    warm: int = 0
    limit: int | None = None
    greeting: Greeting = Greeting.CLIENT
    capabilities: bytes = b"{}"
    logs: bool = False
    owner: str = ""
    variables: OwnVariables | None = None
    words: bytes = field(default=b"", compare=False)  # what is said to a child is no policy

    @property
    def is_private(self) -> bool:
        """Whether a child has one holder in its life: nobody else may find what that one left in it."""
        return self.holders == 1 and self.hold == "session"

    @property
    def mixes(self) -> bool:
        """Whether a child keeps for one of its clients what another one could ask it for."""
        is_for_one = self.is_private or self.owner or self.variables is not None
        return not is_for_one and self.greeting is Greeting.HANDSHAKE


#: A child for many holders, greeted by the bridge.
SHARED = Sharing(holders=None, hold="session", limit=1, greeting=Greeting.HANDSHAKE)
#: A child for one session, greeted by its client.
DEDICATED = Sharing(holders=1, hold="session")
#: The same for a client that never initializes: the bridge does it.
IMPLICIT = Sharing(holders=1, hold="session", greeting=Greeting.HANDSHAKE)
#: A child of the modern era, which serves everyone at once: nothing in it belongs to anyone.
MODERN = Sharing(holders=None, hold="session", limit=1, greeting=Greeting.MODERN)


def interactive(capabilities: bytes, owner: str) -> Sharing:
    """A handshake child for one modern call of a principal at a time, offered what that call's client offers."""
    return Sharing(
        holders=1,
        hold="exchange",
        limit=INTERACTIVE_CHILDREN,
        greeting=Greeting.HANDSHAKE,
        capabilities=capabilities,
        logs=True,
        owner=owner,
    )


def with_variables(sharing: Sharing, variables: OwnVariables | None) -> Sharing:
    """Return the policy of children that one client has put variables into: nobody else gets one, none was warm."""
    if variables is None:
        return sharing
    return replace(sharing, variables=variables, warm=0, limit=None if sharing is MODERN else sharing.limit)


class Need(enum.Enum):
    """What a child is wanted for."""

    SESSION = enum.auto()  # a client that sends its own initialize
    IMPLICIT = enum.auto()  # a client that never will
    BRIDGE = enum.auto()  # the bridge's own client
    MODERN = enum.auto()  # the same in the modern era


def choose(config: ServerConfig, need: Need, owner: str = "", words: bytes = b"") -> Sharing:
    """Return who may hold the child: as ``sharing`` says, else one per session and one for all bridge calls of a
    principal. ``words`` are those with which its client will greet it; a session of a remote server that was opened
    ahead might have ended when its client comes, so they mean nothing there.
    """
    if need is Need.MODERN:
        return MODERN
    words = words if config.url is None else b""
    spec = config.sharing
    if spec is None or (spec.holders == 1 and spec.hold == "session" and need is Need.BRIDGE):
        if need is Need.SESSION and config.warm:
            return Sharing(holders=1, hold="session", warm=config.warm, words=words)
        if need is Need.BRIDGE:
            return replace(SHARED, owner=owner)
        return DEDICATED if need is Need.SESSION else IMPLICIT
    private = spec.holders == 1 and spec.hold == "session"
    greeting = Greeting.HANDSHAKE if need is Need.IMPLICIT or not private else Greeting.CLIENT
    warm = 0 if need is Need.IMPLICIT and private else spec.warm
    return Sharing(spec.holders, spec.hold, warm, spec.limit, greeting, words=words if warm and private else b"")
