"""The state tables: what they promise, and that their picture in the docs is the one they have now."""

from __future__ import annotations

import enum
import itertools
import runpy
from pathlib import Path
from typing import Any

import pytest

from bridge.protocol.states import (
    CHILD_TRANSITIONS,
    SESSION_TRANSITIONS,
    START_TRANSITIONS,
    ChildEvent,
    ChildState,
    IllegalTransition,
    SessionEvent,
    SessionState,
    StartEvent,
    StartState,
    advance,
)

DOCS = Path(__file__).parents[2] / "docs"

LIVES = [
    pytest.param(ChildState, ChildEvent, CHILD_TRANSITIONS, id="child"),
    pytest.param(StartState, StartEvent, START_TRANSITIONS, id="start"),
    pytest.param(SessionState, SessionEvent, SESSION_TRANSITIONS, id="session"),
]
EVERY_EDGE = [
    pytest.param(table, state, event, id=f"{name}: {event.value} while {state.value}")
    for name, states, events, table in (
        ("child", ChildState, ChildEvent, CHILD_TRANSITIONS),
        ("start", StartState, StartEvent, START_TRANSITIONS),
        ("session", SessionState, SessionEvent, SESSION_TRANSITIONS),
    )
    for state, event in itertools.product(states, events)
]


def reachable(table: dict[Any, Any], start: enum.Enum) -> set[enum.Enum]:
    """Every state that can follow ``start``, and ``start``."""
    found: set[enum.Enum] = set()
    waiting = [start]
    while waiting:
        state = waiting.pop()
        found.add(state)
        waiting += [target for (source, _), target in table.items() if source is state and target not in found]
    return found


@pytest.mark.parametrize(("table", "state", "event"), EVERY_EDGE)
def test_an_edge_is_in_the_table_or_it_is_an_error_that_names_it(table: Any, state: Any, event: Any) -> None:
    if (state, event) in table:
        assert advance(table, state, event) is table[state, event]
    else:
        with pytest.raises(IllegalTransition, match=f"^{event.value} while {state.value}$"):
            advance(table, state, event)


@pytest.mark.parametrize(("states", "events", "table"), LIVES)
def test_a_life_can_reach_every_state_and_meets_every_event(states: Any, events: Any, table: Any) -> None:
    first, *_ = states
    assert reachable(table, first) == set(states)
    assert {event for _, event in table} == set(events)


@pytest.mark.parametrize("state", ChildState)
def test_every_child_can_come_to_its_end(state: ChildState) -> None:
    assert ChildState.EXITED in reachable(CHILD_TRANSITIONS, state)


@pytest.mark.parametrize("state", SessionState)
def test_every_session_can_come_to_its_end_and_no_further(state: SessionState) -> None:
    assert SessionState.CLOSED in reachable(SESSION_TRANSITIONS, state)
    assert reachable(SESSION_TRANSITIONS, SessionState.CLOSED) == {SessionState.CLOSED}


def test_a_session_in_use_can_never_be_reaped() -> None:
    reaped = [state for state, what in SESSION_TRANSITIONS if what is SessionEvent.REAPED]
    assert reaped == [SessionState.IDLE, SessionState.DORMANT]


@pytest.mark.parametrize(
    "state",
    [ChildState.STARTING, ChildState.GREETING, ChildState.READY, ChildState.STOPPING],
)
def test_a_child_that_runs_may_die_at_any_time(state: ChildState) -> None:
    assert advance(CHILD_TRANSITIONS, state, ChildEvent.DIED) is ChildState.EXITED


def test_a_child_is_ready_only_after_it_was_greeted() -> None:
    assert [edge for edge, target in CHILD_TRANSITIONS.items() if target is ChildState.READY] == [
        (ChildState.GREETING, ChildEvent.GREETED)
    ]


def test_a_child_that_stops_never_serves_again() -> None:
    assert reachable(CHILD_TRANSITIONS, ChildState.STOPPING) == {ChildState.STOPPING, ChildState.EXITED}


@pytest.mark.parametrize("state", StartState)
def test_an_operator_can_stop_and_allow_starts_at_any_time(state: StartState) -> None:
    assert advance(START_TRANSITIONS, state, StartEvent.STOP) is StartState.STOPPED
    assert advance(START_TRANSITIONS, state, StartEvent.FORGIVEN) is StartState.ALLOWED


def test_only_an_operator_ends_what_only_an_operator_may() -> None:
    for state in (StartState.FATAL, StartState.STOPPED):
        ways = [event for source, event in START_TRANSITIONS if source is state]
        assert set(ways) == {StartEvent.STOP, StartEvent.FORGIVEN}


def test_the_page_about_states_is_up_to_date() -> None:
    page = runpy.run_path(str(DOCS / "make_states.py"))["page"]()
    written = (DOCS / "states.md").read_text(encoding="utf-8")
    assert written == page, "docs/states.md is out of date; run: python docs/make_states.py"


def test_the_page_shows_every_edge_and_what_each_state_means() -> None:
    page = runpy.run_path(str(DOCS / "make_states.py"))["page"]()
    tables = (CHILD_TRANSITIONS, START_TRANSITIONS, SESSION_TRANSITIONS)
    for (source, event), target in itertools.chain.from_iterable(table.items() for table in tables):
        assert f"    {source.name} --> {target.name}: {event.value}\n" in page
        assert f"| {source.name} | {event.value} | {target.name} |\n" in page
    assert "| IDLE | nothing is open |\n" in page
    assert page.count("stateDiagram-v2") == page.count("[*] -->") == 3
    assert "    CLOSED --> [*]\n" in page
