"""How close this process is to its limits: memory of the control group or the machine, file descriptors."""

from __future__ import annotations

import contextlib
import resource
from dataclasses import dataclass
from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")
_DESCRIPTORS = Path("/proc/self/fd")
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Reading:
    """How much of one resource is in use: ``share`` from 0 to 1, and the same in words."""

    share: float
    text: str


def memory(cgroup: Path = CGROUP) -> Reading:
    """Memory that cannot be given back, against the limit of the control group, or of the machine without one."""
    machine = psutil.virtual_memory()
    with contextlib.suppress(OSError, ValueError):
        limit = int((cgroup / "memory.max").read_text())  # "max" where there is no limit
        used = int((cgroup / "memory.current").read_text())
        for line in (cgroup / "memory.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "inactive_file":  # cache that goes first
                used -= int(value)
        if limit < machine.total:
            return Reading(used / limit, f"{used // MIB} of {limit // MIB} MiB of memory")
    used = machine.total - machine.available
    return Reading(used / machine.total, f"{used // MIB} of {machine.total // MIB} MiB of memory")


def descriptors(folder: Path = _DESCRIPTORS) -> Reading:
    """Open file descriptors of this process, against its limit."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        used = sum(1 for _ in folder.iterdir())
    except OSError:  # not on this system: nothing is known to be near its end
        return Reading(0.0, "an unknown number of file descriptors")
    if limit == resource.RLIM_INFINITY:
        return Reading(0.0, f"{used} file descriptors")
    return Reading(used / limit, f"{used} of {limit} file descriptors")
