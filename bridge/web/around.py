"""What stands around every face that takes calls."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.children.silence import SilenceWatch
from bridge.children.stream import Stream
from bridge.sessions.core import Core
from bridge.web.calls import Calls
from bridge.web.drain import Drain
from bridge.web.limits import Limits
from bridge.web.nodes import Nodes
from bridge.web.stays import Stays
from bridge.web.variables import ClientVariables


@dataclass(frozen=True, slots=True)
class Around:
    """The bridge below HTTP, and what all faces share: which calls run and may, and how long a stream is silent.

    ``nodes`` is None where the bridge is alone.
    """

    core: Core
    drain: Drain
    limits: Limits
    calls: Calls
    silence: SilenceWatch[Stream]
    stays: Stays
    variables: ClientVariables
    nodes: Nodes | None
