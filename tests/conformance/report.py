"""Compares the bridge with the control, check by check, and writes it down for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.conformance.suite import FAILED, PASSED, Check

#: Checks that the control passes and the bridge need not. The suite must then say that they do not apply: that they
#: failed, or were not reached, is never excused.
EXCUSES = {
    ("server-sse-polling", "server-sse-disconnect-resume"): "the fixture asks its transport to end the response stream "
    "early; over stdio there is no stream to end, and the answer comes on the first one",
    ("server-sse-multiple-streams", "server-sse-streams-functional"): "the bridge answers with JSON when nothing comes "
    "before the answer, which the specification leaves to the server, and this check is about event streams",
}
NOT_APPLICABLE = "INFO"


@dataclass(frozen=True)
class Score:
    """How one target did."""

    checks: Sequence[Check]

    @property
    def scenarios(self) -> tuple[int, int]:
        """Those in which nothing failed, and all. A warning does not fail a scenario; that is the suite's rule."""
        names = {check.scenario for check in self.checks}
        failed = {check.scenario for check in self.checks if check.status == FAILED}
        return len(names) - len(failed), len(names)

    @property
    def passed(self) -> tuple[int, int]:
        """Checks passed, and all that count."""
        return sum(check.status == PASSED for check in self.checks), sum(check.counts for check in self.checks)

    def line(self) -> str:
        return "scenarios {}/{} checks {}/{}".format(*self.scenarios, *self.passed)


@dataclass(frozen=True)
class Result:
    """One version of the suite at one version of the protocol, against both targets."""

    suite: str
    protocol: str
    control: Score
    bridge: Score

    @property
    def lost(self) -> list[str]:
        """What the bridge does not pass and the control does, with what the suite says about it."""
        return [
            _sentence(scenario, id_, self.bridge) for scenario, id_ in self._below() if not self._excused(scenario, id_)
        ]

    @property
    def excused(self) -> list[tuple[str, str]]:
        return [key for key in self._below() if self._excused(*key)]

    def _below(self) -> list[tuple[str, str]]:
        return list(_passed(self.control) - _passed(self.bridge))

    def _excused(self, scenario: str, id_: str) -> bool:
        said = [check.status for check in self.bridge.checks if (check.scenario, check.id) == (scenario, id_)]
        return (scenario, id_) in EXCUSES and said == [NOT_APPLICABLE]


def _passed(score: Score) -> Counter[tuple[str, str]]:
    """An id can come more than once in a scenario."""
    return Counter((check.scenario, check.id) for check in score.checks if check.status == PASSED)


def _sentence(scenario: str, id_: str, score: Score) -> str:
    said = [
        f"{check.status} {check.message}".strip()
        for check in score.checks
        if (check.scenario, check.id) == (scenario, id_) and check.status != PASSED
    ]
    return f"{scenario}: {id_}: {'; '.join(said) or 'the suite did not get that far'}"


def lines(result: Result) -> str:
    """What people read in the terminal."""
    scores = {"control": result.control, "bridge": result.bridge}
    said = [f"{name:7} {result.protocol} {score.line()} (suite {result.suite})" for name, score in scores.items()]
    return "\n".join([*said, *(f"  lost: {lost}" for lost in result.lost)])


def page(results: Iterable[Result]) -> str:
    """docs/conformance.md."""
    results = list(results)
    rows = [
        f"| {each.protocol} | {each.suite} | {_of(each.control.scenarios)} | {_of(each.bridge.scenarios)} "
        f"| {_of(each.control.passed)} | {_of(each.bridge.passed)} |"
        for each in results
    ]
    differences = [f"* {each.protocol}, suite {each.suite}: {lost}" for each in results for lost in each.lost] + [
        f"* {each.protocol}, suite {each.suite}: {scenario}: {id_}: does not apply; {EXCUSES[scenario, id_]}"
        for each in results
        for scenario, id_ in each.excused
    ]
    return PAGE.format(rows="\n".join(rows), differences="\n".join(differences) or "None.")


def _of(pair: tuple[int, int]) -> str:
    return f"{pair[0]}/{pair[1]}"


PAGE = """# Conformance

Written by `make conformance`; not to be edited. The public suite, `@modelcontextprotocol/conformance`, runs against one
fixture, [tests/peers/conformance_server.py](../tests/peers/conformance_server.py), served twice: by the HTTP of the
official Python SDK that it is written with (the control), and over stdio through the bridge. The run fails when the
bridge passes one check fewer than the control, unless it is among those at the end that do not apply to it.

The client of the suite asks every server for 2025-11-25. For an older version the fixture offers nothing newer, so that
the whole session is of that version. The suite has one scenario for 2025-03-26; the others are those of 2025-06-18,
which its `--force` runs, and which it checks against the schema of 2025-03-26.

| protocol | suite | scenarios, control | scenarios, bridge | checks, control | checks, bridge |
|---|---|---|---|---|---|
{rows}

A scenario passes when nothing in it fails. A check passes when the suite says SUCCESS, and does not pass when it says
FAILURE or WARNING; what it says for information only is not counted.

## Where the bridge differs

{differences}
"""
