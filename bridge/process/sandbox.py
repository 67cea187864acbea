"""What stands before a program's own arguments when it may not do everything that we may.

The means are programs of the system, because Python could only do it between fork and exec, which would cost the cheap
start: ``bwrap`` (bubblewrap) for a sandbox, ``setpriv`` for no new privileges, ``prlimit`` for limits that must hold
before the sandbox forks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

#: Hidden behind empty directories: other users' files, and sockets that would lead out, such as that of Docker.
HIDDEN = ("/tmp", "/run")  # noqa: S108 - they are hidden, not used
#: Where the names of servers of the network come from, where it may be used and they lie in a hidden place.
NAMES = ("/run/systemd/resolve", "/run/resolvconf")


@dataclass(frozen=True, slots=True)
class Sandbox:
    """``read``: what a program sees; ``write``: what of it it may change; ``network``: whether it has one.

    It sees no other processes, has a ``/tmp`` of its own, and gets no new privileges.
    """

    read: tuple[str, ...] = ("/",)
    write: tuple[str, ...] = ()
    network: bool = False


@dataclass(frozen=True, slots=True)
class Confinement:
    """What a program may not: see :class:`Sandbox`; ``no_new_privs``: no set-user-id program gives it more rights."""

    sandbox: Sandbox | None = None
    no_new_privs: bool = False


FREE = Confinement()


def tools_of(confinement: Confinement, limits: Sequence[str]) -> tuple[str, ...]:
    """The programs that :func:`confined` needs."""
    if confinement.sandbox is None:
        return ("setpriv",) if confinement.no_new_privs else ()
    return ("prlimit", "bwrap") if limits else ("bwrap",)


def confined(
    argv: Sequence[str], cwd: Path | None, confinement: Confinement, limits: Sequence[str] = ()
) -> tuple[str, ...]:
    """Return what is started in place of a program. ``limits`` are arguments for ``prlimit``; ``cwd`` is absolute."""
    sandbox = confinement.sandbox
    if sandbox is None:
        return ("setpriv", "--no-new-privs", "--", *argv) if confinement.no_new_privs else tuple(argv)
    before = ("prlimit", *limits) if limits else ()
    return (*before, "bwrap", *_ISOLATED, *_view(sandbox, cwd), "--", *argv)


#: It ends with its parent, which ends with the bridge; without ``--new-session``, which would take it out of the group
#: that is signalled, and is for programs with a terminal. Without capabilities: where the bridge runs as root it would
#: have all of root's, and could mount anew what it may not change.
_ISOLATED = (
    *("--die-with-parent", "--cap-drop", "ALL"),
    *("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
)


def _view(sandbox: Sandbox, cwd: Path | None) -> list[str]:
    """What it sees: later mounts cover earlier ones, so the order counts."""
    words = [] if sandbox.network else ["--unshare-net"]
    everything = "/" in sandbox.read
    if everything:
        words += ["--ro-bind", "/", "/"]
    words += ["--dev", "/dev", "--proc", "/proc"]
    for path in HIDDEN:
        words += ["--tmpfs", path]
    if everything and sandbox.network:
        for path in NAMES:
            words += ["--ro-bind-try", path, path]
    seen = [path for path in sandbox.read if path != "/"]
    if cwd is not None:
        seen.append(str(cwd))
    for path in seen:
        words += ["--ro-bind", path, path]
    for path in sandbox.write:
        words += ["--bind", path, path]
    words += ["--setenv", "TMPDIR", "/tmp"]  # noqa: S108 - its own one
    return words if cwd is None else [*words, "--chdir", str(cwd)]
