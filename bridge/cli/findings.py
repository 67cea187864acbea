"""What a look at something has found, and how to repair it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from bridge.cli.table import text

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """``about``: a server, or ``bridge``. ``fix`` is empty where nothing is to be done."""

    level: Level
    about: str
    what: str
    fix: str = ""


def show(findings: Iterable[Finding]) -> None:
    """Print one line per finding, and its repair below it."""
    for finding in findings:
        print(f"{_level(finding.level)}  {text(finding.about)}: {text(finding.what)}")
        if finding.fix:
            print(f"         fix: {text(finding.fix)}")
    sys.stdout.flush()


def _level(level: Level) -> str:
    word = level.ljust(7)
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return word
    return f"\x1b[{ {'ok': 32, 'warning': 33, 'error': '1;31'}[level] }m{word}\x1b[0m"
