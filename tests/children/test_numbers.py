"""The ids under which children ask clients."""

from __future__ import annotations

import subprocess
import sys


def test_no_bridge_asks_under_the_numbers_of_the_one_before_it() -> None:
    program = "from bridge.children.connection import question_numbers; print(next(question_numbers))"
    first, second = (
        int(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout) for _ in range(2)
    )
    assert first + 1000 < second < 2**53, "which a client in JavaScript can still count to"
