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
from tests.conformance.targets import serve_bridge, serve_control

RELEASED = Suite("0.1", first_protocol="2025-06-18")
NEXT = Suite("0.2", first_protocol="2025-03-26")
VERSIONS = ("2025-03-26", "2025-06-18", "2025-11-25")
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
    async with AsyncExitStack() as stack:
        bridge = await stack.enter_async_context(serve_bridge(versions, folder))
        control = {each: await stack.enter_async_context(serve_control(each, folder)) for each in versions}
        runs = [(suite, version) for version in versions for suite in suites if suite.knows(version)]
        scores = await asyncio.gather(
            *(
                _score(suite, version, urls[version], folder / f"{name}-{version}-suite-{suite.name}", slots)
                for suite, version in runs
                for name, urls in (("control", control), ("bridge", bridge))
            )
        )
    return [
        Result(suite.version, version, *pair)
        for (suite, version), pair in zip(runs, zip(scores[::2], scores[1::2], strict=True), strict=True)
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
