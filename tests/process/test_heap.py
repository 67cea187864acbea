"""Freed memory stays with the process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

ROUND = """
import resource, sys
from bridge.process.memory import keep_heap
if sys.argv[1] == "keep":
    assert keep_heap()
def message():
    return [b"x" * 1_000_000 + bytes(1) for _ in range(6)]
for _ in range(3):
    message()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    message()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_large_messages_fault_no_pages_in_again() -> None:
    def faults(how: str) -> int:
        return int(subprocess.check_output([sys.executable, "-c", ROUND, how], timeout=60))

    assert faults("keep") < faults("give back") / 10
