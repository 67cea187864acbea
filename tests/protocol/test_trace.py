"""The context of a trace in params: what else is there stays."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.protocol.messages import Request
from bridge.protocol.trace import context_in, with_context

CONTEXT = {"traceparent": "00-a-b-01", "tracestate": 'x="1"'}
VALUES = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text())
NAMES = st.sampled_from(["a", "_meta", "traceparent", "tracestate", '"', "\\", "é"]) | st.text()
OBJECTS = st.dictionaries(NAMES, VALUES)


@given(OBJECTS, OBJECTS | st.none(), st.sampled_from([None, 1]), st.booleans())
def test_a_context_replaces_the_one_that_is_there(
    params: dict[str, object], meta: dict[str, object] | None, indent: int | None, escaped: bool
) -> None:
    params.pop("_meta", None)
    wanted = {**params, "_meta": {**(meta or {}), **CONTEXT}}
    if meta is not None:
        params["_meta"] = meta
    request = Request(b"1", "x", json.dumps(params, indent=indent, ensure_ascii=escaped).encode(errors="surrogatepass"))
    changed = with_context(request, CONTEXT)
    assert json.loads(changed.params) == wanted
    assert context_in(changed, CONTEXT) == CONTEXT
    assert (changed.id, changed.method) == (b"1", "x")


@pytest.mark.parametrize("params", [b"", b"{}", b"{ }"])
def test_params_that_are_not_there_are_made(params: bytes) -> None:
    assert with_context(Request(b"1", "x", params), {"traceparent": "p"}).params == b'{"_meta":{"traceparent":"p"}}'


@pytest.mark.parametrize("meta", [b"null", b"[]", b'"x"', b"1"])
def test_what_is_no_object_holds_none(meta: bytes) -> None:
    request = Request(b"1", "x", b'{"_meta":%b}' % meta)
    assert with_context(request, CONTEXT) is request
    assert context_in(request, CONTEXT) == {}
