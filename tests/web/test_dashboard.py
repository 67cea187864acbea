"""``deploy/grafana.json`` asks for what a bridge that is used tells Prometheus, by names and labels."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartBridge, peer
from tests.web.test_metrics import scrape

DASHBOARD = json.loads((Path(__file__).parents[2] / "deploy/grafana.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]
VARIABLES = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
LOOKUPS = [each["definition"] for each in VARIABLES.values() if each["type"] == "query"]

SELECTOR = re.compile(r"([a-z_]+)\{([^}]*)\}")
MATCHER = re.compile(r'([a-z_]+)(?:=~|!~|!=|=)"[^"]*"')
#: What the text of an expression may hold beside selectors: names of PromQL, and labels to group by.
LANGUAGE = {"by", "count", "histogram_quantile", "increase", "or", "rate", "sum", "vector"}
ADDED = {"instance"}  # by Prometheus


async def test_it_asks_for_what_a_used_bridge_tells(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"peer": peer()})
    session = await bridge.session()
    await session.call("echo")
    await session.call("no such tool")
    await bridge.bridge_call("peer", "ping")
    told: dict[str, set[str]] = defaultdict(set)
    for name, labels in await scrape(bridge):
        told[name] |= {label for label, _ in labels} | ADDED
    asked = set()
    for expression in (*EXPRESSIONS, *(_as_selector(lookup) for lookup in LOOKUPS)):
        selectors = SELECTOR.findall(expression)
        assert selectors, expression
        used = {label for _, inner in selectors for label in MATCHER.findall(inner)} | _groups(expression)
        for name, inner in selectors:
            assert name in told, expression
            assert set(MATCHER.findall(inner)) <= told[name], expression
            assert used <= told[name], expression
        asked |= {name for name, _ in selectors}
    forgotten = {name for name in told if name.startswith("mcp_")} - asked
    assert {name for name in forgotten if not name.endswith("_created")} == set()


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_is_whole_and_follows_the_choices_above_it(expression: str) -> None:
    rest = SELECTOR.sub("", expression)
    words = set(re.findall(r"(?<![$\w])[a-z_]+", rest)) - _groups(expression)
    assert words <= LANGUAGE
    assert expression.count("(") == expression.count(")")
    assert all('instance=~"$instance"' in inner for _, inner in SELECTOR.findall(expression))
    known = set(VARIABLES) | {"__rate_interval", "__range"}
    assert set(re.findall(r"\$(\w+)", expression)) <= known


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_can_be_read(panel: dict[str, Any]) -> None:
    assert panel["description"]
    grouped = set().union(*(_groups(target["expr"]) for target in panel["targets"])) - {"le"}
    legends = [set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) for target in panel["targets"]]
    assert set().union(*legends) >= grouped
    for target in (panel, *panel["targets"]):
        assert target["datasource"]["uid"] == "${datasource}"


def test_panels_have_places_of_their_own() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    places = sorted((place["y"], place["x"], place["w"]) for place in (each["gridPos"] for each in DASHBOARD["panels"]))
    for (y, x, width), (next_y, next_x, _) in pairwise(places):
        assert x + width <= (next_x if y == next_y else 24)


def _as_selector(lookup: str) -> str:
    """``label_values(name{...}, label)`` as an expression."""
    found = re.fullmatch(r"label_values\(([a-z_]+)(?:\{([^}]*)\})?, ([a-z_]+)\)", lookup)
    assert found is not None, lookup
    return f"count by ({found[3]}) ({found[1]}{{{found[2] or ''}}})"


def _groups(expression: str) -> set[str]:
    return {label for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(", ")}
