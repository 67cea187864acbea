"""Through the bridge a server passes all of the public suite that it passes on its own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.conformance.report import Result, Score
from tests.conformance.run import NEXT, VERSIONS, run
from tests.conformance.suite import Check, read_checks


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    """One run for all versions, because it takes all cores. ``make conformance`` adds the released suite, whose
    scenarios are among those of the next one."""
    folder = tmp_path_factory.mktemp("conformance")
    return {result.protocol: result for result in asyncio.run(run(folder, VERSIONS, [NEXT]))}


@pytest.mark.slow
@pytest.mark.timeout(240)  # the first one waits for the run; the suite's own time limit is shorter and says what hung
@pytest.mark.parametrize("version", VERSIONS)
def test_the_bridge_passes_all_that_the_control_passes(version: str, results: dict[str, Result]) -> None:
    result = results[version]
    passed, counted = result.control.passed
    assert passed > 50, f"the control itself passes only {passed} of {counted}"
    assert not result.lost, "\n".join(result.lost)


def compare(control: list[Check], bridge: list[Check]) -> Result:
    return Result("0", "2025-11-25", Score(control), Score(bridge))


@pytest.mark.parametrize("status", ["FAILURE", "WARNING", "INFO", "SKIPPED"])
def test_a_check_that_only_the_control_passes_is_lost(status: str) -> None:
    result = compare([Check("ping", "ping", "SUCCESS")], [Check("ping", "ping", status, "why")])
    assert result.lost == [f"ping: ping: {status} why"]


def test_a_check_that_the_bridge_never_reaches_is_lost() -> None:
    result = compare([Check("ping", "ping", "SUCCESS")], [Check("ping", "ping-error", "FAILURE")])
    assert result.lost == ["ping: ping: the suite did not get that far"]


def test_a_check_that_comes_twice_must_pass_twice() -> None:
    twice = [Check("ping", "ping", "SUCCESS")] * 2
    assert compare(twice, twice).lost == []
    assert compare(twice, [twice[0], Check("ping", "ping", "FAILURE")]).lost == ["ping: ping: FAILURE"]


def test_what_the_control_does_not_pass_is_not_asked_of_the_bridge() -> None:
    assert compare([Check("ping", "ping", "FAILURE")], [Check("ping", "ping", "FAILURE")]).lost == []


def test_what_stdio_cannot_do_is_excused_only_if_the_suite_says_that_it_does_not_apply() -> None:
    control = [Check("server-sse-polling", "server-sse-disconnect-resume", "SUCCESS")]
    excused = compare(control, [Check("server-sse-polling", "server-sse-disconnect-resume", "INFO")])
    assert (excused.lost, excused.excused) == ([], [("server-sse-polling", "server-sse-disconnect-resume")])
    assert compare(control, [Check("server-sse-polling", "server-sse-disconnect-resume", "WARNING")]).lost
    assert compare(control, []).lost


def test_a_scenario_in_which_the_suite_broke_down_has_failed(tmp_path: Path) -> None:
    (check,) = read_checks(tmp_path, ["ping"], "TypeError")
    assert (check.scenario, check.status) == ("ping", "FAILURE")
    assert "TypeError" in check.message
