"""Limits of one child process, set by the system's own means (``prlimit``) right after its start; it passes them on."""

from __future__ import annotations

import contextlib
import resource
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What a child may use; None for no limit of ours.

    ``memory_bytes`` counts what it writes to, not address space, which V8 reserves by the gigabyte. ``processes``
    counts all processes of the user, as the system does, and root is exempt.
    """

    memory_bytes: int | None = None
    cpu_seconds: int | None = None
    open_files: int | None = None
    processes: int | None = None

    def words(self) -> tuple[str, ...]:
        """The same as arguments of the program ``prlimit``."""
        return tuple(
            f"--{name}={most if hard == resource.RLIM_INFINITY else min(most, hard)}"
            for name, what, most in (
                ("data", resource.RLIMIT_DATA, self.memory_bytes),
                ("cpu", resource.RLIMIT_CPU, self.cpu_seconds),
                ("nofile", resource.RLIMIT_NOFILE, self.open_files),
                ("nproc", resource.RLIMIT_NPROC, self.processes),
            )
            if most is not None
            for hard in (resource.getrlimit(what)[1],)
        )

    def impossible(self) -> str:
        """Why they cannot be set on any process here, in words; nothing where they can."""
        if self == NO_LIMITS or hasattr(resource, "prlimit"):
            return ""
        return '"limits" need Linux, and cannot be set on this system; take them out'

    def apply(self, pid: int) -> None:
        """Set them on a process that has just been started. Raises :class:`OSError`, for one with more rights."""
        for what, most in (
            (resource.RLIMIT_DATA, self.memory_bytes),
            (resource.RLIMIT_CPU, self.cpu_seconds),
            (resource.RLIMIT_NOFILE, self.open_files),
            (resource.RLIMIT_NPROC, self.processes),
        ):
            if most is not None:
                _limit(pid, what, most)


NO_LIMITS = Limits()


def _limit(pid: int, what: int, most: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended already
        _, hard = resource.prlimit(pid, what)
        if hard != resource.RLIM_INFINITY:
            most = min(most, hard)
        resource.prlimit(pid, what, (most, most))
