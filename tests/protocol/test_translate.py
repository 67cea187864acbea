"""Between the eras: what both can say survives the way there and back, and nobody rewrites what a user wrote.

The first half lets hypothesis write messages as text, because bytes are what must not change: the order of keys,
numbers that Python cannot hold, escapes. The second half is one example per thing that only one era can say.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.protocol import jsontext, messages, translate
from bridge.protocol.errors import Rejection
from bridge.protocol.jsontext import Raw
from bridge.protocol.messages import Request
from bridge.protocol.modern import CACHED, CAPABILITIES, CLIENT_INFO, LOG_LEVEL, PREFIX, SERVER_INFO, VERSION
from bridge.protocol.versions import HANDSHAKE_VERSIONS

METHODS = sorted({*CACHED, "tools/call", "prompts/get", "completion/complete"} - {"server/discover"})
INFO = b'{"name":"s","version":"1.10"}'
#: What decoding and encoding again would change, or lose.
FRAGILE = (
    "1e999",
    "-1e999",
    "1.10",
    "-0.0",
    "1E+2",
    "123456789012345678901234567890",
    "0.1234567890123456789012345678901",
    r'"\u00e9\ud83d\ude00"',
    r'"a\/b"',
    '"é😀"',
    '{"z":1,"a":2,"m":3}',
    '{"twice":1,"twice":2}',
    "[ 1,\t2 ]",
)

#: A busy machine is no failure.
quick = settings(max_examples=50)

# Messages as text

texts = st.recursive(
    st.sampled_from((*FRAGILE, "null", "true", "7", '"text"', "{}", "[]")),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]")
        | st.dictionaries(st.sampled_from(["b", "a", "é", "taskId"]), inner, max_size=3).map(lambda m: an_object(m))
    ),
    max_leaves=5,
)


def an_object(members: dict[str, str]) -> str:
    return f"{{{','.join(f'{json.dumps(name)}:{value}' for name, value in members.items())}}}"


def objects(*names: str, least: int = 0) -> st.SearchStrategy[str]:
    """Objects with some of these members, in any order."""
    return st.dictionaries(st.sampled_from(names), texts, min_size=least).map(an_object)


metas = objects("progressToken", "traceparent", "example.com/x", "é", least=1)
handshake_params = st.builds(
    lambda members, meta, first: joined(members, meta, first),
    objects("name", "arguments", "uri", "cursor", "z", "é"),
    st.none() | metas,
    st.booleans(),
)
handshake_results = st.builds(
    lambda members, meta, first: joined(members, meta, first),
    objects("tools", "prompts", "contents", "nextCursor", "isError", "é"),
    st.none() | metas,
    st.booleans(),
)


def joined(members: str, meta: str | None, first: bool) -> bytes:
    """The same object with ``_meta`` at its begin or end."""
    parts = [part for part in (members[1:-1], "" if meta is None else f'"_meta":{meta}') if part]
    return "{{{}}}".format(",".join(reversed(parts) if first else parts)).encode()


def contents(text: bytes) -> tuple[list[tuple[str, bytes]], list[tuple[str, bytes]]]:
    """The members in order with their bytes, and those of ``_meta``, wherever that stands."""
    members = jsontext.fields(text)
    meta = jsontext.fields(bytes(members.pop("_meta", b"")))
    return [(k, bytes(v)) for k, v in members.items()], [(k, bytes(v)) for k, v in meta.items()]


def member(text: bytes, *path: str) -> bytes | None:
    """The bytes of a member, None where it is missing."""
    for name in path:
        members = jsontext.fields(text)
        if name not in members:
            return None
        text = bytes(members[name])
    return text


# There and back


@quick
@given(handshake_params, objects("sampling", "roots"), st.none() | objects("name"), st.none() | st.just("error"))
def test_params_come_back_from_the_modern_era_as_they_went(
    params: bytes, capabilities: str, info: str | None, level: str | None
) -> None:
    up = translate.params_up(params, capabilities.encode(), (info or "").encode(), level)
    assert member(up, "_meta", VERSION) == b'"2026-07-28"'
    assert member(up, "_meta", CAPABILITIES) == capabilities.encode()
    assert member(up, "_meta", CLIENT_INFO) == (None if info is None else info.encode())
    assert member(up, "_meta", LOG_LEVEL) == (None if level is None else b'"error"')
    assert contents(translate.params_down(up)) == contents(params)


@quick
@given(handshake_params)
def test_a_modern_request_comes_back_from_a_handshake_child_as_it_went(params: bytes) -> None:
    envelope = (b'{"sampling":{"b":1e999,"a":1.10}}', b'{"name":"c"}', "info")
    modern = translate.params_up(params, *envelope)
    assert contents(translate.params_up(translate.params_down(modern), *envelope)) == contents(modern)


@quick
@given(st.sampled_from(METHODS), handshake_results)
def test_a_result_comes_back_from_the_modern_era_as_it_went(method: str, result: bytes) -> None:
    if method == "tools/call":
        result = b'{"content":[{"type":"text","n":1e999}],"structuredContent":{"b":1.10,"a":1e999},' + result[1:]
        result = result.replace(b",}", b"}")
    up = translate.result_up(method, result, INFO)
    assert member(up, "resultType") == b'"complete"'
    assert member(up, "_meta", SERVER_INFO) == INFO
    assert contents(translate.result_down(method, up)) == contents(result)


@quick
@given(st.sampled_from(METHODS), handshake_results)
def test_a_modern_result_comes_back_from_a_handshake_client_as_it_went(method: str, result: bytes) -> None:
    if method == "tools/call":
        result = joined('{"content":[]}', result.decode(), False)
    modern = translate.result_up(method, result, INFO)
    down = translate.result_down(method, modern)
    members, meta = contents(translate.result_up(method, down, INFO))
    assert (sorted(members), sorted(meta)) == tuple(map(sorted, contents(modern)))


@quick
@given(objects("tools", "logging", "prompts", "experimental"), objects("name", "version"), st.none() | texts)
def test_a_greeting_comes_back_from_discover_as_it_went(capabilities: str, info: str, instructions: str | None) -> None:
    greeting = {"protocolVersion": '"2025-06-18"', "capabilities": capabilities, "serverInfo": info}
    if instructions is not None:
        greeting["instructions"] = instructions
    text = an_object(greeting).encode()
    discovered = translate.discovered(text)
    assert member(discovered, "supportedVersions") == b'["2026-07-28"]'
    assert translate.initialized(discovered, "2025-06-18") == text
    assert translate.discovered(translate.initialized(discovered, "2025-06-18")) == discovered


def test_the_meta_of_a_greeting_survives() -> None:
    greeting = b'{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{},"_meta":{"example.com/x":1.10}}'
    discovered = translate.discovered(greeting)
    assert member(discovered, "_meta", "example.com/x") == b"1.10"
    assert member(translate.initialized(discovered, "2025-06-18"), "_meta") == b'{"example.com/x":1.10}'


@quick
@given(st.sampled_from([-32700, -32600, -32601, -32602, -32603, -32000, -32001, -32021, -1, 0, 7, -32042]), texts)
def test_an_error_that_both_eras_know_is_untouched(code: int, data: str) -> None:
    error = an_object({"data": data, "message": r'"n\u006f"', "code": str(code)}).encode()
    assert translate.error_up(error) == error


@quick
@given(texts)
def test_a_resource_that_is_not_there_is_a_bad_parameter_in_the_modern_era(data: str) -> None:
    error = an_object({"data": data, "code": "-32002", "message": '"gone"'}).encode()
    assert translate.error_up(error) == error.replace(b'"code":-32002', b'"code":-32602')


def test_an_error_of_a_loose_server_that_is_no_object_is_untouched() -> None:
    assert translate.error_up(b'"out of memory"') == b'"out of memory"'


# Bytes that nobody touches

UNTOUCHED: dict[str, Callable[[bytes], bytes | None]] = {
    "params down": lambda x: member(translate.params_down(b'{"_meta":{"%b/x":1},"a":%b}' % (PREFIX.encode(), x)), "a"),
    "meta down": lambda x: member(translate.params_down(b'{"_meta":{"t":%b}}' % x), "_meta", "t"),
    "params up": lambda x: member(translate.params_up(b'{"a":%b}' % x, b"{}", b"", None), "a"),
    "meta up": lambda x: member(translate.params_up(b'{"_meta":{"t":%b}}' % x, b"{}", b"", None), "_meta", "t"),
    "capabilities": lambda x: member(translate.params_up(b"", b'{"a":%b}' % x, b"", None), "_meta", CAPABILITIES, "a"),
    "client info": lambda x: member(translate.params_up(b"", b"{}", b'{"a":%b}' % x, None), "_meta", CLIENT_INFO, "a"),
    "tools up": lambda x: member(translate.result_up("tools/list", b'{"tools":[{"a":%b}]}' % x, INFO), "tools"),
    "tools down": lambda x: member(translate.result_down("tools/list", b'{"tools":[{"a":%b}]}' % x), "tools"),
    "result up": lambda x: member(translate.result_up("tools/call", b'{"content":%b}' % x, INFO), "content"),
    "result down": lambda x: member(translate.result_down("tools/call", b'{"content":%b}' % x), "content"),
    "structured": lambda x: member(
        translate.result_down("tools/call", b'{"structuredContent":{"a":%b}}' % x), "structuredContent", "a"
    ),
    "structured, wrapped": lambda x: member(
        translate.result_down("tools/call", b'{"structuredContent":[%b]}' % x), "structuredContent", "result"
    ),
    "error data": lambda x: member(translate.error_up(b'{"code":-32002,"data":%b}' % x), "data"),
    "server capability": lambda x: member(
        translate.discovered(b'{"capabilities":{"tasks":{},"a":%b}}' % x), "capabilities", "a"
    ),
    "instructions": lambda x: member(translate.initialized(b'{"instructions":%b}' % x, ""), "instructions"),
    "question of a child": lambda x: member(translate.question_of(b'{"id":1,"params":%b}' % x), "params"),
    "question of a result": lambda x: translate.questions_in(b'{"inputRequests":{"q":%b}}' % x)[0]["q"],
    "question asked": lambda x: member(translate.input_required({"q": x}, "s", INFO), "inputRequests", "q"),
    "question by url": lambda x: member(translate.question_params(b'{"mode":"url","a":%b}' % x, 1), "a"),
    "answer": lambda x: member(retried(b"{}", {"q": x}).params, "inputResponses", "q"),
    "state": lambda x: member(retried(b"{}", {}, x).params, "requestState"),
    "argument": lambda x: member(retried(b'{"arguments":%b}' % x, {}).params, "arguments"),
}


def retried(params: bytes, answers: dict[str, bytes], state: bytes | None = None) -> Request:
    return translate.retried(Request(b"1", "tools/call", params), answers, None if state is None else Raw(state))


@pytest.mark.parametrize("place", UNTOUCHED)
def test_a_payload_keeps_its_bytes(place: str) -> None:
    wanted = {"tools up": b'[{"a":%b}]', "tools down": b'[{"a":%b}]', "structured, wrapped": b"[%b]"}
    for payload in map(str.encode, FRAGILE):
        assert UNTOUCHED[place](payload) == wanted.get(place, b"%b") % payload


# What is missing, or no object

NOTHING = (b"", b"{}", b"null", b"[]", b'"x"', b"7", b'{"_meta":null}', b'{"_meta":[]}')


@pytest.mark.parametrize("params", NOTHING)
def test_no_params_are_an_envelope_alone_in_the_modern_era_and_nothing_in_the_other(params: bytes) -> None:
    up = translate.params_up(params, b"", b"", None)
    assert json.loads(up) == {"_meta": {VERSION: "2026-07-28", CAPABILITIES: {}}}
    assert translate.params_down(params) == b""
    assert translate.params_down(up) == b""


@pytest.mark.parametrize("result", NOTHING)
def test_a_result_without_anything_gets_what_its_era_must_say(result: bytes) -> None:
    hints = {"ttlMs": 0, "cacheScope": "private"}
    complete = {"resultType": "complete"}
    for method, more in {"tools/list": hints, "resources/read": hints, "tools/call": {"content": []}}.items():
        up = json.loads(translate.result_up(method, result, b""))
        assert {name: value for name, value in up.items() if name != "_meta"} == complete | more
    assert "ttlMs" not in json.loads(translate.result_up("prompts/get", result, b""))
    down = json.loads(translate.result_down("tools/call", result))
    assert {name: value for name, value in down.items() if name != "_meta"} == {}


@pytest.mark.parametrize("text", NOTHING)
def test_a_greeting_without_anything_is_still_one(text: bytes) -> None:
    assert json.loads(translate.discovered(text)) == {
        "resultType": "complete",
        "supportedVersions": ["2026-07-28"],
        "capabilities": {},
        "ttlMs": 0,
        "cacheScope": "private",
    }
    initialized = json.loads(translate.initialized(text, "2025-03-26"))
    assert initialized.pop("serverInfo").keys() == {"name", "version"}
    assert initialized == {"protocolVersion": "2025-03-26", "capabilities": {}}


@pytest.mark.parametrize("text", NOTHING)
def test_nothing_is_asked_where_no_question_stands(text: bytes) -> None:
    assert translate.urls_wanted(text) == {}
    assert translate.questions_in(text) == ({}, None)
    assert translate.question_params(text, 1) == text
    assert translate.question_of(text) == b"{}"
    assert translate.result_type(text) == "complete"


# What only one era can say


def test_the_envelope_and_the_answers_to_questions_do_not_reach_a_handshake_child() -> None:
    params = translate.params_up(b'{"_meta":{"progressToken":7},"name":"t"}', b"{}", b"{}", "info")
    params = translate.retried(Request(b"1", "tools/call", params), {"q": b"{}"}, Raw(b'"s"')).params
    assert json.loads(translate.params_down(params)) == {"name": "t", "_meta": {"progressToken": 7}}


def test_a_version_that_is_not_spoken_is_answered_with_the_latest_handshake_one() -> None:
    assert member(translate.initialized(b"{}", "2026-07-28"), "protocolVersion") == b'"2025-11-25"'
    assert member(translate.initialized(b"{}", ""), "protocolVersion") == b'"2025-11-25"'
    for version in HANDSHAKE_VERSIONS:
        assert member(translate.initialized(b"{}", version), "protocolVersion") == f'"{version}"'.encode()


def test_tasks_and_extensions_stay_in_their_eras() -> None:
    capabilities = b'{"capabilities":{"tasks":{},"extensions":{},"tools":{"listChanged":true}}}'
    assert member(translate.discovered(capabilities), "capabilities", "tasks") is None
    assert member(translate.discovered(capabilities), "capabilities", "tools") == b'{"listChanged":true}'
    assert member(translate.initialized(capabilities, ""), "capabilities", "extensions") is None
    assert member(translate.initialized(capabilities, ""), "capabilities", "tools") == b'{"listChanged":true}'


def test_how_long_a_result_may_be_kept_is_the_servers_word_if_it_says_one() -> None:
    result = b'{"tools":[],"ttlMs":60000,"cacheScope":"public"}'
    up = translate.result_up("tools/list", result, b"")
    assert (member(up, "ttlMs"), member(up, "cacheScope")) == (b"60000", b'"public"')
    assert json.loads(translate.result_down("tools/list", up)) == {"tools": []}


def test_a_servers_own_result_type_is_no_result_type_of_the_handshake_era() -> None:
    assert member(translate.result_up("tools/call", b'{"resultType":"x"}', b""), "resultType") == b'"complete"'


def test_a_tool_does_not_offer_tasks_in_the_modern_era() -> None:
    tools = [{"name": "a", "execution": {"taskSupport": "optional"}, "inputSchema": {}}, {"name": "b"}, 7]
    up = json.loads(translate.result_up("tools/list", json.dumps({"tools": tools}).encode(), b""))
    assert up["tools"] == [{"name": "a", "inputSchema": {}}, {"name": "b"}, 7]


def test_what_python_cannot_hold_does_not_cost_the_list_of_tools() -> None:
    result = b'{"tools":[{"name":"a","execution":{"taskSupport":"optional"},"default":1e999}]}'
    assert member(translate.result_up("tools/list", result, b""), "tools") == b'[{"name":"a","default":1e999}]'


# Output schemas


def wrapped(schema: Any) -> Any:
    """The output schema that a handshake client sees."""
    result = json.dumps({"tools": [{"name": "t", "outputSchema": schema}]}).encode()
    return json.loads(translate.result_down("tools/list", result))["tools"][0].get("outputSchema")


def in_wrapping(schema: Any) -> Any:
    return {"type": "object", "properties": {"result": schema}, "required": ["result"]}


def test_an_output_schema_of_an_object_is_not_wrapped() -> None:
    schema = {"type": "object", "$defs": {"A": {}}, "properties": {"a": {"$ref": "#/$defs/A"}}}
    assert wrapped(schema) == schema


@pytest.mark.parametrize(
    ("reference", "moved"),
    [
        ("#", "#/properties/result"),
        ("#/$defs/A", "#/properties/result/$defs/A"),
        ("#/$defs/a~1b%25", "#/properties/result/$defs/a~1b%25"),
        ("#/items", "#/properties/result/items"),
        ("https://example.com/schema#/a", "https://example.com/schema#/a"),
        ("other.json", "other.json"),
        ("", ""),
    ],
)
def test_a_reference_leads_to_the_same_place_after_its_schema_was_wrapped(reference: str, moved: str) -> None:
    def schema(at: str) -> Any:
        return {"type": "array", "items": {"anyOf": [{"$ref": at}, {"items": {"$ref": at}}]}, "$defs": {"A": {}}}

    assert wrapped(schema(reference)) == in_wrapping(schema(moved))


def test_a_property_that_is_called_like_a_reference_is_none() -> None:
    schema = {"type": "array", "items": {"properties": {"$ref": {"type": "string"}}, "required": ["$ref"]}}
    assert wrapped(schema) == in_wrapping(schema)
    schema = {"type": "array", "items": {"title": "#/x", "properties": {"const": {"$ref": "other"}}}}
    assert wrapped(schema) == in_wrapping(schema)


def test_a_reference_to_an_anchor_keeps_its_name() -> None:
    schema = {"type": "array", "items": {"$ref": "#node"}, "$defs": {"n": {"$anchor": "node"}}}
    assert wrapped(schema) == in_wrapping(schema)


@pytest.mark.parametrize("keyword", ["const", "default", "enum", "examples"])
def test_data_in_a_schema_is_no_reference(keyword: str) -> None:
    data: Any = {"$ref": "#/a"}
    schema = {"type": "array", "items": {keyword: [data] if keyword in ("enum", "examples") else data}}
    assert wrapped(schema) == in_wrapping(schema)


def test_a_dynamic_reference_is_moved_too() -> None:
    assert wrapped({"type": "array", "items": {"$dynamicRef": "#/$defs/A"}}) == in_wrapping(
        {"type": "array", "items": {"$dynamicRef": "#/properties/result/$defs/A"}}
    )


def test_references_below_an_id_of_their_own_stay() -> None:
    own = {"$id": "https://example.com/own", "items": {"$ref": "#/$defs/A"}, "$defs": {"A": {}}}
    schema = {"type": "array", "items": own}
    assert wrapped(schema) == in_wrapping(schema)


@pytest.mark.parametrize("schema", [{"anyOf": [{"type": "object"}, {"type": "array"}]}, {"type": ["object", "null"]}])
def test_an_object_fits_the_output_schema_that_the_client_was_told(schema: Any) -> None:
    told = wrapped(schema) or {}  # not to promise anything would be right as well
    result = translate.result_down("tools/call", b'{"content":[],"structuredContent":{"a":1}}')
    assert set(told.get("required", ())) <= json.loads(result)["structuredContent"].keys()


def test_what_python_cannot_hold_does_not_keep_a_schema_from_being_wrapped() -> None:
    result = b'{"tools":[{"outputSchema":{"type":"array"}},{"inputSchema":{"default":1e999}}]}'
    down = translate.result_down("tools/list", result)
    assert b'{"outputSchema":{"type":"object"' in down
    assert b'{"inputSchema":{"default":1e999}}' in down


def deepest(text: Callable[[bytes], bytes]) -> bytes:
    """The deepest JSON of this shape that is accepted from a child."""
    low, high = 1, 20_000
    while low < high:
        depth = (low + high + 1) // 2
        try:
            messages.parse(b'{"jsonrpc":"2.0","id":1,"result":%b}' % text(b'{"not":' * depth + b"{}" + b"}" * depth))
            low = depth
        except Rejection:
            high = depth - 1
    return text(b'{"not":' * low + b"{}" + b"}" * low)


def test_an_output_schema_that_was_parsed_is_never_too_deep() -> None:
    result = deepest(lambda nest: b'{"tools":[{"outputSchema":{"type":"array","items":%b}}]}' % nest)
    too_deep = False  # a traceback of so many frames would take minutes to write
    with contextlib.suppress(Rejection):
        try:
            translate.result_down("tools/list", result)
        except RecursionError:
            too_deep = True
    assert not too_deep


@pytest.mark.parametrize("value", ["[1, 2]", "null", "true", "1e999", '"x"'])
def test_structured_content_that_is_no_object_is_wrapped_as_its_schema_is(value: str) -> None:
    result = f'{{"content":[],"structuredContent":  {value} }}'.encode()
    down = translate.result_down("tools/call", result)
    assert down == f'{{"content":[],"structuredContent":{{"result":{value}}}}}'.encode()


def test_only_calls_have_structured_content_and_only_lists_have_schemas() -> None:
    text = b'{"structuredContent":[1],"tools":[{"outputSchema":{"type":"array"}}]}'
    for method in ("prompts/get", "resources/read", "completion/complete"):
        assert translate.result_down(method, text) == text


# Questions


def url_error(elicitations: str) -> bytes:
    return f'{{"code":-32042,"message":"open these","data":{{"elicitations":{elicitations}}}}}'.encode()


def test_urls_that_must_be_opened_are_questions_in_the_modern_era() -> None:
    error = url_error('[{"url":"https://a","message":"A"},{"mode":"form","url":"https://b","message":"B"},7]')
    questions = {key: json.loads(question) for key, question in translate.urls_wanted(error).items()}
    assert questions == {
        key: {"method": "elicitation/create", "params": {"mode": "url", "url": url, "message": message}}
        for key, url, message in (("r0", "https://a", "A"), ("r1", "https://b", "B"))
    }


@pytest.mark.parametrize("error", [b'{"code":-32041}', b'{"code":"-32042"}', b'{"code":-32602}', b'"-32042"'])
def test_any_other_error_asks_nothing(error: bytes) -> None:
    data = b'"data":{"elicitations":[{"url":"https://a"}]}'
    assert translate.urls_wanted(error.replace(b"}", b"," + data + b"}")) == {}


@pytest.mark.parametrize("elicitations", ["[]", '"x"', '{"a":1}', "[7,null]"])
def test_an_error_without_urls_asks_nothing(elicitations: str) -> None:
    assert translate.urls_wanted(url_error(elicitations)) == {}
    assert translate.urls_wanted(b'{"code":-32042,"data":[]}') == {}


@pytest.mark.parametrize("elicitations", ["null", "7", "true"])
def test_elicitations_that_are_no_list_ask_nothing(elicitations: str) -> None:
    assert translate.urls_wanted(url_error(elicitations)) == {}


def test_what_python_cannot_hold_does_not_take_questions_away() -> None:
    [question] = translate.urls_wanted(url_error('[{"url":"https://a","n":1e999}]')).values()
    assert member(question, "params", "n") == b"1e999"


@quick
@given(st.dictionaries(st.text(), texts, min_size=1), st.text(st.characters(codec="utf-8")))
def test_questions_come_out_of_a_result_as_they_went_into_it(questions: dict[str, str], state: str) -> None:
    asked = {key: question.encode() for key, question in questions.items()}
    result = translate.input_required(asked, state, INFO)
    assert translate.result_type(result) == "input_required"
    found, given_state = translate.questions_in(result)
    assert found == asked
    assert given_state is not None
    assert json.loads(bytes(given_state)) == state
    assert member(result, "_meta", SERVER_INFO) == INFO


@quick
@given(handshake_params, st.dictionaries(st.text(), texts), st.none() | texts)
def test_a_retry_is_the_same_request_with_answers_and_the_state_as_it_came(
    params: bytes, answers: dict[str, str], state: str | None
) -> None:
    given_answers = {key: answer.encode() for key, answer in answers.items()}
    again = retried(params, given_answers, None if state is None else state.encode())
    assert (again.id, again.method) == (b"1", "tools/call")
    responses = jsontext.fields(member(again.params, "inputResponses") or b"")
    assert {key: bytes(value) for key, value in responses.items()} == given_answers
    assert member(again.params, "requestState") == (None if state is None else state.encode())
    assert contents(translate.params_down(again.params)) == contents(params)


def test_a_second_round_carries_only_its_own_answers() -> None:
    first = retried(b'{"name":"t"}', {"a": b"1"}, b'"s1"')
    second = translate.retried(first, {"b": b"2"}, Raw(b'"s2"'))
    assert second.params == b'{"name":"t","inputResponses":{"b":2},"requestState":"s2"}'


def test_a_question_of_a_child_is_its_method_and_params() -> None:
    line = b'{"jsonrpc":"2.0","id":9,"params":{"b":1,"a":2},"method":"sampling/createMessage"}'
    assert translate.question_of(line) == b'{"method":"sampling/createMessage","params":{"b":1,"a":2}}'
    assert translate.question_of(b'{"id":9,"method":"roots/list"}') == b'{"method":"roots/list"}'


def test_a_question_by_url_gets_an_id_and_keeps_one_it_has() -> None:
    assert json.loads(translate.question_params(b'{"mode":"url","url":"u"}', 3))["elicitationId"] == "e3"
    for params in (b'{"mode":"url","elicitationId":"mine"}', b'{"mode":"form"}', b'{ "message" : "no mode" }'):
        assert translate.question_params(params, 3) == params


def test_an_elicitation_id_does_not_reach_a_modern_client_for_whom_there_is_none() -> None:
    page = {"mode": "url", "url": "u", "elicitationId": "e"}
    asked = {"jsonrpc": "2.0", "id": 1, "method": "elicitation/create", "params": page}
    assert json.loads(translate.question_of(json.dumps(asked).encode()))["params"] == {"mode": "url", "url": "u"}
    [wanted] = translate.urls_wanted(json.dumps({"code": -32042, "data": {"elicitations": [page]}}).encode()).values()
    assert json.loads(wanted)["params"] == {"mode": "url", "url": "u"}
    other = {"method": "sampling/createMessage", "params": page}
    assert json.loads(translate.question_of(json.dumps(other).encode())) == other, "which may mean something else by it"


@pytest.mark.parametrize("kind", ['"partial"', '"input_required"', '"complete"'])
def test_the_type_of_a_result_is_what_it_says(kind: str) -> None:
    assert translate.result_type(f'{{"resultType":{kind}}}'.encode()) == kind.strip('"')


def test_a_result_type_that_is_no_text_is_none_that_is_known() -> None:
    assert translate.result_type(b'{"resultType":7}') not in ("complete", "input_required")


# Log levels

#: RFC 5424: the lower the number, the worse.
SEVERITY = {
    "emergency": 0,
    "alert": 1,
    "critical": 2,
    "error": 3,
    "warning": 4,
    "notice": 5,
    "info": 6,
    "debug": 7,
}


def log_line(level: str) -> bytes:
    return f'{{"jsonrpc":"2.0","method":"notifications/message","params":{{"data":1e999,"level":{level}}}}}'.encode()


@pytest.mark.parametrize("wanted", SEVERITY)
@pytest.mark.parametrize("level", SEVERITY)
def test_a_log_message_is_heard_if_it_is_at_least_as_bad_as_asked_for(level: str, wanted: str) -> None:
    assert translate.is_heard(log_line(f'"{level}"'), wanted) == (SEVERITY[level] <= SEVERITY[wanted])


@pytest.mark.parametrize("wanted", [None, "", "loud", "INFO", "Debug"])
def test_who_asked_for_no_level_there_is_hears_nothing(wanted: str | None) -> None:
    assert not translate.is_heard(log_line('"emergency"'), wanted)


@pytest.mark.parametrize("level", ['"loud"', "7", "null"])
def test_a_level_that_nobody_knows_is_heard_by_all_who_listen(level: str) -> None:
    assert translate.is_heard(log_line(level), "emergency")
    assert translate.is_heard(b'{"method":"notifications/message"}', "emergency")
