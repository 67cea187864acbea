"""``python -m tests.conformance.run``: the suite against control and bridge. Exits 1 if the bridge passes less."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from tests.conformance.report import Result, Score, lines, page
from tests.conformance.suite import Suite, SuiteError
from tests.conformance.targets import CHILDREN, serve_bridge, serve_control

RELEASED = Suite("0.1", first_protocol="2025-06-18", last_protocol="2025-11-25")
NEXT = Suite("0.2", first_protocol="2025-03-26", last_protocol="2026-07-28")
#: Versions of the protocol, and the children that the bridge serves them with. The first knows the era of its client.
TARGETS = {
    "2025-03-26": ["both eras"],
    "2025-06-18": ["both eras"],
    "2025-11-25": ["both eras", "modern only"],
    "2026-07-28": list(CHILDREN),
}
VERSIONS = tuple(TARGETS)
ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "conformance.md"
FOLDER = ROOT / ".cache" / "conformance"

#: The suite has little for this version: the scenarios of another one are run too.
BORROWS = {"2025-03-26": "2025-06-18"}


async def run(
    folder: Path, versions: Sequence[str] = VERSIONS, suites: Sequence[Suite] = (RELEASED, NEXT)
) -> list[Result]:
    """What the suites have for these versions of the protocol, as much at a time as there are cores.

    ``folder`` gets all that is written: the checks with their details, and the log of the bridge.
    """
    slots = asyncio.Semaphore(os.cpu_count() or 1)
    targets = [(version, child) for version in versions for child in TARGETS[version]]
    async with AsyncExitStack() as stack:
        bridge = await stack.enter_async_context(serve_bridge(targets, folder))
        control = {each: await stack.enter_async_context(serve_control(each, folder)) for each in versions}
        urls = {(version, "control"): url for version, url in control.items()} | bridge
        # The newest version first: its runs are the longest ones, and nothing should wait for the last of them.
        runs = [(suite, *target) for target in sorted(urls, reverse=True) for suite in suites if suite.knows(target[0])]
        scores = await asyncio.gather(
            *(
                _score(suite, version, urls[version, name], folder / f"{version} {name} suite {suite.name}", slots)
                for suite, version, name in runs
            )
        )
    found = dict(zip(runs, scores, strict=True))
    return [
        Result(suite.version, version, child, found[suite, version, "control"], found[suite, version, child])
        for version, child in targets
        for suite in suites
        if suite.knows(version)
    ]


async def _score(suite: Suite, version: str, url: str, folder: Path, slots: asyncio.Semaphore) -> Score:
    if version not in BORROWS:
        return Score(await suite.run_all(url, version, folder, slots))
    scenarios = dict.fromkeys(await suite.scenarios(version) + await suite.scenarios(BORROWS[version]))
    checks = await asyncio.gather(*(suite.run_one(url, version, each, folder, slots) for each in scenarios))
    return Score([check for each in checks for check in each])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", nargs="*", metavar="VERSION", help=f"of {', '.join(VERSIONS)}; all by default")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.parent.name}/{PAGE.name}")
    arguments = parser.parse_args()
    versions = arguments.versions or VERSIONS
    if unknown := set(versions) - set(VERSIONS):
        parser.error(f"no such version: {', '.join(sorted(unknown))}")
    if arguments.write and arguments.versions:
        parser.error("--write is for all versions")
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    try:
        results = asyncio.run(run(FOLDER, versions))
    except SuiteError as error:
        print(error, file=sys.stderr)
        return 2
    for result in results:
        print(lines(result))
    if arguments.write:
        PAGE.write_text(page(results))
    if not any(result.lost for result in results):
        return 0
    print(f"the bridge passes less than the control; the details are in {FOLDER.relative_to(ROOT)}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
