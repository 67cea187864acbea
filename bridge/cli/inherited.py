"""What a bridge does because it takes over from another: it reads what it inherits, and waits for a word to listen."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from bridge.cli.errors import CommandError
from bridge.cluster.hosting import HEIR, Inheritance, inheritance_from
from bridge.cluster.side import Side
from bridge.config.errors import ConfigError
from bridge.config.settings import Settings
from bridge.version import __version__


def given(variable: str) -> dict[str, Any] | None:
    """Return what this process is given by the bridge that has started it, which says by this variable that it does;
    None where none has. Asks once: children do not inherit it. Raises :class:`CommandError` when that bridge has ended.
    """
    if os.environ.pop(variable, None) is None:
        return None
    line = sys.stdin.buffer.readline()
    if not line:
        raise CommandError("the bridge that has started this process has ended")
    members: dict[str, Any] = json.loads(line)
    return members


def inheritance() -> Inheritance | None:
    """Return what this process inherits; None when it is nobody's heir. Raises what :func:`given` raises."""
    members = given(HEIR)
    if members is None:
        return None
    found = inheritance_from(members)
    for descriptor in (*found.listening, found.stderr, found.waiter):
        if descriptor >= 0:
            os.set_inheritable(descriptor, False)
    return found


def check(settings: Settings, inherited: Inheritance) -> None:
    """Raise :class:`ConfigError` where the sockets that are inherited are not those that are wanted."""
    for name, is_now, was in (("HOST", settings.host, inherited.host), ("PORT", settings.port, inherited.port)):
        if is_now != was:
            raise ConfigError(
                f"{name}: is {is_now}, and the bridge that is restarted listens on {was}; a changed {name} needs a "
                "real restart: stop the bridge and start it again"
            )
    if settings.cluster is not None:
        raise ConfigError("CLUSTER: nodes are restarted one after the other, and not in place: stop and start this one")


async def take_over(inherited: Inheritance, own: Side) -> Sequence[str]:
    """Say that this bridge is ready, and return when it may listen: on a word, or when the other one has died. Return
    the servers that are stopped by then.
    """
    said = json.dumps({"side": asdict(own), "version": __version__}).encode() + b"\n"
    with contextlib.suppress(OSError):
        os.write(sys.stdout.fileno(), said)
    line = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.readline)
    os.dup2(inherited.stderr, sys.stderr.fileno())
    os.close(inherited.stderr)
    stopped: list[str] = json.loads(line) if line else list(inherited.stopped)
    return stopped
