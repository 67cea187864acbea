"""Greeting a child that the bridge owns."""

from __future__ import annotations

import json

import pytest

from bridge.protocol.handshake import Greeted, Refused, greeted, greeting
from bridge.protocol.messages import Notification, Request, Response, parse
from bridge.protocol.versions import HANDSHAKE_VERSIONS, LATEST_HANDSHAKE, MODERN_VERSION


def test_the_bridge_greets_with_the_latest_version_and_offers_nothing() -> None:
    request = greeting("the bridge", "1.2")
    assert isinstance(request, Request)
    assert request.method == "initialize"
    assert json.loads(request.params) == {
        "protocolVersion": LATEST_HANDSHAKE,
        "capabilities": {},  # so the child never asks anyone anything
        "clientInfo": {"name": "the bridge", "version": "1.2"},
    }


@pytest.mark.parametrize("version", HANDSHAKE_VERSIONS)
def test_a_child_may_answer_with_any_handshake_version(version: str) -> None:
    # Lifecycle, version negotiation: "Otherwise, the server MUST respond with another protocol version it supports".
    result = f'{{ "protocolVersion":"{version}", "capabilities":{{}}, "_meta":1e999 }}'.encode()
    answer = greeted(Response(b"0", result=result))
    assert isinstance(answer, Greeted)
    assert answer.result == result
    assert parse(answer.line) == Notification("notifications/initialized")


@pytest.mark.parametrize(
    ("result", "seen"),
    [
        (f'{{"protocolVersion":"{MODERN_VERSION}"}}', f"'{MODERN_VERSION}'"),
        ('{"protocolVersion":"1"}', "'1'"),
        ('{"protocolVersion":""}', "''"),
        ('{"protocolVersion":null}', "None"),
        ('{"protocolVersion":20250618}', "20250618"),
        ('{"protocolVersion":["2025-06-18"]}', "['2025-06-18']"),
        ("{}", "None"),
        ("null", "None"),
        ("[]", "None"),
        ('"2025-06-18"', "None"),
    ],
)
def test_a_child_of_another_version_is_refused_and_the_version_is_named(result: str, seen: str) -> None:
    assert greeted(Response(b"0", result=result.encode())) == Refused(
        f"it speaks protocol version {seen}, which this bridge does not"
    )


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (b'{"code":-32602,"message":"no key given"}', "no key given"),
        (b'{"code":-32602,"message":"caf\\u00e9"}', "café"),
        (b'{"code":-32602,"message":5}', "5"),
        (b'{"code":-32602}', "without a message"),
        (b'"failed"', "without a message"),
        (b"null", "without a message"),
    ],
)
def test_a_child_that_refuses_is_quoted(error: bytes, said: str) -> None:
    assert greeted(Response(b"0", error=error)) == Refused(f"it refused to initialize: {said}")


def test_what_a_child_says_when_it_refuses_stays_on_one_line() -> None:
    answer = greeted(Response(b"0", error=b'{"code":1,"message":"one\\ntwo"}'))
    assert isinstance(answer, Refused)
    assert "\n" not in answer.why


@pytest.mark.parametrize(
    "response",
    [Response(b"0", result=b'{"protocolVersion":1e999}'), Response(b"0", error=b'{"code":1,"message":1e999}')],
)
def test_a_number_that_python_cannot_hold_is_refused_too(response: Response) -> None:
    assert isinstance(greeted(response), Refused)
