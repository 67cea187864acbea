"""The results of a run, and the page that is made of them."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import psutil

from bench.series import number
from bench.targets import TARGETS, Target


@dataclass
class Table:
    """Rows of text under a header; ``note`` says what was done."""

    title: str
    note: str
    header: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)

    def markdown(self) -> str:
        """The table as the page shows it."""
        lines = [self.header, ["---"] + ["---:"] * (len(self.header) - 1), *self.rows]
        return "\n".join(["| " + " | ".join(line) + " |" for line in lines])

    def text(self) -> str:
        """The table as a terminal shows it."""
        lines = [self.header, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.header))]

        def padded(line: Sequence[str]) -> str:
            cells = zip(line, widths, strict=True)
            return "  ".join(cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(cells))

        return "\n".join(padded(line) for line in lines)


@dataclass
class Results:
    """What a run has found so far. ``seen`` is by key of a target."""

    tables: list[Table] = field(default_factory=list)
    seen: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    bars: list[tuple[str, float]] = field(default_factory=list)


def verdicts(results: Results, *, whole: bool = True) -> Table:
    """Each target beside what was seen; of a run that is not ``whole`` those that it was about."""
    table = Table("Targets", "", ("case", "wanted", "seen", ""))
    for target in TARGETS:
        seen = results.seen.get(target.key)
        if seen is None:
            if whole:
                table.rows.append((target.text, _wanted(target), "-", "not measured: nothing was seen of it"))
        else:
            verdict = "met" if target.is_met(seen) else "**missed**"
            table.rows.append((target.text, _wanted(target), f"{number(seen)} {target.unit}", verdict))
    return table


def reasons(results: Results) -> list[str]:
    """What is known of why a target is missed, one line each."""
    missed = [each for each in TARGETS if each.why and not each.is_met(results.seen.get(each.key, each.wanted))]
    return [f"* {each.text}: {each.why}." for each in missed]


def _wanted(target: Target) -> str:
    return f"{'at most' if target.at_most else 'at least'} {number(target.wanted)} {target.unit}"


def machine() -> str:
    """What it was measured on."""
    found = re.search(r"^model name\s*: (.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    memory = psutil.virtual_memory().total / 2**30
    packages = ", ".join(f"{name} {version(name)}" for name in ("aiohttp", "uvloop", "msgspec"))
    return (
        f"{found[1] if found else platform.machine()}, {psutil.cpu_count()} cores, {memory:.0f} GiB, "
        f"{platform.system()} {platform.release().partition('-')[0]}, Python {platform.python_version()}, {packages}"
    )


def _read(path: str) -> str:
    file = Path(path)
    return file.read_text() if file.exists() else ""


def page(results: Results, about: Sequence[str]) -> str:
    """The whole page."""
    parts = [INTRODUCTION, "\n".join(f"* {line}" for line in [*about, *results.notes])]
    if results.bars:
        parts.append("![calls per second](performance.svg)")
    parts += ["## Targets", verdicts(results).markdown()]
    if missed := reasons(results):
        parts += ["What is known of why some are missed:", "\n".join(missed)]
    for table in results.tables:
        parts += [f"## {table.title}", table.note, table.markdown()]
    return "\n\n".join(parts) + "\n"


INTRODUCTION = """# Performance

This page is written by `make bench`; do not edit it. It sets the bridge beside aiohttp alone and beside other bridges,
all in one run on one machine, in front of the same child: a C program that answers at once (`bench/child.c`). The load
comes from a C program too (`bench/load.c`), over keep-alive connections with one request in flight each; it checks
status, id and size of every answer.

The contenders take turns, round after round, so that a slow minute of the machine meets them all. A number is the
median of its rounds, *spread* their lowest and highest. A ratio is the median of the ratios of neighbouring rounds.
*CPU* is the processor time of the bridge's own process per call, without its children: it depends less on what else the
machine does than calls per second do."""
