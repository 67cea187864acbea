"""The life of a child, the starts of a server and the life of a session, each as one table. An edge that is not in it
is an error.

The reaper takes sessions that nothing uses (IDLE, or DORMANT with a use count of zero), so ending a session in use
cannot be written down. ``docs/states.md`` is generated from these tables.
"""

from __future__ import annotations

import enum
from typing import TypeVar


class IllegalTransition(Exception):
    """Something happened that cannot happen in this state: a bug of ours."""


class _Named(enum.Enum):
    # Members are the only ones of their kind. Enum hashes their names, by a function in Python.
    __hash__ = object.__hash__


class ChildState(_Named):
    """Where a child process stands."""

    STARTING = "starting"  # the program is being started
    GREETING = "greeting"  # it runs, and has not answered the handshake yet
    READY = "ready"  # it has
    STOPPING = "stopping"  # it is on the stop ladder
    EXITED = "exited"  # it is gone


class ChildEvent(_Named):
    """What can happen to a child."""

    SPAWNED = "spawned"
    GREETED = "greeted"
    STOP = "stop"
    DIED = "died"


class StartState(_Named):
    """Whether a child of a server may be started."""

    ALLOWED = "allowed"  # at once
    BACKOFF = "backoff"  # they failed; after a wait, one to see whether it works again
    FATAL = "fatal"  # they failed too often: not before an operator allows it
    STOPPED = "stopped"  # an operator wants none


class StartEvent(_Named):
    """What can happen to the starts of a server."""

    FAILED = "failed again"
    GAVE_UP = "failed too often"
    PROVEN = "proven"
    STOP = "stop"
    FORGIVEN = "forgiven"


class SessionState(_Named):
    """Where a session stands."""

    OPENING = "opening"  # its child is being greeted
    ACTIVE = "active"  # at least one request, stream or question is open
    IDLE = "idle"  # nothing is open
    DORMANT = "dormant"  # it has no process: it was parked, restored, or its child died; a call gives it one
    CLOSING = "closing"  # its child is being stopped
    CLOSED = "closed"


class SessionEvent(_Named):
    """What can happen to a session."""

    OPENED = "opened"
    USED = "used"
    RELEASED = "released"
    REAPED = "reaped"
    PARKED = "parked"
    WOKEN = "woken"
    CLOSE = "close"
    GONE = "gone"


CHILD_TRANSITIONS: dict[tuple[ChildState, ChildEvent], ChildState] = {
    (ChildState.STARTING, ChildEvent.SPAWNED): ChildState.GREETING,
    (ChildState.STARTING, ChildEvent.DIED): ChildState.EXITED,
    (ChildState.STARTING, ChildEvent.STOP): ChildState.STOPPING,
    (ChildState.GREETING, ChildEvent.GREETED): ChildState.READY,
    (ChildState.GREETING, ChildEvent.STOP): ChildState.STOPPING,
    (ChildState.GREETING, ChildEvent.DIED): ChildState.EXITED,
    (ChildState.READY, ChildEvent.STOP): ChildState.STOPPING,
    (ChildState.READY, ChildEvent.DIED): ChildState.EXITED,
    (ChildState.STOPPING, ChildEvent.DIED): ChildState.EXITED,
}

START_TRANSITIONS: dict[tuple[StartState, StartEvent], StartState] = {
    (StartState.ALLOWED, StartEvent.FAILED): StartState.BACKOFF,
    (StartState.ALLOWED, StartEvent.GAVE_UP): StartState.FATAL,
    (StartState.BACKOFF, StartEvent.FAILED): StartState.BACKOFF,
    (StartState.BACKOFF, StartEvent.GAVE_UP): StartState.FATAL,
    (StartState.BACKOFF, StartEvent.PROVEN): StartState.ALLOWED,
    (StartState.ALLOWED, StartEvent.STOP): StartState.STOPPED,
    (StartState.BACKOFF, StartEvent.STOP): StartState.STOPPED,
    (StartState.FATAL, StartEvent.STOP): StartState.STOPPED,
    (StartState.STOPPED, StartEvent.STOP): StartState.STOPPED,
    (StartState.ALLOWED, StartEvent.FORGIVEN): StartState.ALLOWED,
    (StartState.BACKOFF, StartEvent.FORGIVEN): StartState.ALLOWED,
    (StartState.FATAL, StartEvent.FORGIVEN): StartState.ALLOWED,
    (StartState.STOPPED, StartEvent.FORGIVEN): StartState.ALLOWED,
}

SESSION_TRANSITIONS: dict[tuple[SessionState, SessionEvent], SessionState] = {
    (SessionState.OPENING, SessionEvent.OPENED): SessionState.IDLE,
    (SessionState.OPENING, SessionEvent.CLOSE): SessionState.CLOSING,
    (SessionState.IDLE, SessionEvent.USED): SessionState.ACTIVE,
    (SessionState.ACTIVE, SessionEvent.RELEASED): SessionState.IDLE,
    (SessionState.IDLE, SessionEvent.REAPED): SessionState.CLOSING,
    (SessionState.IDLE, SessionEvent.CLOSE): SessionState.CLOSING,
    (SessionState.ACTIVE, SessionEvent.CLOSE): SessionState.CLOSING,
    (SessionState.IDLE, SessionEvent.PARKED): SessionState.DORMANT,
    (SessionState.ACTIVE, SessionEvent.PARKED): SessionState.DORMANT,
    (SessionState.OPENING, SessionEvent.PARKED): SessionState.DORMANT,
    (SessionState.DORMANT, SessionEvent.WOKEN): SessionState.OPENING,
    (SessionState.DORMANT, SessionEvent.REAPED): SessionState.CLOSING,
    (SessionState.DORMANT, SessionEvent.CLOSE): SessionState.CLOSING,
    (SessionState.CLOSING, SessionEvent.GONE): SessionState.CLOSED,
}

S = TypeVar("S", ChildState, StartState, SessionState)
E = TypeVar("E", ChildEvent, StartEvent, SessionEvent)


def advance(table: dict[tuple[S, E], S], state: S, event: E) -> S:
    """Return the state that follows. Raises :class:`IllegalTransition` for an edge that is not in the table."""
    try:
        return table[state, event]
    except KeyError:
        raise IllegalTransition(f"{event.value} while {state.value}") from None
