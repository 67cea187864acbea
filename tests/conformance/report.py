"""Compares the bridge with the control, check by check, and writes it down for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.conformance.suite import FAILED, PASSED, Check

NOT_REACHED = "the suite did not get that far"
ANY_CHILD = "any"
_OWN_KEYS = (
    "a handshake server's request has no key, so that the bridge makes one up; the suite wants the one that a server "
    "of 2026-07-28 would have chosen"
)


@dataclass(frozen=True)
class Excuse:
    """Why a check that the control passes need not pass, and how the suite's verdict must begin for that to be so."""

    verdict: str
    why: str


#: By kind of child, scenario and check. Any other verdict, or any other check, is a loss.
EXCUSES = {
    (ANY_CHILD, "server-sse-polling", "server-sse-disconnect-resume"): Excuse(
        "INFO",
        "the fixture asks its transport to end the response stream early; over stdio there is no stream to end, and "
        "the answer comes on the first one",
    ),
    (ANY_CHILD, "server-sse-multiple-streams", "server-sse-streams-functional"): Excuse(
        "INFO",
        "the bridge answers with JSON when nothing comes before the answer, which the specification leaves to the "
        "server, and this check is about event streams",
    ),
    ("handshake only", "input-required-result-basic-elicitation", "sep-2322-elicitation-incomplete"): Excuse(
        'FAILURE inputRequests missing expected key "user_name"', _OWN_KEYS
    ),
    ("handshake only", "input-required-result-basic-elicitation", "sep-2322-elicitation-complete"): Excuse(
        NOT_REACHED, "the suite stops this scenario after the check before"
    ),
    ("handshake only", "input-required-result-ignore-extra-params", "sep-2322-ignore-unexpected-params"): Excuse(
        "WARNING Server did not return complete result",
        "the suite answers before it was asked, under the key that a server of 2026-07-28 would have chosen; a "
        "handshake server's question has none",
    ),
    ("handshake only", "server-stateless", "sep-2575-http-server-no-independent-requests-on-stream"): Excuse(
        "FAILURE Failed to receive progressive stream chunk",
        "the suite waits 0.6 s; its first call that may ask the client starts a process, whose imports can take longer",
    ),
}


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
    """One version of the suite at one version of the protocol, against the control and the bridge with one child."""

    suite: str
    protocol: str
    child: str
    control: Score
    bridge: Score

    @property
    def lost(self) -> list[str]:
        """What the bridge does not pass and the control does, with what the suite says about it."""
        return [self._sentence(*key) for key in self._below() if self._excuse(*key) is None]

    @property
    def excused(self) -> list[str]:
        """The same with the reason, where there is a good one."""
        excuses = ((key, self._excuse(*key)) for key in self._below())
        return [f"{self._sentence(*key)}; {excuse.why}" for key, excuse in excuses if excuse is not None]

    def _below(self) -> list[tuple[str, str]]:
        return list(_passed(self.control) - _passed(self.bridge))

    def _excuse(self, scenario: str, id_: str) -> Excuse | None:
        for child in (self.child, ANY_CHILD):
            excuse = EXCUSES.get((child, scenario, id_))
            if excuse and all(said.startswith(excuse.verdict) for said in self._verdicts(scenario, id_)):
                return excuse
        return None

    def _verdicts(self, scenario: str, id_: str) -> list[str]:
        said = [
            f"{check.status} {check.message}".strip()
            for check in self.bridge.checks
            if (check.scenario, check.id) == (scenario, id_) and check.status != PASSED
        ]
        return said or [NOT_REACHED]

    def _sentence(self, scenario: str, id_: str) -> str:
        return f"{scenario}: {id_}: {'; '.join(self._verdicts(scenario, id_))}"


def _passed(score: Score) -> Counter[tuple[str, str]]:
    """An id can come more than once in a scenario."""
    return Counter((check.scenario, check.id) for check in score.checks if check.status == PASSED)


def lines(result: Result) -> str:
    """What people read in the terminal."""
    scores = {"control": result.control, f"bridge, child {result.child}": result.bridge}
    said = [f"{result.protocol} {name}: {score.line()} (suite {result.suite})" for name, score in scores.items()]
    kinds = {"lost": result.lost, "excused": result.excused}
    return "\n".join([*said, *(f"  {kind}: {each}" for kind, found in kinds.items() for each in found)])


def page(results: Iterable[Result]) -> str:
    """docs/conformance.md."""
    results = list(results)
    rows = [
        f"| {each.protocol} | {each.suite} | {each.child} "
        f"| {_of(each.control.scenarios)} | {_of(each.bridge.scenarios)} "
        f"| {_of(each.control.passed)} | {_of(each.bridge.passed)} |"
        for each in results
    ]
    differences = [
        f"* {each.protocol}, suite {each.suite}, child {each.child}: {said}"
        for each in results
        for said in (*each.lost, *each.excused)
    ]
    return PAGE.format(rows="\n".join(rows), differences="\n".join(differences) or "None.")


def _of(pair: tuple[int, int]) -> str:
    return f"{pair[0]}/{pair[1]}"


PAGE = """# Conformance

Written by `make conformance`; not to be edited. The public suite, `@modelcontextprotocol/conformance`, runs against one
fixture, [tests/peers/conformance_server.py](../tests/peers/conformance_server.py), served twice: by the HTTP of the
official Python SDK that it is written with (the control), and over stdio through the bridge. The run fails when the
bridge passes one check fewer than the control, unless it is among those at the end, each with its reason.

The fixture behind the bridge knows *both eras* of the protocol, so that the bridge passes everything on as it is; or it
is *modern only* (2026-07-28), or *handshake only* (the versions before), so that the bridge translates for a client of
the other era. A tool that asks its client does so in the only way that its era has: by a request of its own in the
handshake era, by an `input_required` result in the modern one.

The client of the suite asks every handshake server for 2025-11-25. For an older version the fixture offers nothing
newer, so that the whole session is of that version. The suite has one scenario for 2025-03-26; the others are those of
2025-06-18, which its `--force` runs, and which it checks against the schema of 2025-03-26.

| protocol | suite | child | scenarios, control | scenarios, bridge | checks, control | checks, bridge |
|---|---|---|---|---|---|---|
{rows}

A scenario passes when nothing in it fails. A check passes when the suite says SUCCESS, and does not pass when it says
FAILURE or WARNING; what it says for information only is not counted.

## Where the bridge differs

{differences}
"""
