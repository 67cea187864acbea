"""``"sharing": "shared"``: all clients of a server at the same time on one process."""

from __future__ import annotations

import subprocess
from typing import Any

import psutil
import pytest

from tests.interop.conftest import AUTO, HANDSHAKE, PATIENCE, Bridge, Gather, finish, send
from tests.interop.expected import DEMO_STEPS, entity_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(4 * PATIENCE)]


def the_child(served: Bridge, server: str) -> psutil.Process:
    """The one process of the server."""
    children = [child for child in served.get("/children") if child["server"] == server]
    assert len(children) == 1, children
    return psutil.Process(children[0]["pid"])


def finish_all(clients: dict[str, subprocess.Popen[str]]) -> dict[str, dict[str, Any]]:
    """Let all go on at the same time; return what each saw."""
    send(clients.values(), "go\n")
    reports = {name: finish(process) for name, process in clients.items()}
    for name, seen in reports.items():
        assert "error" not in seen, (name, seen)
    return reports


@pytest.mark.parametrize("names", [HANDSHAKE, AUTO], ids=["handshake", "auto"])  # a process speaks one era only
def test_all_clients_on_one_process(names: list[str], served: Bridge, gather: Gather) -> None:
    clients = gather("share", dict.fromkeys(names, f"{served.url}/mcp/shared-demo"))
    child = the_child(served, "shared-demo")
    reports = finish_all(clients)
    for seen in reports.values():
        assert seen["slow"] == {"text": "took 0.4 s", "steps": DEMO_STEPS}, "its own progress, all of it, and no other"
    firsts, seconds = zip(*(seen["counts"] for seen in reports.values()), strict=True)
    counts = list(range(1, 2 * len(names) + 1))
    assert sorted(firsts) + sorted(seconds) == counts, "one counter for all: they talk to the same process"
    assert served.sessions("shared-demo") == []
    if names is HANDSHAKE:
        child.wait(PATIENCE)  # it ends with the last session


def test_what_one_client_writes_all_read(served: Bridge, gather: Gather) -> None:
    clients: dict[str, subprocess.Popen[str]] = {}
    for name in HANDSHAKE:  # one after the other: the server itself loses what is written at the same time
        clients |= gather("remember", {name: f"{served.url}/mcp/shared-memory"}, entity=entity_of(name))
    the_child(served, "shared-memory")
    reports = finish_all(clients)
    for name, seen in reports.items():
        assert seen["graph"] == {"entities": [entity_of(each) for each in HANDSHAKE], "relations": []}, name
