"""Drives a server with the load generator and says what was seen.

A *script* is the list of requests that one connection sends again and again, one at a time. Ids, sessions, checks and
what is timed are described in ``load.c``.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.programs import program

Script = list[bytes]

#: Seconds that a call may take before the run is given up.
PATIENCE = 60.0


class LoadError(Exception):
    """The server gave a wrong answer, or none."""


@dataclass(frozen=True)
class Load:
    """What one run saw: completed ways through a script in ``seconds``, and how long they took in milliseconds.

    ``cpu`` is the processor time in seconds that the load generator itself has used meanwhile.
    """

    calls: int
    seconds: float
    cpu: float
    p50: float
    p99: float
    worst: float

    @property
    def rate(self) -> float:
        """Calls per second."""
        return self.calls / self.seconds


class Running:
    """A load generator at work."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def wait_counting(self) -> None:
        """Return when the warm-up is over."""
        self._line()

    def stop(self) -> None:
        """End it before its time; what it has seen stands."""
        self._process.terminate()

    def result(self) -> Load:
        """Wait for its end. Raises :class:`LoadError` with the first wrong answer."""
        return Load(**json.loads(self._line()))

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return line
        assert self._process.stderr is not None
        self._process.wait()
        raise LoadError(self._process.stderr.read().strip()[-500:] or f"no answer within {PATIENCE:g} s")


@contextlib.contextmanager
def running(
    port: int,
    scripts: Sequence[Script],
    *,
    seconds: float,
    warmup: float = 0.0,
    interval: float = 0.0,
    least: int = 0,
) -> Iterator[Running]:
    """Run the load generator for the length of the block, at most ``seconds`` behind its ``warmup``.

    ``interval`` is the time in seconds between two beginnings, on whichever connection is free, 0 for as fast as it
    goes; ``least`` is the size in bytes that a body must have.
    """
    with tempfile.NamedTemporaryFile() as plan:
        plan.write(f"{port} {seconds} {warmup} {interval} {least}\n".encode())
        for script in scripts:
            plan.write(b"connection %d\n" % len(script))
            plan.writelines(b"request %d\n%b\n" % (len(request), request) for request in script)
        plan.flush()
        process = subprocess.Popen(
            [*program("load"), plan.name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
        )
        enough = threading.Timer(warmup + seconds + PATIENCE, process.kill)
        enough.start()
        try:
            yield Running(process)
        finally:
            enough.cancel()
            process.terminate()  # it still waits for the answers that are under way
            process.communicate()


def load(port: int, scripts: Sequence[Script], *, seconds: float, warmup: float = 0.0, least: int = 0) -> Load:
    """Run the load generator to its end."""
    with running(port, scripts, seconds=seconds, warmup=warmup, least=least) as run:
        run.wait_counting()
        return run.result()
