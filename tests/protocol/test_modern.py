"""The modern era's envelope, the headers that repeat it, and the order in which they are looked at."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.protocol import jsontext
from bridge.protocol.errors import Fault, Rejection
from bridge.protocol.messages import Request
from bridge.protocol.modern import (
    CAPABILITIES,
    CLIENT_INFO,
    LOG_LEVEL,
    REMOVED,
    VERSION,
    ModernRequest,
    check_envelope,
    check_parameters,
    mirrored_parameters,
    status_of,
    unwrap,
    with_meta,
)

#: A busy machine is no failure.
quick = settings(max_examples=60)
utf8 = st.text(st.characters(codec="utf-8"))


@dataclass
class Draft:
    """A request that is right until something is done to it."""

    method: str = "tools/call"
    params: dict[str, Any] = field(default_factory=lambda: {"name": "t", "arguments": {}})
    meta: dict[str, Any] = field(default_factory=lambda: {VERSION: "2026-07-28", CAPABILITIES: {"roots": {}}})
    headers: dict[str, list[str]] = field(
        default_factory=lambda: {
            "mcp-protocol-version": ["2026-07-28"],
            "mcp-method": ["tools/call"],
            "mcp-name": ["t"],
        }
    )

    def check(self) -> ModernRequest:
        params = json.dumps({**self.params, "_meta": self.meta}).encode()
        return check_envelope(Request(b"1", self.method, params), self.headers)

    def rejection(self) -> Rejection:
        with pytest.raises(Rejection) as refused:
            self.check()
        return refused.value


# The ladder


def header_twice(draft: Draft) -> None:
    draft.headers["mcp-method"] = ["tools/call", "tools/call"]


def no_version(draft: Draft) -> None:
    draft.meta.pop(VERSION)


def no_capabilities(draft: Draft) -> None:
    draft.meta.pop(CAPABILITIES)


def capabilities_are_no_object(draft: Draft) -> None:
    draft.meta[CAPABILITIES] = ["roots"]


def version_header_differs(draft: Draft) -> None:
    draft.headers["mcp-protocol-version"] = ["2025-11-25"]


def method_header_differs(draft: Draft) -> None:
    draft.headers["mcp-method"] = ["Tools/Call"]


def no_name(draft: Draft) -> None:
    draft.params.pop("name")


def name_header_differs(draft: Draft) -> None:
    draft.headers["mcp-name"] = ["T"]


def version_is_not_served(draft: Draft) -> None:
    draft.meta[VERSION] = "2099-01-01"
    draft.headers["mcp-protocol-version"] = ["2099-01-01"]


def method_is_removed(draft: Draft) -> None:
    draft.method = "ping"
    draft.headers["mcp-method"] = ["ping"]


#: First to last: what is wrong, and what is said about it.
LADDER: list[tuple[Callable[[Draft], None], Fault, str]] = [
    (header_twice, Fault.HEADER_MISMATCH, "more than once"),
    (no_version, Fault.BAD_PARAMS, f'"{VERSION}"] is missing'),
    (no_capabilities, Fault.BAD_PARAMS, f'"{CAPABILITIES}"] is missing'),
    (capabilities_are_no_object, Fault.BAD_PARAMS, "must be an object"),
    (version_header_differs, Fault.HEADER_MISMATCH, "mcp-protocol-version"),
    (method_header_differs, Fault.HEADER_MISMATCH, "mcp-method"),
    (no_name, Fault.BAD_PARAMS, "params.name"),
    (name_header_differs, Fault.HEADER_MISMATCH, "mcp-name"),
    (version_is_not_served, Fault.UNSUPPORTED_VERSION, "2099-01-01"),
    (method_is_removed, Fault.UNKNOWN_METHOD, "ping"),
]
#: A removed method has no name that could be wrong.
IMPOSSIBLE = {(no_name, method_is_removed), (name_header_differs, method_is_removed)}


def test_a_request_without_a_fault_is_served() -> None:
    draft = Draft()
    draft.meta |= {CLIENT_INFO: {"name": "c"}, LOG_LEVEL: "info"}
    asked = draft.check()
    assert (asked.method, asked.name, asked.log_level) == ("tools/call", "t", "info")
    assert (json.loads(asked.capabilities), json.loads(asked.client_info)) == ({"roots": {}}, {"name": "c"})


def test_client_info_and_a_log_level_may_be_missing() -> None:
    asked = Draft().check()
    assert (asked.client_info, asked.log_level) == (b"", None)


@pytest.mark.parametrize(("spoil", "fault", "said"), LADDER)
def test_each_fault_is_told_by_its_own_error(spoil: Callable[[Draft], None], fault: Fault, said: str) -> None:
    draft = Draft()
    spoil(draft)
    rejection = draft.rejection()
    assert rejection.fault is fault
    assert said in str(rejection)


@pytest.mark.parametrize(
    ("first", "second"),
    [(a, b) for a, b in itertools.combinations(LADDER, 2) if (a[0], b[0]) not in IMPOSSIBLE],
    ids=lambda rung: rung[0].__name__,
)
def test_of_two_faults_the_earlier_one_is_told(first: Any, second: Any) -> None:
    draft = Draft()
    second[0](draft)
    first[0](draft)
    rejection = draft.rejection()
    assert rejection.fault is first[1]
    assert first[2] in str(rejection)


@pytest.mark.parametrize("header", ["mcp-protocol-version", "mcp-method", "mcp-name"])
def test_a_routing_header_is_there_exactly_once(header: str) -> None:
    draft = Draft()
    draft.headers[header] *= 2
    assert draft.rejection().fault is Fault.HEADER_MISMATCH
    del draft.headers[header]
    assert draft.rejection().fault is Fault.HEADER_MISMATCH
    assert f"header {header} is missing" in str(draft.rejection())


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({}, ""),
        ({"mcp-protocol-version": ["2026-07-28"]}, ""),
        (
            {"mcp-protocol-version": ["2025-06-19"]},
            "; a session has header mcp-protocol-version 2024-11-05, 2025-03-26, 2025-06-18, 2025-11-25, "
            "not '2025-06-19'",
        ),
    ],
)
def test_an_unknown_version_without_an_envelope_is_told_what_it_could_be(
    headers: dict[str, list[str]], said: str
) -> None:
    draft = Draft(headers=headers)
    draft.meta.pop(VERSION)
    assert str(draft.rejection()) == f'params._meta["{VERSION}"] is missing{said}'


def test_any_other_header_may_be_there_twice_or_not_at_all() -> None:
    draft = Draft()
    draft.headers |= {"accept": ["application/json", "text/event-stream"], "mcp-session-id": ["a", "b"]}
    assert draft.check().name == "t"


@pytest.mark.parametrize("meta", [None, [], "x", 7, {}])
def test_no_meta_is_an_envelope_without_a_version(meta: Any) -> None:
    draft = Draft(meta=meta)
    assert draft.rejection().fault is Fault.BAD_PARAMS
    assert VERSION in str(draft.rejection())


def test_a_request_without_params_is_one_without_an_envelope() -> None:
    with pytest.raises(Rejection, match="protocolVersion") as refused:
        check_envelope(Request(b"1", "tools/list"), Draft().headers)
    assert refused.value.fault is Fault.BAD_PARAMS


@pytest.mark.parametrize("capabilities", [None, [], "{}", True, 7])
def test_capabilities_are_an_object(capabilities: Any) -> None:
    draft = Draft()
    draft.meta[CAPABILITIES] = capabilities
    assert draft.rejection().fault is Fault.BAD_PARAMS


@pytest.mark.parametrize("version", [None, 20260728, ["2026-07-28"], "", "2026-07-28 "])
def test_a_version_is_a_text_that_the_header_repeats(version: Any) -> None:
    draft = Draft()
    draft.meta[VERSION] = version
    assert draft.rejection().fault is Fault.HEADER_MISMATCH


@pytest.mark.parametrize("version", ["2099-01-01", "2025-11-25", "", "x" * 1000])
def test_a_version_that_is_not_served_is_told_those_that_are(version: str) -> None:
    draft = Draft()
    draft.meta[VERSION] = version
    draft.headers["mcp-protocol-version"] = [version]
    rejection = draft.rejection()
    assert rejection.fault is Fault.UNSUPPORTED_VERSION
    assert rejection.data == {"supported": ["2026-07-28"], "requested": version}
    assert len(str(rejection)) < 100


@pytest.mark.parametrize("method", sorted(REMOVED))
def test_what_the_handshake_era_had_does_not_exist(method: str) -> None:
    draft = Draft(method=method)
    draft.headers["mcp-method"] = [method]
    assert draft.rejection().fault is Fault.UNKNOWN_METHOD


@pytest.mark.parametrize(
    ("method", "names", "other"),
    [("tools/call", "name", "uri"), ("prompts/get", "name", "uri"), ("resources/read", "uri", "name")],
)
def test_the_name_header_repeats_what_is_asked_for(method: str, names: str, other: str) -> None:
    draft = Draft(method=method, params={names: "right", other: "wrong"})
    draft.headers |= {"mcp-method": [method], "mcp-name": ["right"]}
    assert draft.check().name == "right"
    draft.headers["mcp-name"] = ["wrong"]
    assert draft.rejection().fault is Fault.HEADER_MISMATCH
    for missing in (None, 7, ["right"]):
        draft.params[names] = missing
        assert draft.rejection().fault is Fault.BAD_PARAMS


def test_a_method_without_a_name_needs_no_name_header() -> None:
    draft = Draft(method="tools/list")
    draft.headers |= {"mcp-method": ["tools/list"], "mcp-name": ["whatever"]}
    assert draft.check().name is None


# Base64


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ("", ""),
        ("=?base64?w6k=?=", "é"),
        ("=?base64??=", ""),
        ("=?base64?IGEg?=", " a "),
        ("=?base64?PT9iYXNlNjQ/eD89?=", "=?base64?x?="),  # only the outer wrapping is taken off
        ("=?base64?bi9h", "=?base64?bi9h"),  # no end, so it is no wrapping
        ("bi9h?=", "bi9h?="),
        ("=?BASE64?bi9h?=", "=?BASE64?bi9h?="),  # the markers are case-sensitive
        (" =?base64?bi9h?=", " =?base64?bi9h?="),
        ("=?base64?bi9?=", None),  # broken padding
        ("=?base64?!!!!?=", None),
        ("=?base64?bi 9h?=", None),
        ("=?base64?bi9h?=?=", None),
        ("=?base64?_-8=?=", None),  # the alphabet of URLs is another one
        ("=?base64?/w==?=", None),  # no UTF-8
        ("=?base64?é?=", None),
    ],
)
def test_a_header_value_may_be_wrapped_in_base64(value: str, text: str | None) -> None:
    assert unwrap(value) == text


def test_both_markers_must_be_there_to_make_a_wrapping() -> None:
    assert unwrap("=?base64?=") == "=?base64?="


def test_base64_with_bits_to_spare_is_broken() -> None:
    assert unwrap("=?base64?YR==?=") is None


def wrap(text: str) -> str:
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="


@quick
@given(utf8)
def test_any_text_survives_base64(text: str) -> None:
    assert unwrap(wrap(text)) == text
    draft = Draft(params={"name": text})
    draft.headers["mcp-name"] = [wrap(text)]
    assert draft.check().name == text


@pytest.mark.parametrize("header", ["mcp-protocol-version", "mcp-method"])
def test_only_names_and_arguments_may_be_wrapped(header: str) -> None:
    draft = Draft()
    draft.headers[header] = [wrap(draft.headers[header][0])]
    assert draft.rejection().fault is Fault.HEADER_MISMATCH


def test_a_broken_wrapping_equals_nothing() -> None:
    draft = Draft(params={"name": "=?base64?!!!!?="})
    draft.headers["mcp-name"] = ["=?base64?!!!!?="]
    assert draft.rejection().fault is Fault.HEADER_MISMATCH


# Which arguments are mirrored


def asks_for(name: Any, type_: Any = "string", **more: Any) -> dict[str, Any]:
    """The schema of a property that is to be mirrored."""
    return {"type": type_, "x-mcp-header": name, **more}


def test_mirrored_arguments_are_found_at_any_depth_of_properties() -> None:
    schema = {
        "type": "object",
        "properties": {
            "region": asks_for("Region"),
            "n": asks_for("Count-1", "integer"),
            "deep": {"properties": {"er": {"properties": {"flag": asks_for("flag", "boolean")}}}},
            "plain": {"type": "string"},
        },
    }
    assert mirrored_parameters(schema) == {
        "mcp-param-region": ("region",),
        "mcp-param-count-1": ("n",),
        "mcp-param-flag": ("deep", "er", "flag"),
    }


@pytest.mark.parametrize(
    "schema",
    [
        None,
        True,
        [],
        "x",
        {},
        {"properties": None},
        {"properties": [asks_for("A")]},
        {"properties": {"a": None, "b": True, "c": [], "d": "x"}},
        {"properties": {"a": asks_for("A", "number")}},
        {"properties": {"a": asks_for("A", "object")}},
        {"properties": {"a": asks_for("A", ["string", "null"])}},
        {"properties": {"a": asks_for("A", None)}},
        {"properties": {"a": {"x-mcp-header": "A"}}},
        {"properties": {"a": asks_for(7)}},
        {"properties": {"a": asks_for(None)}},
        {"properties": {"a": asks_for(["A"])}},
        {"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": asks_for("A")}},
        {"properties": {"a": {"items": asks_for("A")}}},
        {"properties": {"a": {"anyOf": [asks_for("A")]}}},
        {"allOf": [{"properties": {"a": asks_for("A")}}]},
        {"items": {"properties": {"a": asks_for("A")}}},
        asks_for("A"),
    ],
    ids=json.dumps,
)
def test_a_schema_without_a_plain_path_of_properties_mirrors_nothing(schema: Any) -> None:
    assert mirrored_parameters(schema) == {}


def test_a_schema_that_refers_to_itself_ends() -> None:
    schema = {"$ref": "#", "properties": {"a": {"$ref": "#", "properties": {"b": {"$ref": "#/properties/a"}}}}}
    assert mirrored_parameters(schema) == {}
    schema["properties"]["a"] |= asks_for("A")  # type: ignore[index]
    assert mirrored_parameters(schema) == {"mcp-param-a": ("a",)}


def test_a_property_may_be_called_like_a_keyword() -> None:
    schema = {"properties": {"properties": asks_for("A"), "x-mcp-header": asks_for("B"), "type": {"type": "string"}}}
    assert mirrored_parameters(schema) == {"mcp-param-a": ("properties",), "mcp-param-b": ("x-mcp-header",)}


@pytest.mark.parametrize("name", ["", "a b", "é", "a:b", "a\r\nb"])
def test_a_name_that_is_no_token_makes_the_whole_schema_mirror_nothing(name: str) -> None:
    assert mirrored_parameters({"properties": {"a": asks_for(name), "b": asks_for("B")}}) == {}


def test_two_arguments_cannot_share_a_header() -> None:
    assert mirrored_parameters({"properties": {"a": asks_for("Same"), "b": asks_for("sAME")}}) == {}


def deepest_schema() -> tuple[Any, int]:
    """The deepest input schema that can be read from a child, and how deep it is."""
    low, high = 1, 20_000
    while low < high:
        depth = (low + high + 1) // 2
        nest = b'{"properties":{"a":' * depth + json.dumps(asks_for("A")).encode() + b"}}" * depth
        if jsontext.decode(nest) is None:
            high = depth - 1
        else:
            low = depth
    nest = b'{"properties":{"a":' * low + json.dumps(asks_for("A")).encode() + b"}}" * low
    return jsontext.decode(nest), low


def test_no_schema_that_was_read_is_too_deep() -> None:
    schema, depth = deepest_schema()
    try:
        found = mirrored_parameters(schema) == {"mcp-param-a": ("a",) * depth}
    except RecursionError:  # its traceback would take minutes to write
        found = False
    assert found


# What the headers must say

MIRRORED = {"mcp-param-a": ("a",)}


def agree(argument: str | None, *header: str) -> bool:
    """Whether an argument, as JSON text, and its header say the same."""
    return fits("{}" if argument is None else f'{{"a":{argument}}}', {"mcp-param-a": list(header)} if header else {})


def fits(
    arguments: str | None, headers: dict[str, list[str]], mirrored: dict[str, tuple[str, ...]] | None = None
) -> bool:
    params = '{"name":"t"}' if arguments is None else f'{{"name":"t","arguments":{arguments}}}'
    try:
        check_parameters(Request(b"1", "tools/call", params.encode()), headers, mirrored or MIRRORED)
    except Rejection as rejection:
        if rejection.fault is not Fault.HEADER_MISMATCH:
            raise
        return False
    return True


@pytest.mark.parametrize(
    ("argument", "header"),
    [
        ('"x"', "x"),
        ('""', ""),
        (r'"\u00e9"', "=?base64?w6k=?="),
        ('" x"', "=?base64?IHg=?="),
        ('"=?base64?eA==?="', "=?base64?PT9iYXNlNjQ/ZUE9PT89?="),
        ('"true"', "true"),
        ('"1"', "1"),
        ("true", "true"),
        ("false", "false"),
        ("true", "=?base64?dHJ1ZQ==?="),
        ("0", "0"),
        ("-7", "-7"),
        ("1", "1.0"),
        ("1", "1e0"),
        ("1.0", "1"),
        ("1.0", "1e0"),
        ("1e0", "1"),
        ("1e0", "1.0"),
        ("100", "1e2"),
        ("1E+2", "100.00"),
        ("-0", "0"),
        ("9007199254740993", "9007199254740993"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
    ],
)
def test_an_argument_and_a_header_that_say_the_same_agree(argument: str, header: str) -> None:
    assert agree(argument, header)


@pytest.mark.parametrize(
    ("argument", "header"),
    [
        ('"x"', "X"),
        ('"x"', "=?base64?!!!!?="),
        ('"1"', "1.0"),
        ('""', "null"),
        ("true", "True"),
        ("true", "1"),
        ("1", "true"),
        ("0", "false"),
        ("false", ""),
        ("1", ""),
        ("1", "one"),
        ("1", "2"),
        ("1", "-1"),
        ("1", "1.5"),
        ("1", "0x1"),
        ("1", "=?base64?!!!!?="),
        ("1", "nan"),
        ("{}", "{}"),
        ("[1]", "1"),
        ("1e999", "inf"),
        ("123456789012345678901234567890", "123456789012345678"),
    ],
)
def test_an_argument_and_a_header_that_say_different_things_do_not_agree(argument: str, header: str) -> None:
    assert not agree(argument, header)


@quick
@given(st.integers(-(2**53), 2**53), st.integers(-2, 2))
def test_integers_agree_if_they_are_equal(value: int, off: int) -> None:
    if abs(value + off) <= 2**53:
        assert agree(str(value), str(value + off)) == (off == 0)


@pytest.mark.parametrize(
    ("argument", "header"),
    [
        ("9007199254740992", "9007199254740993"),
        ("9007199254740993", "9007199254740992"),
        ("-9007199254740993", "-9007199254740992.0"),
        ("123456789012345678901234567890", "123456789012345678901234567891"),
        ("18446744073709551616", "1.8446744073709551615e19"),
    ],
)
def test_integers_that_no_float_tells_apart_differ(argument: str, header: str) -> None:
    assert not agree(argument, header)


def test_an_integer_beyond_any_float_is_compared_too() -> None:
    assert not agree("1" + "0" * 400, "1")
    assert agree("1" + "0" * 400, "1" + "0" * 400)


@pytest.mark.parametrize(("argument", "header"), [("10", "1_0"), ("1", "+1"), ("3", wrap("٣")), ("1", wrap(" 1\n"))])
def test_a_number_in_a_header_is_one_of_json(argument: str, header: str) -> None:
    assert not agree(argument, header)


@pytest.mark.parametrize("argument", [None, "null"])
def test_an_argument_that_is_missing_or_null_has_no_header(argument: str | None) -> None:
    assert agree(argument)
    for header in ("", "null", "None", "false", "0", "=?base64?!!!!?="):
        assert not agree(argument, header)


@pytest.mark.parametrize("argument", ['"x"', '""', "0", "false", "true"])
def test_an_argument_that_is_there_has_its_header(argument: str) -> None:
    assert not agree(argument)


@pytest.mark.parametrize("argument", ["{}", "[]", '{"a":1}'])
def test_an_argument_that_no_header_can_say_is_left_to_the_server(argument: str) -> None:
    assert agree(argument)


def test_a_header_that_is_there_twice_agrees_with_nothing() -> None:
    assert agree('"x"', "x")
    assert not agree('"x"', "x", "x")
    assert not agree(None, "x", "x")


@pytest.mark.parametrize(
    "arguments", [None, "{}", "null", "[]", '"x"', '{"a":{}}', '{"a":null}', '{"a":"b"}', '{"b":1}']
)
def test_a_path_that_leads_nowhere_is_a_missing_argument(arguments: str | None) -> None:
    mirrored = {"mcp-param-x": ("a", "b", "c")}
    assert fits(arguments, {}, mirrored)
    assert not fits(arguments, {"mcp-param-x": ["1"]}, mirrored)


def test_each_mirrored_argument_is_looked_up_on_its_own_path() -> None:
    mirrored = {"mcp-param-x": ("o", "x"), "mcp-param-y": ("x",)}
    arguments = '{"o":{"x":"inner"},"x":"outer"}'
    assert fits(arguments, {"mcp-param-x": ["inner"], "mcp-param-y": ["outer"]}, mirrored)
    assert not fits(arguments, {"mcp-param-x": ["outer"], "mcp-param-y": ["inner"]}, mirrored)
    assert not fits(arguments, {"mcp-param-x": ["inner"]}, mirrored)


def test_an_argument_is_called_exactly_as_its_property() -> None:
    assert not fits('{"A":"x"}', {"mcp-param-a": ["x"]})


def test_of_an_argument_that_is_there_twice_the_last_counts_as_for_the_server() -> None:
    assert fits('{"a":"first","a":"last"}', {"mcp-param-a": ["last"]})
    assert not fits('{"a":"first","a":"last"}', {"mcp-param-a": ["first"]})


def test_an_escaped_name_does_not_hide_an_argument() -> None:
    assert fits(r'{"\u0061":"x"}', {"mcp-param-a": ["x"]})
    assert not fits(r'{"\u0061":"x"}', {})


def test_headers_that_mirror_nothing_are_not_looked_at() -> None:
    request = Request(b"1", "tools/call", b'{"name":"t","arguments":{"a":"x"}}')
    check_parameters(request, {"mcp-param-a": ["y", "z"]}, {})
    check_parameters(request, {"mcp-param-a": ["x"], "mcp-param-other": ["y", "z"]}, MIRRORED)


def test_what_python_cannot_hold_does_not_hide_the_other_arguments() -> None:
    arguments = '{"a":"secret","b":1e999}'
    assert not fits(arguments, {})
    assert fits(arguments, {"mcp-param-a": ["secret"]})


# Statuses


@pytest.mark.parametrize(
    ("code", "status"),
    [(-32601, 404), (-32020, 400), (-32021, 400), (-32022, 400), (-32603, 200), (-32000, 200), (0, 200), (None, 200)],
)
def test_an_error_of_a_server_has_the_status_of_its_code(code: int | None, status: int) -> None:
    assert status_of(code) == status


# Entries of _meta

_fragile = st.sampled_from(
    [b"1e999", b"1.10", rb'"\u00e9"', b'{"b":1,"a":2}', b"123456789012345678901234567890", b"null"]
)
_entries = st.dictionaries(st.sampled_from(["x/a", "x/b"]), _fragile)


def an_object(members: dict[str, bytes]) -> bytes:
    return b"{%b}" % b",".join(json.dumps(name).encode() + b":" + value for name, value in members.items())


@quick
@given(
    st.dictionaries(st.sampled_from(["b", "a"]), _fragile), st.dictionaries(st.sampled_from("mn"), _fragile), _entries
)
def test_entries_of_meta_come_and_go_and_leave_the_rest_untouched(
    members: dict[str, bytes], meta: dict[str, bytes], entries: dict[str, bytes]
) -> None:
    params = an_object({**members, "_meta": an_object(meta)} if meta else members)
    there = with_meta(params, entries)
    assert there == (an_object({**members, "_meta": an_object({**meta, **entries})}) if meta or entries else params)
    assert with_meta(there, dict.fromkeys(entries, b"")) == params


def test_an_entry_replaces_the_one_of_its_name_however_that_is_written() -> None:
    params = rb'{"_meta":{"\u0078":1,"y":[ 1 ]},"a":{ }}'
    assert with_meta(params, {"x": b"2"}) == b'{"_meta":{"x":2,"y":[ 1 ]},"a":{ }}'
    assert with_meta(params, {"x": b"", "y": b""}) == b'{"a":{ }}'


@pytest.mark.parametrize("params", [b"", b"{}", b"null", b"[]", b'{"_meta":null}', b'{"_meta":7}', b'{"_meta":{}}'])
def test_meta_is_made_where_it_is_missing(params: bytes) -> None:
    assert with_meta(params, {"x": b"1"}) == b'{"_meta":{"x":1}}'
    assert with_meta(params, {"x": b""}) == b"{}"
    assert with_meta(params, {}) == b"{}"
