"""What one entry of ``servers.json`` means, as frozen values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from bridge.config.values import UNSET, Rate, Unset

#: What a session with all servers at once has as its server; no id of one can be this.
ALL_SERVERS = "*"


@dataclass(frozen=True, slots=True)
class SharingConfig:
    """``sharing`` as written: how many may hold a child, for how long, how many wait ready, how many there may be."""

    holders: int | None
    hold: Literal["session", "exchange"]
    warm: int = 0
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """``sandbox``: which paths a program sees, which of them it may change, and whether it has a network."""

    read: tuple[str, ...] = ("/",)
    write: tuple[str, ...] = ()
    network: bool = False


#: The words that ``sharing`` may be; None is what the bridge does by itself.
SHARINGS: dict[str, SharingConfig | None] = {
    "session": None,
    "shared": SharingConfig(None, "session", limit=1),
    "pooled": SharingConfig(1, "exchange", warm=2, limit=16),
}


def _live(default: Any) -> Any:
    """A field that holds from the moment it is read again: no process has to start anew for it."""
    return field(default=default, metadata={"live": True})


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """One entry: what to start, or where it runs already, and how. Durations are seconds.

    ``preload``: modules that its processes find imported, none for those that its program imports first; None: nothing
    is imported beforehand.
    """

    id: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    cwd: Path | None = None
    description: str = _live("")
    disabled: bool = False
    session_ttl: float | Unset | None = _live(UNSET)
    bridge_ttl: float | Unset | None = _live(UNSET)
    persistent: bool = _live(False)
    restore: Literal["replay", "refuse"] = _live("replay")
    on_node_loss: Literal["recreate", "end"] | None = _live(None)  # what becomes of its sessions with their node
    idle_stop: float | None = _live(None)  # after which an idle session loses its child, and gets another when it calls
    max_sessions: int | None = _live(None)
    rate_limit: Rate | None = _live(None)  # requests of one caller
    max_concurrent: int | None = _live(None)  # calls of one caller in flight
    max_restarts: int | None = _live(None)  # failures in a row after which only an operator starts it again
    restart_delay: float | None = _live(None)  # the first wait after failures
    limits: Mapping[str, int] = field(default_factory=dict)  # by the names of ``bridge.process.limits``
    sandbox: SandboxConfig | None = None
    no_new_privs: bool = False
    header_env: Mapping[str, str] = field(default_factory=dict)  # header of a client -> variable of its child
    request_timeout: float | Unset | None = _live(UNSET)
    start_timeout: float | None = _live(None)
    max_children: int | None = _live(None)
    sharing: SharingConfig | None = None
    child_era: Literal["auto", "handshake", "modern"] = "auto"
    warm: int = 0
    preload: tuple[str, ...] | None = None
    allowed_tools: tuple[str, ...] | None = None  # globs of names; None for all
    disabled_tools: tuple[str, ...] = ()
    pin_tools: Literal["report", "block", "off"] = "report"  # what becomes of tools that change
    notes: tuple[str, ...] = _live(())
    url: str | None = field(default=None, repr=False)  # of a remote server, which has no argv; may hold a key
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # for its requests

    @property
    def survives_node(self) -> bool:
        """Whether its sessions go on elsewhere when their node is lost: if nothing is said, those that are kept do."""
        return self.on_node_loss == "recreate" or (self.on_node_loss is None and self.persistent)

    @property
    def started_as(self) -> ServerConfig:
        """The same for all that start a process in the same way, for the same holders."""
        usual: dict[str, Any] = {each.name: each.default for each in fields(self) if "live" in each.metadata}
        return replace(self, **usual)

    @property
    def digest(self) -> str:
        """Changes when another program would be started. Without what the environment holds: keys may be renewed."""
        program = json.dumps([self.argv, str(self.cwd or ""), self.url, self.child_era])
        return hashlib.sha256(program.encode()).hexdigest()[:16]
