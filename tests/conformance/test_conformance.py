"""Through the bridge a server passes all of the public suite that it passes on its own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from bridge.protocol.modern import CAPABILITIES, VERSION
from tests.conformance.all_servers import renamed
from tests.conformance.report import Result, Score
from tests.conformance.run import NEXT, TARGETS, VERSIONS, run
from tests.conformance.suite import Check, read_checks
from tests.conformance.targets import CHILDREN, FIXTURE, serve_bridge, serve_control

INITIALIZE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Result]:
    """One run for all versions, because it takes all cores. ``make conformance`` adds the released suite, whose
    scenarios are among those of the next one."""
    folder = tmp_path_factory.mktemp("conformance")
    return {(result.protocol, result.child): result for result in asyncio.run(run(folder, VERSIONS, [NEXT]))}


@pytest.mark.slow
@pytest.mark.timeout(600)  # the first one waits for the run; the suite's own time limit is shorter and says what hung
@pytest.mark.parametrize(("version", "child"), [(version, child) for version in VERSIONS for child in TARGETS[version]])
def test_the_bridge_passes_all_that_the_control_passes(
    version: str, child: str, results: dict[tuple[str, str], Result]
) -> None:
    result = results[version, child]
    passed, counted = result.control.passed
    assert passed > 50, f"the control itself passes only {passed} of {counted}"
    assert not result.lost, "\n".join(result.lost)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("version", ["2026-07-28", *(["2025-11-25"] if os.environ.get("CONFORMANCE") else [])])
async def test_the_endpoint_of_all_servers_passes_all_that_the_control_passes(version: str, tmp_path: Path) -> None:
    """With names apart, which the suite knows without their server. ``CONFORMANCE=1`` adds the handshake era, whose
    requests go the way of ``/mcp/{server_id}``: it takes most of a minute.
    """
    slots = asyncio.Semaphore(os.cpu_count() or 1)
    async with (
        serve_control(version, tmp_path) as alone,
        serve_bridge([(version, "both eras")], tmp_path) as urls,
    ):
        base, _, server = urls[version, "both eras"].rpartition("/")
        async with renamed(base, f"{server}__") as everything:
            control, score = await asyncio.gather(
                *(
                    NEXT.run_all(url, version, tmp_path / name, slots)
                    for name, url in (("control", alone), ("all", everything))
                )
            )
    result = compare(control, score)
    passed, counted = result.control.passed
    assert passed > 50, f"the control itself passes only {passed} of {counted}"
    assert not result.lost, "\n".join(result.lost)


@pytest.mark.parametrize(
    ("child", "method", "refusal"),
    [("modern only", "initialize", -32022), ("handshake only", "server/discover", -32601)],
)
async def test_a_child_of_one_era_refuses_the_other(child: str, method: str, refusal: int) -> None:
    """Otherwise nothing would be translated."""
    params = {"_meta": {VERSION: "2026-07-28", CAPABILITIES: {}}} if method == "server/discover" else INITIALIZE
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(FIXTURE), *CHILDREN[child], stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(request).encode() + b"\n")
        answer = json.loads(await asyncio.wait_for(process.stdout.readline(), 30))
    finally:
        process.kill()
        await process.wait()
    assert answer["error"]["code"] == refusal


def compare(control: list[Check], bridge: list[Check], child: str = "both eras") -> Result:
    return Result("0", "2025-11-25", child, Score(control), Score(bridge))


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
    assert (len(excused.lost), len(excused.excused)) == (0, 1)
    assert compare(control, [Check("server-sse-polling", "server-sse-disconnect-resume", "WARNING")]).lost
    assert compare(control, []).lost


def test_what_no_translation_can_do_is_excused_only_for_that_child_and_that_verdict() -> None:
    scenario, id_ = "input-required-result-basic-elicitation", "sep-2322-elicitation-incomplete"
    control = [Check(scenario, id_, "SUCCESS")]
    known = [Check(scenario, id_, "FAILURE", 'inputRequests missing expected key "user_name"')]
    assert not compare(control, known, "handshake only").lost
    assert compare(control, known, "modern only").lost
    assert compare(control, [Check(scenario, id_, "FAILURE", "JSON-RPC error: no")], "handshake only").lost


def test_a_scenario_in_which_the_suite_broke_down_has_failed(tmp_path: Path) -> None:
    (check,) = read_checks(tmp_path, ["ping"], "TypeError")
    assert (check.scenario, check.status) == ("ping", "FAILURE")
    assert "TypeError" in check.message
