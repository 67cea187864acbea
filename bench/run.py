"""Runs the cases and writes the page: ``make bench``, or ``make bench ARGS="--only hot sweep --quick"``."""

from __future__ import annotations

import argparse
import inspect
import resource
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import psutil

from bench.cases import big, churn, events, faces, hot, memory, neighbours, payload, sessions, start, sweep
from bench.plot import bars
from bench.programs import PYTHON, ROOT, program
from bench.report import machine, page, verdicts
from bench.suite import Suite

DOCS = ROOT / "docs"

CASES: dict[str, Callable[[Suite], None]] = {
    module.__name__.rpartition(".")[2]: module.run
    for module in (hot, faces, sessions, events, payload, big, neighbours, churn, start, memory, sweep)
}


def main() -> int:
    """Measure, and print or write what was found."""
    options = _options()
    rounds, seconds = (2, 0.5) if options.quick else (options.rounds, options.seconds)
    suite = Suite(rounds, seconds, options.quick)
    meter = _Meter()
    if program("load") == PYTHON["load"]:
        suite.note(
            "no C compiler here: load generator and child are the ones in Python, which need more of the machine"
        )
    for name in options.only or CASES:
        suite.say(f"case {name}")
        try:
            CASES[name](suite)
        except Exception as problem:  # the other cases took long, and stand by themselves
            traceback.print_exc()
            suite.note(f"the case {name} failed: {problem!r}")
    day = time.strftime("%Y-%m-%d", time.gmtime())
    about = [machine(), f"{day}, {rounds} rounds of {seconds:g} s each, {meter.report()}"]
    table = verdicts(suite.results, whole=not options.only)
    print(f"\n{table.title}\n{table.text()}")
    if not options.only and not options.quick:
        _write(suite, about, DOCS)
    elif options.output is not None:
        _write(suite, about, options.output)
    return 0


def _write(suite: Suite, about: list[str], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "performance.md").write_text(page(suite.results, about))
    if suite.results.bars:
        title = "tools/call per second, 64 in flight, 100 bytes (more is better)"
        (folder / "performance.svg").write_text(bars(title, suite.results.bars, "bridge"))
    suite.say(f"written: {folder / 'performance.md'}")


class _Meter:
    """Who used the processors since it was made: a page whose machine did other things as well must say so."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._all, self._ours = psutil.cpu_times(), _own_seconds()

    def report(self) -> str:
        """How long it was, and what others took of the processors, here and on the host."""
        took = time.monotonic() - self._begun
        now, available = psutil.cpu_times(), took * (psutil.cpu_count() or 1)
        stolen = getattr(now, "steal", 0.0) - getattr(self._all, "steal", 0.0)
        busy = sum(now[:3]) - sum(self._all[:3])  # user, nice, system
        others = max(0.0, busy - (_own_seconds() - self._ours))
        return (
            f"{took / 60:.0f} minutes; meanwhile other processes took {others / available:.0%} of the processor time "
            f"and the host {stolen / available:.0%}: the less, the better the numbers"
        )


def _own_seconds() -> float:
    """Processor time of this run and of all it has started and seen to its end."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _options() -> argparse.Namespace:
    cases = "\n".join(f"  {name:12}{_docstring(case)}" for name, case in CASES.items())
    parser = argparse.ArgumentParser(
        prog="make bench",
        description="What the bridge costs, beside aiohttp alone and beside other bridges, in one run.\n"
        "A whole run writes docs/performance.md; a part of it, or a quick one, prints its tables only.",
        epilog=f"cases:\n{cases}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=list(CASES), metavar="CASE", help="these cases, in this order")
    parser.add_argument("--quick", action="store_true", help="two rounds of half a second: to see whether it works")
    parser.add_argument("--rounds", type=int, default=5, help="turns that each contender gets (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.5, help="length of a turn (default: %(default)s)")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="write the page of a part or a quick run there")
    return parser.parse_args()


def _docstring(case: Callable[[Suite], None]) -> str:
    return (inspect.getmodule(case).__doc__ or "").partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main())
