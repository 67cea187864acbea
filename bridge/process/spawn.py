"""Starting a program: no shell, a session of its own, and plain words when it cannot be started."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bridge.process.watchdog import marked


@dataclass(frozen=True, slots=True)
class Command:
    """What to start: the program and its arguments, its whole environment, its working directory."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)  # may hold secrets
    cwd: Path | None = None


class SpawnError(Exception):
    """The operating system refused to start the program; the text says why and what to do."""


def spawn(command: Command) -> subprocess.Popen[bytes]:
    """Start a program with pipes on its three standard streams. Raises :class:`SpawnError`.

    ``start_new_session`` makes the child the leader of a session and of a process group, so that signals to the group
    reach what it starts (users' scar 2) and the terminal's Ctrl-C does not. Popen uses vfork here, which costs 0.1 ms
    however large the bridge is.
    """
    try:
        return subprocess.Popen(
            command.argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=marked(command.env),
            cwd=command.cwd,
            start_new_session=True,
            bufsize=0,
        )
    except OSError as error:
        raise SpawnError(_why(command, error)) from None
    except ValueError as error:  # a NUL byte in an argument or in the environment
        raise SpawnError(f"cannot start {command.argv[0]!r}: {error}") from None


def _why(command: Command, error: OSError) -> str:
    program = command.argv[0]
    if command.cwd is not None and not command.cwd.is_dir():
        return f"working directory {str(command.cwd)!r} does not exist"
    if error.errno == errno.ENOENT:
        return f"command {program!r} not found; install it, or give its full path"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"command {program!r} may not be executed; check its permissions"
    if error.errno == errno.ENOEXEC:
        return f"command {program!r} is no program: it has neither a known binary format nor a #! line"
    if error.errno in (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE):
        return f"cannot start {program!r} now: {error.strerror}; the machine or the limits of this user are exhausted"
    return f"cannot start {program!r}: {error.strerror}"
