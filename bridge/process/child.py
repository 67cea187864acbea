"""One child process on the event loop: start it, see its exit, take the stop ladder.

The exit is seen by a pidfd and not by end-of-file, because a grandchild may hold the pipe open for ever (users' scar
8); end-of-file on a living child counts as its end too. The dead child is left a zombie until its group has been
killed: as long as it is one, the kernel gives its number to nobody else, so the signal cannot hit a stranger. Where the
kernel signals groups by a pidfd, no number is needed, and the child is reaped first to see whether anyone is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable

from bridge.process.pipes import Pipe
from bridge.process.spawn import Command, Process, SpawnError, Start, start_plainly
from bridge.process.stderr import Stderr
from bridge.process.stdin import Stdin
from bridge.process.stdout import LineHandler, Stdout
from bridge.process.tree import ProcessGroup, ProcessTree, may_have_children, open_pidfd
from bridge.protocol.transport import LAST_WORDS

#: Characters of the last words that an error repeats.
SHOWN = 200
#: Seconds for what a dead child still has in the pipe, when something else holds that pipe open.
EXIT_DRAIN = 0.25
#: Seconds for what a living child still says that has closed its stdin: it cannot be asked anything any more.
DEAF_DRAIN = 1.0
#: Most seconds that what a child leaves behind gets to end, and then to be gone when it has been killed.
LEFTOVERS = 1.0


class ChildProcess:
    """The life of one child. ``limit`` is the longest line of its stdout in bytes.

    ``on_line`` gets each line of stdout, ``on_stderr`` each line of stderr, ``on_end`` is called once, when nothing
    more will come: after the exit, or when a child that lives on has closed its stdout or its stdin. ``start`` is how
    the program is started; ``on_up`` is called with the first line of stdout, when it has obviously done so.
    """

    def __init__(
        self,
        command: Command,
        *,
        limit: int,
        on_line: LineHandler,
        on_stderr: Callable[[bytes], None],
        on_end: Callable[[], None],
        start: Start = start_plainly,
        on_up: Callable[[], None] = lambda: None,
    ) -> None:
        self._command = command
        self._start = start
        self._on_end = on_end
        self._ended = False
        self._process: Process | None = None
        self._pidfd: int | None = None
        self._loop = loop = asyncio.get_running_loop()
        self._stdin = Stdin(loop, self._stdin_ended)
        self._stdout = Stdout(loop, limit, on_up, on_line, self._pipe_ended)
        self._stderr = Stderr(loop, on_stderr, self._pipe_ended)
        #: Send one line. Raises :class:`bridge.protocol.transport.Stalled` when the child has not read for too long.
        self.write = self._stdin.write
        self._readers: list[asyncio.ReadTransport] = []
        self._pipes: list[Pipe] = []
        self._drain: asyncio.TimerHandle | None = None
        self._asked_to_end = False
        self._is_deaf = False
        self.exited: asyncio.Future[int | None] = loop.create_future()

    @property
    def pid(self) -> int | None:
        """Process id, None before :meth:`start`."""
        return None if self._process is None else self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit code, negative for a signal, None while it runs and when nobody knows it any more."""
        return self.exited.result() if self.exited.done() else None

    @property
    def obituary(self) -> str:
        """How it ended, in words: its exit, and the last it said on stderr, unless it was asked to end."""
        code = self.returncode
        if code is None:
            closed = "it closed its input" if self._is_deaf else "it closed its output"
            how = "it ended, with an exit code that is not known" if self.exited.done() else closed
        elif code < 0:
            how = f"it was killed by signal {-code}"
        else:
            how = f"it exited with code {code}"
        last = "" if self._asked_to_end else self._stderr.last_line
        return f"{how}{LAST_WORDS}{last[:SHOWN]}" if last else how

    @property
    def last_words(self) -> str:
        """The last lines of its stderr, in one line."""
        return " | ".join(self._stderr.words)

    @property
    def stderr_at(self) -> float:
        """Loop time at which it last wrote to stderr, 0 for never."""
        return self._stderr.heard_at

    async def start(self) -> None:
        """Start the program and attach its pipes. Raises :class:`bridge.process.spawn.SpawnError`."""
        if why := self._command.limits.impossible():
            raise SpawnError(why)
        process = self._process = await self._start(self._command)
        self._watch_exit(process)  # before anything can fail: stop() waits for it
        try:
            self._command.limits.apply(process.pid)
        except OSError as error:
            self.kill()
            program = self._command.argv[0]
            why = f"{error.strerror}; does it run with more rights than the bridge?"
            raise SpawnError(f'"limits" cannot be set on {program!r}: {why}') from None
        loop = self._loop
        for file in process.pipes:
            self._pipes.append(Pipe(file, loop))
        stdin, stdout, stderr = self._pipes
        stdin.attached()
        self._stdin.attach((await loop.connect_write_pipe(lambda: self._stdin, stdin))[0])
        stdout.attached()
        self._readers.append((await loop.connect_read_pipe(lambda: self._stdout, stdout))[0])
        stderr.attached()
        self._readers.append((await loop.connect_read_pipe(lambda: self._stderr, stderr))[0])

    def close_stdin(self) -> None:
        """End-of-file: the polite way to ask a stdio server to end (specification, stdio shutdown)."""
        self._asked_to_end = self._asked_to_end or not self.exited.done()
        self._stdin.close()

    async def stop(self, patience: float) -> None:
        """End the child and everything it started: ask, wait, insist.

        End-of-file, ``patience`` seconds, SIGTERM to the group, ``patience`` seconds, SIGKILL to the whole tree. What
        the child leaves behind in its group, or had started outside of it, is ended too; of one that was forked and has
        ended by itself only what is in its group.
        """
        if self._process is None:
            return
        tree = ProcessTree(self._process.pid)
        if self.exited.done():
            if self._process.mark:
                await self._loop.run_in_executor(None, tree.look_for, self._process.mark)
        elif may_have_children(self._process.pid):
            await self._loop.run_in_executor(None, tree.look)
        self.close_stdin()
        if not await self._exits_within(patience):
            self._signal_group(signal.SIGTERM)
            tree.signal(signal.SIGTERM)
            if not await self._exits_within(patience):
                self._signal_group(signal.SIGKILL)
        if not (tree.is_empty and self._was_the_last()):
            await self._end_leftovers(tree, patience)
            await asyncio.wait([self.exited])
        self._release()

    def kill(self) -> None:
        """SIGKILL to the group, now: for a bridge that has no time left."""
        if self._process is not None and not self.exited.done():
            self._asked_to_end = True
            self._signal_group(signal.SIGKILL)

    def _was_the_last(self) -> bool:
        """Reap the child and tell whether nobody is left of its group; False as well where the kernel cannot tell."""
        assert self._process is not None
        if self._pidfd is None or not self.exited.done() or not self._process.is_ours:
            return False
        group = ProcessGroup(self._pidfd)
        try:
            group.signal(0)  # as long as its number is kept, which all else needs that can be done about its group
            self._process.reap()
            return not group.signal(0)
        except OSError:
            return False

    async def _end_leftovers(self, tree: ProcessTree, patience: float) -> None:
        if await self._loop.run_in_executor(None, tree.refresh):
            self._signal_group(signal.SIGTERM)
            tree.signal(signal.SIGTERM)
            await self._loop.run_in_executor(None, tree.wait, min(patience, LEFTOVERS))
            tree.signal(signal.SIGKILL)
            self._signal_group(signal.SIGKILL)
            await self._loop.run_in_executor(None, tree.wait, LEFTOVERS)
        self._signal_group(signal.SIGKILL)

    async def _exits_within(self, seconds: float) -> bool:
        done, _ = await asyncio.wait([self.exited], timeout=seconds)
        return bool(done)

    def _signal_group(self, number: int) -> None:
        assert self._process is not None
        with contextlib.suppress(OSError):
            if not self.exited.done() or self._process.keeps_number:
                os.killpg(self._process.pid, number)
            elif self._pidfd is not None:
                ProcessGroup(self._pidfd).signal(number)

    def _release(self) -> None:
        """Reap the zombie and close our ends of the pipes."""
        assert self._process is not None
        self._process.reap()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
        self._end()
        for transport in self._readers:
            transport.close()
        self._stdin.abort()
        for pipe in self._pipes:
            pipe.close_unless_attached()
        for file in self._process.pipes:  # those that a start which has failed has not got to
            file.close()

    def _watch_exit(self, process: Process) -> None:
        loop = self._loop
        try:
            fd = self._pidfd = open_pidfd(process.pid)
        except ProcessLookupError:  # its parent is gone, and so is what it might have told
            loop.call_soon(process.exit_code, self._exit_seen)
            return
        if fd is None:

            def wait() -> None:
                process.wait()
                with contextlib.suppress(RuntimeError):  # the loop may have ended before the child
                    loop.call_soon_threadsafe(process.exit_code, self._exit_seen)

            threading.Thread(target=wait, name=f"wait-{process.pid}", daemon=True).start()
            return

        def readable() -> None:
            loop.remove_reader(fd)
            process.exit_code(self._exit_seen)

        loop.add_reader(fd, readable)

    def _exit_seen(self, code: int | None) -> None:
        self.exited.set_result(code)
        # What the child wrote last is still in the pipes: end-of-file comes behind it, unless something holds them.
        if not (self._stdout.is_open or self._stderr.is_open):
            self._end()
        else:
            self._end_within(EXIT_DRAIN)

    def _stdin_ended(self) -> None:
        """The pipe to the child is closed. What it has read it may still answer, but not for long: if it was not asked
        to end, somebody may wait for an answer to what it will never read.
        """
        if not self._asked_to_end and not self.exited.done():
            self._is_deaf = True
            self._end_within(DEAF_DRAIN)

    def _pipe_ended(self) -> None:
        if self._stdout.is_open:
            return
        if self.exited.done() and not self._stderr.is_open:
            self._end()
        else:  # the exit code and the last words of a child that ends normally come a moment after its end-of-file
            self._end_within(EXIT_DRAIN)

    def _end_within(self, seconds: float) -> None:
        if self._ended:
            return
        when = self._loop.time() + seconds
        if self._drain is not None:
            if self._drain.when() <= when:
                return
            self._drain.cancel()
        self._drain = self._loop.call_at(when, self._end)

    def _end(self) -> None:
        if self._ended:
            return
        self._stdout.take_all()
        self._ended = True
        if self._drain is not None:
            self._drain.cancel()
        self._on_end()
