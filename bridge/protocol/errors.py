"""Errors with a home: who is at fault decides the class, one table decides code and status.

JSON-RPC codes and HTTP statuses of the transport stand in :class:`Fault`, so that the same mistake is answered the same
way on every face. Codes of our own stay out of -32020..-32099 (reserved by the 2026-07-28 specification), and new ones
out of -32000..-32019 (SHOULD NOT be newly used).
"""

from __future__ import annotations

import enum
from typing import Any

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
SERVER_ERROR = -32000
SESSION_NOT_FOUND = -32001
HEADER_MISMATCH = -32020
MISSING_CLIENT_CAPABILITY = -32021
UNSUPPORTED_PROTOCOL_VERSION = -32022


class Fault(enum.Enum):
    """A way in which a request is wrong, or cannot be served: its JSON-RPC code and its HTTP status."""

    NOT_JSON = (PARSE_ERROR, 400)
    NOT_HTTP = (INVALID_REQUEST, 400)
    NOT_A_MESSAGE = (INVALID_REQUEST, 400)
    BATCH = (INVALID_REQUEST, 400)
    UNSUPPORTED_VERSION = (UNSUPPORTED_PROTOCOL_VERSION, 400)
    BAD_PARAMS = (INVALID_PARAMS, 400)
    HEADER_MISMATCH = (HEADER_MISMATCH, 400)
    MISSING_CAPABILITY = (MISSING_CLIENT_CAPABILITY, 400)
    UNKNOWN_METHOD = (METHOD_NOT_FOUND, 404)
    NO_SESSION_ID = (SERVER_ERROR, 400)
    UNKNOWN_EVENT = (INVALID_REQUEST, 400)
    UNKNOWN_SESSION = (SESSION_NOT_FOUND, 404)
    UNKNOWN_SERVER = (INVALID_REQUEST, 404)
    UNKNOWN_PATH = (INVALID_REQUEST, 404)
    UNKNOWN_TOOL = (INVALID_PARAMS, 404)
    WRONG_ARGUMENTS = (INVALID_PARAMS, 422)
    BAD_METHOD = (INVALID_REQUEST, 405)
    NOT_ACCEPTABLE = (INVALID_REQUEST, 406)
    TOO_SLOW = (INVALID_REQUEST, 408)
    CONFLICT = (INVALID_REQUEST, 409)
    ELSEWHERE = (INTERNAL_ERROR, 421)
    BODY_TOO_LARGE = (INVALID_REQUEST, 413)
    BAD_CONTENT_TYPE = (INVALID_REQUEST, 415)
    UNAUTHORIZED = (INVALID_REQUEST, 401)
    FORBIDDEN = (INVALID_REQUEST, 403)
    TOO_MANY = (INTERNAL_ERROR, 429)
    UNAVAILABLE = (INTERNAL_ERROR, 503)
    RESTING = (INTERNAL_ERROR, 503)
    CHILD_FAILED = (INTERNAL_ERROR, 502)
    TIMED_OUT = (INTERNAL_ERROR, 504)
    CANCELLED = (INTERNAL_ERROR, 504)
    TOOL_FAILED = (INTERNAL_ERROR, 424)
    INTERNAL = (INTERNAL_ERROR, 500)

    # Two faults may share code and status; without this, enum would make one an alias of the other.
    def __new__(cls, code: int, status: int) -> Fault:
        """Give every member a value of its own."""
        member = object.__new__(cls)
        member._value_ = len(cls.__members__)
        member.code = code
        member.status = status
        return member

    code: int
    status: int


class BridgeError(Exception):
    """Base of every error the bridge raises on purpose. Its text is one line, fit for a user.

    ``retry_in``: seconds after which the same request may succeed, None when that is not known.
    """

    fault = Fault.INTERNAL
    data: Any = None
    retry_in: float | None = None


#: What is wrong with a server and not with the transport: inside a session it is told by JSON-RPC alone.
OF_THE_SERVER = frozenset({Fault.CHILD_FAILED, Fault.TIMED_OUT, Fault.CANCELLED, Fault.RESTING})


class Rejection(BridgeError):
    """A request that is refused, or given up: the fault says why."""

    def __init__(self, fault: Fault, message: str, *, data: Any = None, retry_in: float | None = None) -> None:
        super().__init__(message)
        self.fault = fault
        self.data = data
        self.retry_in = retry_in


def client_gone() -> Rejection:
    """Return why a call ends whose caller hung up; the child reads it as the reason of the cancellation."""
    return Rejection(Fault.CANCELLED, "the client has gone")


def cancelled() -> Rejection:
    """Return why a call ends that its client does not want any more."""
    return Rejection(Fault.CANCELLED, "the client cancelled the call")


class ChildUnavailable(BridgeError):
    """No child of ``server`` can take a request now: ``why`` says it, ``retry_in`` (seconds) when to come back."""

    fault = Fault.UNAVAILABLE

    def __init__(self, server: str, why: str, retry_in: float | None = None) -> None:
        super().__init__(f'server "{server}" is not available: {why}')
        self.server = server
        self.why = why
        self.retry_in = retry_in


class Resting(ChildUnavailable):
    """A server has failed too often, or was stopped: no child of it is started now."""

    fault = Fault.RESTING


class AtCapacity(ChildUnavailable):
    """There are too many children; one less would do. ``of_server``: of this server, else of all."""

    def __init__(self, server: str, why: str, *, of_server: bool) -> None:
        super().__init__(server, why, retry_in=5)
        self.of_server = of_server


class StartFailed(BridgeError):
    """A child did not start, or could not be greeted; ``why`` tells how."""

    fault = Fault.CHILD_FAILED

    def __init__(self, server: str, why: str) -> None:
        super().__init__(f'server "{server}" could not be started: {why}')
        self.server = server
        self.why = why


class NoServer(StartFailed):
    """What was started is no MCP server, of whatever era."""


class OtherEra(StartFailed):
    """A server does not speak the era that its child was spoken to in."""

    def __init__(self, server: str, why: str) -> None:
        super().__init__(server, why)
        self.args = (f'server "{server}" is of the other era: {why}',)


class ConnectionClosed(BridgeError):
    """The child ended before it answered; ``why`` tells how."""

    fault = Fault.CHILD_FAILED

    def __init__(self, server: str, why: str) -> None:
        super().__init__(f'server "{server}" ended before it answered: {why}')
        self.server = server
        self.why = why
