"""The bridge's side of a zygote: a process that has imported what a server needs, and forks the server's children.

What runs in it is :mod:`bridge.process.foreign.zygote`, under the server's own Python. It is the parent of its
children: it keeps them as zombies until the bridge has signalled their groups, and knows their exit codes. A child has
pipes of its own to the bridge, so it outlives a zygote that dies; only its exit code is lost then.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import itertools
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import IO

from bridge.process.child import ChildProcess
from bridge.process.limits import NO_LIMITS
from bridge.process.program import python_program
from bridge.process.python import NotPython
from bridge.process.spawn import Command, Process, SpawnError, spawn
from bridge.process.tree import open_pidfd, wait_by_looking
from bridge.protocol.framing import Oversized

#: What the zygote runs.
PROGRAM = Path(__file__).with_name("foreign") / "zygote.py"
#: Seconds for a fork, which takes milliseconds; one that takes longer is stuck in a hook of a module.
FORK_PATIENCE = 10.0
#: Seconds for a zygote to tell an exit code, which takes microseconds, unless the machine stands still.
STATUS_PATIENCE = 5.0
#: Children that may be asked for at once: their descriptors are on the way, of which the system allows so many.
FORKS = 16
#: Longest message of a zygote, in bytes, and longest line that its modules may print.
_MESSAGE = 4096


class ZygoteError(Exception):
    """There is no zygote for this command, or no child of it; the text says why."""


class Zygote:
    """One zygote. ``modules`` are imported, or if there are none, what the program imports before anything else.

    ``on_print`` gets the lines that it prints, on stdout or stderr, while it imports.
    """

    def __init__(self, command: Command, modules: Sequence[str], on_print: Callable[[bytes], None]) -> None:
        self._command = command
        self._modules = modules
        self._on_print = on_print
        self._loop = asyncio.get_running_loop()
        self._answers: deque[asyncio.Future[str]] = deque()
        self._forks = asyncio.Semaphore(FORKS)
        self._bridge: socket.socket | None = None
        self._process: ChildProcess | None = None
        self.ended = asyncio.Event()
        self.pid = 0
        self.imported = 0
        self.seconds = 0.0

    @property
    def lives(self) -> bool:
        """Whether it can be asked."""
        return self._bridge is not None

    @property
    def obituary(self) -> str:
        """How it ended, in words."""
        return "it was not started" if self._process is None else self._process.obituary

    async def start(self, patience: float) -> None:
        """Start it and wait until it has imported everything, at most ``patience`` seconds. Raises ZygoteError."""
        if (pidfd := open_pidfd(os.getpid())) is None:
            raise ZygoteError("the exit of what is no child of ours can be seen on Linux only, by pidfd_open")
        os.close(pidfd)
        begun = time.monotonic()
        try:
            async with asyncio.timeout(patience):
                word, _, rest = (await self._begin()).partition(" ")
        except (NotPython, SpawnError) as error:
            raise ZygoteError(str(error)) from None
        except TimeoutError:
            raise ZygoteError(f"its imports took more than {patience:g} s") from None
        if word != "ready":
            raise ZygoteError(rest)
        self.pid, self.imported = map(int, rest.split())
        self.seconds = time.monotonic() - begun

    async def fork(self) -> Forked:
        """Return a new child. Raises :class:`ZygoteError`."""
        async with self._forks:
            return await self._fork()

    def tell_exit_code(self, pid: int, tell: Callable[[int | None], None]) -> None:
        """Tell how a child has ended, None when it is not known."""

        def told(answer: asyncio.Future[str]) -> None:
            timer.cancel()
            known = not answer.cancelled() and answer.exception() is None
            word, _, code = (answer.result() if known else "").partition(" ")
            tell(int(code) if word == "exited" else None)

        try:
            answer = self._ask(f"status {pid}")
        except ZygoteError:
            tell(None)
            return
        timer = self._loop.call_later(STATUS_PATIENCE, answer.cancel)
        answer.add_done_callback(told)

    def reap(self, pid: int) -> None:
        """Let the system forget a child that has ended."""
        with contextlib.suppress(ZygoteError):
            self._send(f"reap {pid}")

    async def kill(self) -> None:
        """End the zygote, and none of its children."""
        if self._process is not None:
            self._process.kill()
            await asyncio.wait([self._process.exited])

    async def stop(self, patience: float) -> None:
        """End the zygote, with its children; afterwards nothing of it is left."""
        self._hang_up()
        if self._process is not None:
            # As long as it imports it hears nothing, and has no children that it would have to end.
            await self._process.stop(patience if self.pid else 0)
        self._gone()

    async def _fork(self) -> Forked:
        ours, theirs = _pipes()
        answer = None
        try:
            answer = self._ask("fork", theirs)
            async with asyncio.timeout(FORK_PATIENCE):
                word, _, rest = (await asyncio.shield(answer)).partition(" ")
            if word != "forked":
                raise ZygoteError(rest)
        except BaseException as error:
            for pipe in ours:
                pipe.close()
            if answer is not None:  # nobody waits any more for what may still come
                answer.add_done_callback(self._discard)
            if isinstance(error, TimeoutError):
                await self.kill()
                raise ZygoteError(f"it did not fork within {FORK_PATIENCE:g} s") from None
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        return Forked(self, int(rest), ours)

    async def _begin(self) -> str:
        """Start the process; return the first that it says."""
        self._bridge, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._bridge.setblocking(False)
            program = python_program(self._command)
            number = theirs.fileno()
            modules = ",".join(self._modules) or "-"
            argv = (*program.interpreter, str(PROGRAM), str(number), modules, *program.run)
            self._process = ChildProcess(
                replace(self._command, argv=argv, fds=(number,), limits=NO_LIMITS),
                limit=_MESSAGE,
                start=_start_unmarked,
                on_line=self._printed,
                on_stderr=self._on_print,
                on_end=self._gone,
            )
            await self._process.start()
        self._process.close_stdin()
        self._loop.add_reader(self._bridge.fileno(), self._hear)
        answer = self._expect()
        return await answer

    def _printed(self, line: bytes | Oversized) -> None:
        self._on_print(line if isinstance(line, bytes) else line.head)

    def _ask(self, request: str, fds: Sequence[int] = ()) -> asyncio.Future[str]:
        self._send(request, fds)
        return self._expect()

    def _expect(self) -> asyncio.Future[str]:
        """The zygote answers in the order of what it is asked."""
        answer: asyncio.Future[str] = self._loop.create_future()
        self._answers.append(answer)
        return answer

    def _send(self, request: str, fds: Sequence[int] = ()) -> None:
        if self._bridge is None:
            raise ZygoteError(self.obituary)
        try:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            self._bridge.sendmsg([request.encode()], rights)
        except OSError as error:  # it has ended, or reads nothing
            raise ZygoteError(f"it cannot be asked: {error.strerror}") from None

    def _hear(self) -> bool:
        """Take one message; tell whether there was any. End-of-file means that it is ending, or good for nothing."""
        message = self._receive()
        if message == b"":
            assert self._process is not None
            self._hang_up()
            self._process.kill()
        elif message is not None and self._answers and not (answer := self._answers.popleft()).done():
            answer.set_result(message.decode(errors="replace"))
        return bool(message)

    def _receive(self) -> bytes | None:
        """Return a message, nothing at end-of-file, None as long as there is none."""
        assert self._bridge is not None
        try:
            return self._bridge.recv(_MESSAGE)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def _hang_up(self) -> None:
        if self._bridge is not None:
            self._loop.remove_reader(self._bridge.fileno())
            self._bridge.close()
            self._bridge = None

    def _gone(self) -> None:
        """The process has ended. What it said last may still be in the socket."""
        while self._bridge is not None and self._hear():
            pass
        self._hang_up()
        while self._answers:
            answer = self._answers.popleft()
            if not answer.done():
                answer.set_exception(ZygoteError(self.obituary))
        self.ended.set()

    def _discard(self, answer: asyncio.Future[str]) -> None:
        """End a child that nobody wants."""
        if answer.cancelled() or answer.exception() is not None:
            return
        word, _, pid = answer.result().partition(" ")
        if word == "forked":
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(pid), signal.SIGKILL)
            self.reap(int(pid))


class Forked:
    """A child of a zygote."""

    is_ours = False
    mark = ""

    def __init__(self, zygote: Zygote, pid: int, pipes: tuple[IO[bytes], IO[bytes], IO[bytes]]) -> None:
        self.pid = pid
        self.pipes = pipes
        self._zygote = zygote
        self._reaped = False

    @property
    def keeps_number(self) -> bool:
        """Whether its zygote still keeps it as a zombie. When that dies, whoever inherits its children reaps them."""
        return not self._reaped and self._zygote.lives

    def wait(self) -> None:
        """Wait for its end, by looking: it is no child of ours, and there is no descriptor that would tell."""
        wait_by_looking(self.pid)

    def exit_code(self, tell: Callable[[int | None], None]) -> None:
        """Ask the zygote."""
        self._zygote.tell_exit_code(self.pid, tell)

    def reap(self) -> None:
        """Let the system forget it."""
        self._reaped = True
        self._zygote.reap(self.pid)


async def _start_unmarked(command: Command) -> Process:
    """Start a zygote. Its mark is that of its children too, who go on without it."""
    process = spawn(command)
    process.mark = ""
    return process


def _pipes() -> tuple[tuple[IO[bytes], IO[bytes], IO[bytes]], tuple[int, int, int]]:
    """Return our ends of three pipes, and the child's. Raises :class:`ZygoteError`."""
    made: list[tuple[int, int]] = []
    try:
        for _ in range(3):
            made.append(os.pipe())
    except OSError as error:
        for fd in itertools.chain(*made):
            os.close(fd)
        raise ZygoteError(f"there are no pipes for its child: {error.strerror}") from None
    stdin, stdout, stderr = made
    ours = (FileIO(stdin[1], "w"), FileIO(stdout[0], "r"), FileIO(stderr[0], "r"))
    return ours, (stdin[0], stdout[1], stderr[1])
