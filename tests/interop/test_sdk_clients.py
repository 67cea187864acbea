"""The official SDKs as clients, published servers behind the bridge: what each client saw, to the letter.

Every client runs in a process of its own and reports what it saw as JSON, with each HTTP answer it got under ``wire``.
For each scenario a fixture runs all clients, and then each client has a test of its own.
"""

from __future__ import annotations

import json
from typing import Any

import psutil
import pytest

from tests.interop.conftest import (
    ALL_SDKS,
    AUTO,
    HANDSHAKE,
    NO_DATABASE,
    NO_PROGRAM,
    PATIENCE,
    SDKS,
    Bridge,
    Gather,
    Reports,
    each,
    finish,
    run_all,
    send,
)
from tests.interop.cut import Cut
from tests.interop.expected import (
    DEMO_STEPS,
    TEXT,
    check_course,
    check_everything,
    check_inputs,
    entity_of,
    streamable,
)

#: Every scenario starts real servers and several clients; clients that hang are given up one after the other.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(4 * PATIENCE)]

LAST_WORDS = "disk full on volume 7"
DEMO_TOOLS = ["add", "count", "echo", "greet", "slow"]


def content_of(name: str) -> str:
    """What a client writes into its file."""
    return f"{name}: {TEXT}"


@pytest.fixture(scope="module")
def everything(served: Bridge) -> Reports:
    return run_all(served, "everything", "everything", names=ALL_SDKS)


@pytest.mark.parametrize("name", ALL_SDKS)
def test_everything(name: str, everything: Reports, served: Bridge) -> None:
    seen = everything[name].result()
    check_course(name, seen, served)
    check_everything(name, seen)


@pytest.fixture(scope="module")
def roots(served: Bridge) -> Reports:
    return run_all(served, "everything", "roots", options=lambda _: {"root": "file:///some/where"})


def test_a_question_outside_of_any_request(name: str, roots: Reports, served: Bridge) -> None:
    seen = roots[name].result()
    check_course(name, seen, served)
    assert seen["log"] == "Roots updated: 1 root(s) received from client"
    assert seen["roots"].startswith("Current MCP Roots (1 total):\n\n1. interop\n   URI: file:///some/where\n")
    # No request but initialize came before the client's answer: the question can have come on the GET stream only.
    assert sorted(seen["wire"][:4]) == ["GET 200", "POST 200", "POST 202", "POST 202"]


@pytest.fixture(scope="module")
def filesystem(served: Bridge) -> Reports:
    return run_all(
        served,
        "filesystem",
        "filesystem",
        names=ALL_SDKS,
        options=lambda name: {"file": f"{name}.txt", "content": content_of(name)},
    )


@pytest.mark.parametrize("name", ALL_SDKS)
def test_filesystem(name: str, filesystem: Reports, served: Bridge) -> None:
    seen = filesystem[name].result()
    check_course(name, seen, served)
    path = served.folder / "files" / f"{name}.txt"
    assert {"list_allowed_directories", "read_text_file", "write_file"} < set(seen["tools"])
    assert seen["write"] == f"Successfully wrote to {path}"
    assert seen["read"] == content_of(name)
    assert path.read_text(encoding="utf-8") == content_of(name)


@pytest.fixture(scope="module")
def memory(served: Bridge) -> Reports:
    # One after the other: two processes of this server that write the same file lose what the other has written.
    options = {name: {"entity": entity_of(name)} for name in ALL_SDKS}
    return run_all(served, "memory", "memory", names=ALL_SDKS, options=options.__getitem__, at_once=1)


@pytest.mark.parametrize("name", ALL_SDKS)
def test_memory_behind_npx(name: str, memory: Reports, served: Bridge) -> None:
    seen = memory[name].result()
    check_course(name, seen, served)
    assert seen["server"] == "memory-server"
    assert {"create_entities", "read_graph"} < set(seen["tools"])
    assert entity_of(name) in seen["graph"]["entities"]
    lines = (served.folder / "memory.jsonl").read_text(encoding="utf-8").rstrip("\n").split("\n")
    assert {"type": "entity", **entity_of(name)} in [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def demo(served: Bridge) -> Reports:
    return run_all(served, "demo", "demo", options=lambda _: {"text": TEXT})


def test_demo(name: str, demo: Reports, served: Bridge) -> None:
    seen = demo[name].result()
    check_course(name, seen, served)
    assert seen["server"] == "demo"
    assert seen["tools"] == DEMO_TOOLS
    assert seen["echo"] == TEXT
    assert seen["add"] == "5.5"
    assert seen["count"] == ["1", "2", "3"]
    assert seen["slow"] == {"text": "took 0.4 s", "steps": DEMO_STEPS}
    assert seen["elicitation_asked"] == "What is your name?"
    assert seen["greet"] == "Hello Ada Lovelace"


#: Server and clients of different eras: the bridge translates.
CROSSED = {"demo-modern": HANDSHAKE, "demo-handshake": AUTO}


@pytest.fixture(scope="module")
def crossed(served: Bridge) -> dict[str, Reports]:
    return {
        server: run_all(served, server, "demo", names=names, options=lambda _: {"text": TEXT})
        for server, names in CROSSED.items()
    }


@pytest.mark.parametrize(("server", "name"), [(server, name) for server, names in CROSSED.items() for name in names])
def test_clients_of_the_other_era(server: str, name: str, crossed: dict[str, Reports], served: Bridge) -> None:
    seen = crossed[server][name].result()
    check_course(name, seen, served)
    assert seen["server"] == "demo"
    assert seen["tools"] == DEMO_TOOLS
    assert seen["echo"] == TEXT
    assert seen["add"] == "5.5"
    assert seen["slow"] == {"text": "took 0.4 s", "steps": DEMO_STEPS}
    assert seen["elicitation_asked"] == "What is your name?"
    assert seen["greet"] == "Hello Ada Lovelace"


#: Servers of one era, and how many clients use one at once: what one changes on a modern server has changed for all.
ASKING = {"asking-handshake": 2, "asking-modern": 1}


@pytest.fixture(scope="module")
def asked(served: Bridge) -> dict[str, Reports]:
    options = {"root": "file:///some/where"}
    return {
        server: run_all(served, server, "inputs", names=ALL_SDKS, options=lambda _: options, at_once=at_once)
        for server, at_once in ASKING.items()
    }


@pytest.mark.parametrize("server", ASKING)
@pytest.mark.parametrize("name", ALL_SDKS)
def test_a_server_asks_and_announces_across_the_eras(
    server: str, name: str, asked: dict[str, Reports], served: Bridge
) -> None:
    seen = asked[server][name].result()
    check_course(name, seen, served)
    check_inputs(seen)


def test_all_clients_use_one_server_at_the_same_time(served: Bridge, gather: Gather) -> None:
    processes = gather("together", dict.fromkeys(SDKS, f"{served.url}/mcp/demo"))
    sessions = streamable(served)
    assert [session["server"] for session in sessions] == ["demo"] * len(SDKS)
    assert len({session["pid"] for session in sessions}) == len(SDKS), "each session has a process of its own"
    send(processes.values(), "go\n")
    everything_seen = {name: finish(process) for name, process in processes.items()}
    for name, seen in everything_seen.items():
        check_course(name, seen, served)
        assert (seen["first"], seen["second"]) == ("1", "2")
        assert seen["slow"] == {"text": "took 0.4 s", "steps": DEMO_STEPS}
        assert seen["greet"] == "Hello Ada Lovelace"


@pytest.fixture(scope="module")
def broken(served: Bridge) -> Reports:
    return run_all(served, "broken", "start", names=ALL_SDKS)


@pytest.mark.parametrize("name", ALL_SDKS)
def test_a_server_that_cannot_start_is_explained(name: str, broken: Reports, served: Bridge) -> None:
    seen = broken[name].result()
    assert f"it exited with code 3; last words: {NO_DATABASE}" in seen["error"]
    assert streamable(served) == []


@pytest.fixture(scope="module")
def missing(served: Bridge) -> Reports:
    return run_all(served, "missing", "start")


def test_a_program_that_is_not_there_is_explained(name: str, missing: Reports, served: Bridge) -> None:
    # The Python SDK 1.x shows the text of an error only when the status is 200.
    seen = missing[name].result()
    assert f"command '{NO_PROGRAM}' not found; install it, or give its full path" in seen["error"]


@pytest.fixture(scope="module")
def death(served: Bridge) -> Reports:
    return run_all(served, "edges", "die", options=lambda _: {"words": LAST_WORDS})


def test_a_server_that_dies_during_a_call_is_explained(name: str, death: Reports, served: Bridge) -> None:
    seen = death[name].result()
    during, after = seen["errors"]
    assert 'server "edges" ended before it answered: it exited with code 4; ' in during
    assert f"last words: {LAST_WORDS}" in during
    if name == "python-1":
        assert after == "McpError: Session terminated", "it has words of its own for 404"
    else:
        assert f"session ended: its server ended (it exited with code 4; last words: {LAST_WORDS})" in after
        assert "initialize again" in after
    assert streamable(served) == []


@pytest.fixture(scope="module")
def late(served: Bridge) -> Reports:
    return run_all(served, "edges", "late")


def test_an_answer_that_comes_too_late_harms_nobody(name: str, late: Reports, served: Bridge) -> None:
    # The Python SDK 1.x ends the whole session when an answer of its own is refused by a status.
    seen = late[name].result()
    assert "error" not in seen, seen
    assert seen["elicitation_asked"] == "What is your name?"
    assert seen["hurry"] == "gave up: MCP error -32001: Request timed out"
    assert seen["echo"] == "still here"
    assert streamable(served) == []


@pytest.fixture(scope="module")
def cut_off(served: Bridge) -> Reports:
    """Each client behind a relay of its own, which cuts its call off once."""

    def run(name: str) -> dict[str, Any]:
        with Cut(served.port, b"step 2 of 4") as cut:
            return {**ALL_SDKS[name].run(f"{cut.url}/mcp/demo", "slow"), "cuts": cut.cuts}

    return each(run, SDKS)


def test_a_call_survives_the_loss_of_its_connection(name: str, cut_off: Reports, served: Bridge) -> None:
    seen = cut_off[name].result()
    check_course(name, seen, served)
    assert seen["cuts"] == 1
    assert seen["slow"] == {"text": "took 0.4 s", "steps": DEMO_STEPS}, "nothing is lost and nothing comes twice"
    assert seen["wire"].count("GET 200") == 2, "one stream for what belongs to no request, one to go on with the call"


def test_shutdown_with_clients_in_session(fresh: Bridge, gather: Gather) -> None:
    servers = {"python-1": "memory", "python-2-legacy": "demo", "typescript-1": "everything"}
    processes = gather("shutdown", {name: f"{fresh.url}/mcp/{server}" for name, server in servers.items()})
    children = psutil.Process(fresh.process.pid).children(recursive=True)
    assert len(children) > len(servers), "npx has children of its own"
    assert fresh.stop() == 0, fresh.log
    assert "Traceback" not in fresh.log, fresh.log
    assert [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE] == []
    for name, process in processes.items():
        seen = finish(process, "go\n")
        assert seen["tools"], name
        assert seen["error"], "it learns that the bridge has gone, and does not hang"
