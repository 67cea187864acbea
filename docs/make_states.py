"""Write ``states.md`` from the tables in ``bridge/protocol/states.py``: ``python docs/make_states.py``."""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Mapping
from pathlib import Path

from bridge.protocol.states import (
    CHILD_TRANSITIONS,
    SESSION_TRANSITIONS,
    START_TRANSITIONS,
    ChildState,
    SessionState,
    StartState,
)

PAGE = Path(__file__).with_name("states.md")

Table = Mapping[tuple[enum.Enum, enum.Enum], enum.Enum]

_HEAD = """\
# States

<!-- Generated from bridge/protocol/states.py. Do not edit; run: python docs/make_states.py -->

What is not drawn here cannot happen: an edge that is not in the table is an error.
"""


def page() -> str:
    """Return the whole page."""
    parts = [
        _HEAD,
        *_section("Child", ChildState, CHILD_TRANSITIONS),
        *_section("Starts of a server", StartState, START_TRANSITIONS),
        *_section("Session", SessionState, SESSION_TRANSITIONS),
    ]
    return "\n".join(parts)


def _section(title: str, states: type[enum.Enum], table: Table) -> list[str]:
    return [f"## {title}", "", *_diagram(states, table), "", *_meanings(states), "", *_edges(table), ""]


def _diagram(states: type[enum.Enum], table: Table) -> list[str]:
    """The first state is where a life begins; a state without a way out is where it ends."""
    first, *_ = states
    ends = [state for state in states if all(source is not state for source, _ in table)]
    return [
        "```mermaid",
        "stateDiagram-v2",
        f"    [*] --> {first.name}",
        *(f"    {source.name} --> {target.name}: {event.value}" for (source, event), target in table.items()),
        *(f"    {state.name} --> [*]" for state in ends),
        "```",
    ]


def _meanings(states: type[enum.Enum]) -> list[str]:
    """What the comment behind each state says."""
    comments = dict(re.findall(r"^ +([A-Z_]+) = [^#\n]*# (.+)$", inspect.getsource(states), re.MULTILINE))
    return [
        "| state | meaning |",
        "|---|---|",
        *(f"| {state.name} | {comments.get(state.name, '')} |" for state in states),
    ]


def _edges(table: Table) -> list[str]:
    return [
        "| in | when | then |",
        "|---|---|---|",
        *(f"| {source.name} | {event.value} | {target.name} |" for (source, event), target in table.items()),
    ]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
