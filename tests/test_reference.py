"""The reference has a line for every route, verb, flag and metric (settings and keys: test_docs)."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Running, StartBridge

DOCS = Path(__file__).parents[1] / "docs"
ROUTES = re.compile(r"^\| `([A-Z]+) (/[^`]*)` \| (.+) \|$", re.MULTILINE)
METRICS = re.compile(r"^\| `(mcp_\w+)` \| (\w+) \| ([^|]*) \|", re.MULTILINE)


def test_the_page_about_the_command_line_is_up_to_date() -> None:
    written = (DOCS / "reference/cli.md").read_text()
    assert written == runpy.run_path(str(DOCS / "make_cli.py"))["page"](), "run: python docs/make_cli.py"


async def test_each_route_has_its_line_and_each_line_its_route(bridge: Running) -> None:
    application = bridge.service.faces.routes.app
    served = {
        f"{route.method} {route.resource.canonical}"
        for route in application.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    lines = [f"{method} {path}" for method, path, _ in ROUTES.findall((DOCS / "reference/http.md").read_text())]
    assert sorted(lines) == sorted(served)


async def test_what_the_page_says_needs_no_token_needs_none(start_bridge: StartBridge) -> None:
    bridge = await start_bridge(ACCESS_TOKEN="x" * 20)
    for method, path, what in ROUTES.findall((DOCS / "reference/http.md").read_text()):
        where = path.format(server_id="peer", session_id="x", tool="x", file="api.js", resource="peer")
        async with bridge.http.request(method, bridge.url + where) as response:
            assert (response.status == 401) != what.startswith("no token"), (method, path, response.status)


async def test_each_metric_has_its_line_with_its_type_and_labels(bridge: Running) -> None:
    await bridge.bridge_call("peer", "ping")
    await bridge.session()
    async with bridge.http.get(bridge.url + "/metrics") as response:
        families = list(text_string_to_metric_families(await response.text()))
    told = {}
    for family in families:
        if family.name.startswith("mcp_"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            told[name] = (family.type, labels)
    rows = re.findall(
        r"^\| `(mcp_\w+)` \| (\w+) \| ([^|]*) \|", (DOCS / "reference/metrics.md").read_text(), re.MULTILINE
    )
    written = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert written.keys() == told.keys()
    for name, (kind, labels) in told.items():
        assert written[name][0] == kind, name
        assert labels <= written[name][1], name  # one without samples shows none
