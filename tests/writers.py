"""Processes that write the same file at the same time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Sequence


def write_at_once(script: str, arguments: Iterable[Sequence[str]]) -> None:
    """Run a script with each of these arguments, let all of them go at once, and see them end well.

    The script reads a line from its standard input before it begins.
    """
    writers = [subprocess.Popen([sys.executable, "-c", script, *each], stdin=subprocess.PIPE) for each in arguments]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
