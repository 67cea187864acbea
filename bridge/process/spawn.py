"""Starting a program: no shell, a session of its own, and plain words when it cannot be started."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from bridge.process.limits import NO_LIMITS, Limits
from bridge.process.sandbox import FREE, Confinement, confined, tools_of
from bridge.process.watchdog import mark_of_child, marked


@dataclass(frozen=True, slots=True)
class Command:
    """What to start: the program and its arguments, its whole environment, its working directory.

    ``fds`` are descriptors that it gets beside its standard streams, under the numbers they have here.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)  # may hold secrets
    cwd: Path | None = None
    fds: tuple[int, ...] = ()
    limits: Limits = NO_LIMITS
    confinement: Confinement = FREE


class SpawnError(Exception):
    """The operating system refused to start the program; the text says why and what to do."""


class Process(Protocol):
    """A program that has been started, whoever is its parent. It leads a session and a process group.

    ``pipes`` are our ends of its stdin, stdout and stderr. ``mark`` is what its environment holds and that of all that
    it has started, and nobody else's; empty where there is no such thing.
    """

    pid: int
    mark: str
    pipes: tuple[IO[bytes], IO[bytes], IO[bytes]]

    @property
    def is_ours(self) -> bool:
        """Whether we are its parent, so that nothing is left of it once it is reaped."""
        ...

    @property
    def keeps_number(self) -> bool:
        """Whether its process id is still its own after its end, because nobody has reaped it."""
        ...

    def wait(self) -> None:
        """Wait for its end, in a thread, where there are no descriptors of processes."""
        ...

    def exit_code(self, tell: Callable[[int | None], None]) -> None:
        """Tell the exit code of a process that has ended, negative for a signal, None when nobody knows it any more."""
        ...

    def reap(self) -> None:
        """Let the system forget a process that has ended."""
        ...


#: Starts a program. Raises :class:`SpawnError`.
Start = Callable[[Command], Awaitable[Process]]


class Spawned:
    """A program whose parent we are."""

    def __init__(self, popen: subprocess.Popen[bytes], mark: str) -> None:
        assert popen.stdin is not None
        assert popen.stdout is not None
        assert popen.stderr is not None
        self.pid = popen.pid
        self.pipes: tuple[IO[bytes], IO[bytes], IO[bytes]] = (popen.stdin, popen.stdout, popen.stderr)
        self.mark = mark
        self.is_ours = self.keeps_number = True
        self._popen = popen

    def wait(self) -> None:
        """Wait for its end. It stays a zombie where the system has a way to look at one."""
        if hasattr(os, "waitid"):
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        else:  # Python before 3.13 on macOS
            self.reap()

    def exit_code(self, tell: Callable[[int | None], None]) -> None:
        """Tell the exit code of a process that has ended."""
        if not hasattr(os, "waitid"):
            tell(self._popen.wait())
            return
        try:
            info = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # whoever has started the bridge lets it ignore SIGCHLD: the system keeps no zombies
            self.reap()
            tell(None)
            return
        assert info is not None
        tell(info.si_status if info.si_code == os.CLD_EXITED else -info.si_status)

    def reap(self) -> None:
        """Let the system forget it."""
        self._popen.wait()
        self.keeps_number = False


async def start_plainly(command: Command) -> Process:
    """Start a program as everyone does. Raises :class:`SpawnError`."""
    return spawn(command)


def spawn(command: Command) -> Spawned:
    """Start a program with pipes on its three standard streams. Raises :class:`SpawnError`.

    ``start_new_session`` makes the child the leader of a session and of a process group, so that signals to the group
    reach what it starts (users' scar 2) and the terminal's Ctrl-C does not. Popen uses vfork here, which costs 0.1 ms
    however large the bridge is.
    """
    argv = command.argv if command.confinement is FREE else _confined(command)
    mark = mark_of_child()
    try:
        popen = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=marked(command.env, mark),
            cwd=command.cwd,
            pass_fds=command.fds,
            start_new_session=True,
            bufsize=0,
        )
    except OSError as error:
        raise SpawnError(_why(command, error)) from None
    except ValueError as error:  # a NUL byte in an argument or in the environment
        raise SpawnError(f"cannot start {command.argv[0]!r}: {error}") from None
    return Spawned(popen, mark)


def program_file(command: Command) -> Path | None:
    """The file that the system would run for a command, None where there is none."""
    program = command.argv[0]
    if "/" in program:  # then nothing is searched for (execvp)
        path = (command.cwd or Path()) / program
        return path if path.exists() else None
    found = shutil.which(program, path=command.env.get("PATH"))
    return None if found is None else Path(found)


def missing_tools(confinement: Confinement, limits: Limits) -> str:
    """Which programs of the system are missing for a confinement, in words; nothing where all are there."""
    for tool in tools_of(confinement, limits.words()):
        if shutil.which(tool) is None:
            package = "bubblewrap" if tool == "bwrap" else "util-linux"
            key = "noNewPrivs" if tool == "setpriv" else "sandbox"
            return f'"{key}" needs the program {tool}, which is not there; install the package {package} (Linux only)'
    return ""


def _confined(command: Command) -> tuple[str, ...]:
    """What is started for a command that is confined. Raises :class:`SpawnError`: it is never started without that."""
    missing = missing_tools(command.confinement, command.limits)
    if missing:
        raise SpawnError(missing)
    cwd = None if command.cwd is None else command.cwd.absolute()
    # What starts it would say these in words of its own.
    if cwd is not None and not cwd.is_dir():
        raise SpawnError(_why(command, FileNotFoundError(errno.ENOENT, "")))
    if program_file(command) is None:
        raise SpawnError(_why(command, FileNotFoundError(errno.ENOENT, "")))
    sandbox = command.confinement.sandbox
    for path in () if sandbox is None else (*sandbox.read, *sandbox.write):
        if not Path(path).exists():
            raise SpawnError(f'"sandbox": {path} does not exist; create it, or take it out')
    limits = () if sandbox is None else command.limits.words()
    return confined(command.argv, cwd, command.confinement, limits)


def whole_line(program: str) -> str:
    """What to do where ``command`` is a program with its arguments; nothing where it is not."""
    return '; "command" is the program only: put the rest into "args"' if len(program.split()) > 1 else ""


def _why(command: Command, error: OSError) -> str:
    program = command.argv[0]
    if command.cwd is not None and not command.cwd.is_dir():
        return f"working directory {str(command.cwd)!r} does not exist"
    if error.errno == errno.ENOENT:
        return f"command {program!r} not found{whole_line(program) or '; install it, or give its full path'}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"command {program!r} may not be executed; check its permissions"
    if error.errno == errno.ENOEXEC:
        return f"command {program!r} is no program: it has neither a known binary format nor a #! line"
    if error.errno in (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE):
        return f"cannot start {program!r} now: {error.strerror}; the machine or the limits of this user are exhausted"
    return f"cannot start {program!r}: {error.strerror}"
