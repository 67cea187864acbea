"""A bridge that takes over from this one: starting it, and what the two say to each other.

It is the same command line again, so that code, settings and servers are read anew. It gets the sockets of the port and
one line of JSON (:class:`Inheritance`), says on its standard output that it is ready, and listens when it is told to.
What it writes to stderr until then comes through here, because the last of it is why it could not start.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from bridge.cluster.hosting import HEIR, Inheritance
from bridge.cluster.side import Side
from bridge.protocol.errors import Fault, Rejection

#: Seconds in which it has to be ready.
PATIENCE = 60.0
#: Lines of its stderr that are remembered, and seconds for the last of them to come.
LINES, LAST_LINES = 20, 5.0
#: Begins the line that says why a verb ends.
_SAID = "mcp-bridge: "


class Heir:
    """The process. ``side`` and ``version`` are known once it is ready."""

    def __init__(self, arguments: Sequence[str], environ: Mapping[str, str], inheritance: Inheritance) -> None:
        waiter = [] if inheritance.waiter < 0 else [inheritance.waiter]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bridge", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(*inheritance.listening, inheritance.stderr, *waiter),
            env={**environ, HEIR: "1"},
            start_new_session=True,  # a terminal's Ctrl-C is for the first process, which passes it on
        )
        self._line = json.dumps(dataclasses.asdict(inheritance)).encode() + b"\n"
        self._last: deque[str] = deque(maxlen=LINES)
        self._copying = threading.Thread(target=self._copy, daemon=True)
        self.pid = self._process.pid
        self.side = Side("", "")
        self.version = ""

    async def ready(self) -> None:
        """Wait until it is. Raises :class:`Rejection` with its own words when it is not; then it has ended."""
        self._copying.start()
        loop = asyncio.get_running_loop()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):  # its end says more
                self._process.stdin.write(self._line)
                self._process.stdin.flush()
            async with asyncio.timeout(PATIENCE):
                line = await loop.run_in_executor(None, self._process.stdout.readline)
            found: dict[str, Any] = json.loads(line)
        except TimeoutError:
            self.kill()
            raise Rejection(Fault.INTERNAL, f"the new bridge was not ready after {PATIENCE:g} s; {_STAYS}") from None
        except ValueError:
            await loop.run_in_executor(None, self._end)
            raise self._refusal() from None
        except BaseException:
            self.kill()
            raise
        self.side, self.version = Side(**found["side"]), found["version"]

    def go(self, stopped: Sequence[str]) -> None:
        """Have it listen, and keep what is ``stopped`` by now as it is."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(stopped).encode() + b"\n")
            self._process.stdin.flush()

    @property
    def code(self) -> int | None:
        """What it has ended with, None while it lives."""
        return self._process.poll()

    def pass_on(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()

    def _copy(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._last.append(line.decode(errors="replace").rstrip())
            with contextlib.suppress(OSError):
                os.write(sys.stderr.fileno(), line)

    def _end(self) -> None:
        """It has said nothing that could be read, so it ends, or has to."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(LAST_LINES)
        self.kill()
        self._copying.join(LAST_LINES)

    def _refusal(self) -> Rejection:
        lines = [line for line in self._last if line]
        said = [line.removeprefix(_SAID) for line in lines if line.startswith(_SAID)]
        if said and self.code == 2:  # its configuration
            return Rejection(Fault.CONFLICT, f"the new bridge refuses: {said[-1]}; {_STAYS}")
        why = (said or lines or [f"exit code {self.code}"])[-1]
        return Rejection(Fault.INTERNAL, f"the new bridge could not start: {why}; {_STAYS}")


_STAYS = "this one goes on"
