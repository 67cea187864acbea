"""The era of one HTTP request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.protocol.era import is_modern
from bridge.protocol.errors import Fault, Rejection
from bridge.protocol.messages import Notification, Request
from bridge.protocol.modern import VERSION
from bridge.protocol.versions import HANDSHAKE_VERSIONS

PLAIN = Request(b"1", "tools/list", b'{"a":1}')


def enveloped(**more: Any) -> Request:
    return Request(b"1", "tools/list", json.dumps({"_meta": {VERSION: "2026-07-28"}, **more}).encode())


@pytest.mark.parametrize("header", [*HANDSHAKE_VERSIONS, None])
def test_a_request_without_an_envelope_is_of_the_handshake_era(header: str | None) -> None:
    assert not is_modern(header, PLAIN)
    assert not is_modern(header, Notification("notifications/initialized"))
    assert not is_modern(header, None)


@pytest.mark.parametrize("header", ["2026-07-28", "2099-01-01", "1999-01-01", ""])
def test_a_header_of_any_other_version_makes_it_modern(header: str) -> None:
    assert is_modern(header, PLAIN)
    assert is_modern(header, None)


def test_an_envelope_makes_it_modern() -> None:
    assert is_modern(None, enveloped())
    assert is_modern("2026-07-28", enveloped())


def test_an_escaped_spelling_does_not_hide_the_envelope() -> None:
    key = VERSION.replace("V", "\\u0056")
    assert is_modern(None, Request(b"1", "x", f'{{"_meta":{{"{key}":"2026-07-28"}}}}'.encode()))


@pytest.mark.parametrize(
    "params",
    [
        b'{"arguments":{"text":"io.modelcontextprotocol/protocolVersion"}}',
        b'{"_meta":[]}',
        b'{"_meta":{"a":"\\u00e9"}}',
    ],
)
def test_the_key_counts_only_where_it_belongs(params: bytes) -> None:
    assert not is_modern(None, Request(b"1", "tools/call", params))


@pytest.mark.parametrize("header", HANDSHAKE_VERSIONS)
def test_a_request_that_claims_both_eras_is_refused(header: str) -> None:
    with pytest.raises(Rejection) as caught:
        is_modern(header, enveloped())
    assert caught.value.fault is Fault.HEADER_MISMATCH
