"""What a modern client says twice is the same both times."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.protocol.errors import Fault, Rejection
from bridge.protocol.headers import headers_of, wrap
from bridge.protocol.messages import Request
from bridge.protocol.modern import (
    CAPABILITIES,
    VERSION,
    check_envelope,
    check_parameters,
    mirrored_parameters,
    unwrap,
)

utf8 = st.text(st.characters(codec="utf-8"))
ENVELOPE = {VERSION: "2026-07-28", CAPABILITIES: {}}


def request(method: str, **params: Any) -> Request:
    return Request(b"1", method, json.dumps({**params, "_meta": ENVELOPE}).encode())


@given(utf8)
def test_any_text_comes_back_from_a_header_and_fits_into_one(text: str) -> None:
    value = wrap(text)
    assert unwrap(value) == text
    assert value.isascii()
    assert value.isprintable()
    assert value == value.strip()


@pytest.mark.parametrize("text", ["echo", "file:///a b", "", "a=?base64?b?=", "=?BASE64?YQ==?="])
def test_what_arrives_unchanged_is_not_wrapped(text: str) -> None:
    assert wrap(text) == text


@given(st.sampled_from(["tools/call", "prompts/get", "resources/read", "tools/list", "x/y"]), utf8)
def test_a_server_accepts_the_headers(method: str, name: str) -> None:
    asked = request(method, name=name, uri=name)
    given_headers = {key.lower(): [value] for key, value in headers_of(asked, {}).items()}
    assert check_envelope(asked, given_headers).method == method


values = st.none() | st.booleans() | st.integers() | utf8


@given(values, values, st.booleans())
def test_arguments_are_repeated_as_a_server_checks_them(one: Any, other: Any, there: bool) -> None:
    schema = {
        "properties": {
            "one": {"type": "string", "x-mcp-header": "One"},
            "in": {"properties": {"other": {"type": "integer", "x-mcp-header": "Other"}}},
        }
    }
    arguments = {"one": one, "in": {"other": other}} if there else {}
    asked = request("tools/call", name="x", arguments=arguments)
    mirrored = mirrored_parameters(schema)
    given_headers = {key.lower(): [value] for key, value in headers_of(asked, mirrored).items()}
    check_parameters(asked, given_headers, mirrored)
    assert ("mcp-param-one" in given_headers) == (there and one is not None)


@pytest.mark.parametrize("argument", ['{"a":1}', "[1]", "null"])
def test_what_no_header_can_say_is_left_out(argument: str) -> None:
    asked = Request(b"1", "tools/call", f'{{"name":"x","arguments":{{"a":{argument}}}}}'.encode())
    assert set(headers_of(asked, {"mcp-param-a": ("a",)})) == {"MCP-Protocol-Version", "Mcp-Method", "Mcp-Name"}


@pytest.mark.parametrize("method", ["a\r\nX-Evil: 1", "é", " a", "a\0"])
def test_a_method_that_no_header_can_name_is_refused(method: str) -> None:
    with pytest.raises(Rejection) as refused:
        headers_of(Request(b"1", method), {})
    assert refused.value.fault is Fault.UNKNOWN_METHOD
