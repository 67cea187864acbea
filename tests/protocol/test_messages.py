"""JSON-RPC messages: what is refused and how, and what must pass without a byte changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.protocol import jsontext, messages
from bridge.protocol.errors import Fault, Rejection
from bridge.protocol.messages import Notification, Request, Response, parse, parse_body, parse_line

DEEP = 20_000


def with_params(params: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":1,"method":"x","params":%b}' % params


def with_result(result: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":1,"result":%b}' % result


def with_id(id_: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":%b,"method":"x"}' % id_


def refusal(data: bytes) -> Rejection:
    with pytest.raises(Rejection) as caught:
        parse(data)
    return caught.value


# What a message is


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"jsonrpc":"2.0","id":7,"method":"ping"}', Request(b"7", "ping")),
        (b'{"jsonrpc":"2.0","id":"7","method":"ping"}', Request(b'"7"', "ping")),
        (b'{"method":"ping","id":7,"jsonrpc":"2.0"}', Request(b"7", "ping")),
        (b' \r\n\t{ "jsonrpc" : "2.0" , "id" : 7 , "method" : "ping" } \n', Request(b"7", "ping")),
        (with_params(b'{"a":1}'), Request(b"1", "x", b'{"a":1}')),
        (with_params(b"null"), Request(b"1", "x")),
        (b'{"jsonrpc":"2.0","method":"n"}', Notification("n")),
        (b'{"jsonrpc":"2.0","method":"n","params":{}}', Notification("n", b"{}")),
        (b'{"jsonrpc":"2.0","method":"\\u006e"}', Notification("n")),
        (with_result(b"{}"), Response(b"1", result=b"{}")),
        (with_result(b"null"), Response(b"1", result=b"null")),
        (with_result(b'""'), Response(b"1", result=b'""')),
        (b'{"jsonrpc":"2.0","id":1,"error":{"code":1}}', Response(b"1", error=b'{"code":1}')),
        # An error about a message that could not be read carries no id (JSON-RPC 2.0, response object).
        (b'{"jsonrpc":"2.0","id":null,"error":{}}', Response(b"null", error=b"{}")),
        (b'{"jsonrpc":"2.0","id":1,"method":"x","more":[1e999]}', Request(b"1", "x")),
    ],
)
def test_a_message_is_what_its_members_say(data: bytes, message: messages.Message) -> None:
    assert parse(data) == message


# What is no message


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"  ",
        b"{",
        b"}",
        b"hello",
        b"nul",
        b"Listening on port 3000",
        b"Content-Length: 52",
        b"\x1b[32minfo\x1b[0m starting",
        b"{'jsonrpc':'2.0'}",
        b'{"jsonrpc":"2.0","method":"x"',
        b'{"jsonrpc":"2.0","method":"x",}',
        b'{"jsonrpc":"2.0","method":"x"} {}',
        b'{"jsonrpc":"2.0","method":"x"}{"jsonrpc":"2.0","method":"y"}',
        b'{"jsonrpc":"2.0" "method":"x"}',
        b'{jsonrpc:"2.0","method":"x"}',
        b'\xef\xbb\xbf{"jsonrpc":"2.0","method":"x"}',
        '{"jsonrpc":"2.0","method":"x"}'.encode("utf-16"),
        b'{"jsonrpc":"2.0","method":"\xff"}',
        b'{"jsonrpc":"2.0","method":"\\ud800"}',
        b'{"jsonrpc":"2.0","method":"a\nb"}',
        with_id(b'"a\nb"'),
        with_id(b'"\\ud800"'),
        with_id(b"01"),
        b'{"jsonrpc":"2.0","id":1,"method":"x","more":NaN}',
    ],
)
def test_what_is_not_json_is_refused_as_such(data: bytes) -> None:
    assert refusal(data).fault is Fault.NOT_JSON


@pytest.mark.parametrize(
    "value",
    [
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"undefined",
        b"True",
        b"01",
        b"+1",
        b".5",
        b"1.",
        b"1e",
        b"-",
        b"0x1",
        b"1_000",
        b"'a'",
        b"[1,]",
        b"[1 2]",
        b"1/* one */",
        b'"\\x41"',
        b'"\\u12"',
        b'"tab\there"',
        b'"line\nend"',
        b'"nul\x00"',
        b'"\xff"',
        b'"\xc3"',  # the first half of a character
        b'"\xc0\xaf"',  # an overlong form of /
        b'"\xed\xa0\x80"',  # a surrogate in what would be UTF-8
        rb'"\ud800"',
        rb'"\ud800 and more text behind it"',
        rb'"\udc00 and more text behind it"',
        rb'"\ud800\u0041"',
        rb'"\ud800\ud800"',
    ],
)
def test_bad_json_is_found_inside_params_and_result_too(value: bytes) -> None:
    for inside in (b'{"a":%b}' % value, b'{"a":[{"b":%b}]}' % value):
        assert refusal(with_params(inside)).fault is Fault.NOT_JSON
        assert refusal(with_result(inside)).fault is Fault.NOT_JSON


@pytest.mark.parametrize(
    "data",
    [
        b"5",
        b"null",
        b'"text"',
        b"{}",
        b'{"jsonrpc":"1.0","id":1,"method":"x"}',
        b'{"jsonrpc":2.0,"id":1,"method":"x"}',
        b'{"jsonrpc":null,"id":1,"method":"x"}',
        b'{"id":1,"method":"x"}',
        b'{"jsonrpc":"2.0"}',
        b'{"jsonrpc":"2.0","id":1}',
        b'{"jsonrpc":"2.0","id":1,"method":5}',
        b'{"jsonrpc":"2.0","id":1,"method":null}',
        b'{"jsonrpc":"2.0","id":1,"method":["x"]}',
        with_params(b"[]"),
        with_params(b"5"),
        with_params(b'"text"'),
        with_params(b"true"),
        b'{"jsonrpc":"2.0","method":"n","params":[1]}',
        b'{"jsonrpc":"2.0","result":{}}',
        b'{"jsonrpc":"2.0","error":{}}',
        b'{"jsonrpc":"2.0","id":1,"result":{},"error":{}}',
    ],
)
def test_json_that_is_no_message_is_refused_as_such(data: bytes) -> None:
    rejection = refusal(data)
    assert rejection.fault is Fault.NOT_A_MESSAGE
    assert str(rejection).startswith("not a JSON-RPC message: ")


@pytest.mark.parametrize("id_", [b"null", b"1.0", b"1e3", b"-1.5", b"true", b"{}", b"[1]"])
def test_the_id_of_a_request_is_a_string_or_an_integer(id_: bytes) -> None:
    # MCP, Requests: "Requests MUST include a string or integer ID", "the ID MUST NOT be null".
    rejection = refusal(with_id(id_))
    assert rejection.fault is Fault.NOT_A_MESSAGE
    assert '"id" must be a string or an integer' in str(rejection)


@pytest.mark.parametrize("id_", [b"0", b"-1", b"7", b'"7"', b'""', b'"\\u0037"', '"é"'.encode(), b"1" * 30])
def test_an_id_stays_the_text_it_was_written_in(id_: bytes) -> None:
    message = parse(with_id(id_))
    assert isinstance(message, Request)
    assert message.id == id_
    assert messages.response_line(Response(message.id, result=b"{}")) == b'{"jsonrpc":"2.0","id":%b,"result":{}}' % id_


@pytest.mark.parametrize("data", [b"[]", b"  [1]", b'[{"jsonrpc":"2.0","id":1,"method":"x"}]'])
def test_a_batch_is_refused_by_name(data: bytes) -> None:
    rejection = refusal(data)
    assert rejection.fault is Fault.BATCH
    assert str(rejection) == "batches are not supported; send one message"


def test_what_only_begins_like_a_batch_is_no_json() -> None:
    assert str(refusal(b"[INFO] ready")).startswith("parse error: JSON is malformed: ")
    assert refusal(b"[INFO] ready").fault is refusal(b"[" * DEEP).fault is Fault.NOT_JSON


@pytest.mark.parametrize(
    "value",
    [b"[" * DEEP + b"]" * DEEP, b"[" * DEEP, b'{"a":' * DEEP + b"1" + b"}" * DEEP, b'{"a":' * DEEP],
    ids=["lists", "lists cut off", "objects", "objects cut off"],
)
def test_nesting_without_end_is_refused_and_the_next_message_is_read(value: bytes) -> None:
    for data in (with_params(b'{"a":%b}' % value), with_result(value), with_id(value), b'{"a":%b}' % value):
        rejection = refusal(data)
        assert rejection.fault is Fault.NOT_JSON
        assert str(rejection) == "parse error: nested too deeply"
    assert parse(with_id(b"1")) == Request(b"1", "x")


@pytest.mark.parametrize("beside", [0, 1000, 100_000])  # from 500 brackets on nobody knows how deep they are
def test_500_levels_are_not_too_deep(beside: int) -> None:
    params = b'{"b":[%b],"a":%b}' % (b",".join([b"[]"] * beside), b'{"a":' * 498 + b"1" + b"}" * 498)
    assert parse_body(with_params(params)) == parse_line(with_params(params)) == Request(b"1", "x", params)


def further_down(calls: int, data: bytes) -> Any:
    return next(map(further_down, (calls - 1,), (data,))) if calls else parse(data)


@pytest.mark.parametrize("beside", [b"", b"x" * 100_000])
@pytest.mark.parametrize("first", [parse_body, parse_line])
def test_what_can_just_be_read_where_it_comes_in_can_be_read_from_further_down(
    first: Callable[[bytes], object], beside: bytes
) -> None:
    def deep(levels: int) -> bytes:
        return with_params(b'{"b":"%b","a":%b}' % (beside, b"[" * levels + b"]" * levels))

    good, bad = 1, 40_000
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            first(deep(middle))
            good = middle
        except Rejection:
            bad = middle
    assert further_down(50, deep(good)) == parse(deep(good))


def test_the_place_of_a_bad_byte_is_told() -> None:
    assert str(refusal(b'{"jsonrpc":"\xff"}')) == "parse error: not UTF-8 at byte 12"


def test_json_is_not_spelled_jSON() -> None:
    assert "jSON" not in str(refusal(b"hello"))


def accepted(data: bytes) -> messages.Message | None:
    try:
        return parse(data)
    except Rejection:
        return None


@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,0123456789 aenutfrls\\\ud7ff', max_size=60).map(str.encode))
def test_any_bytes_are_a_message_or_a_rejection(data: bytes) -> None:
    assert accepted(data) is None or json.loads(data)["jsonrpc"] == "2.0"


def not_in_json(constant: str) -> float:
    raise ValueError(constant)


@given(
    st.text(alphabet='{}[]":,+-.0123456789eE NaIinfty\\u\n\t', max_size=12),
    st.sampled_from(["params", "result", "error", "id", "method", "jsonrpc", "more"]),
)
def test_whatever_is_accepted_is_strict_json(text: str, place: str) -> None:
    members = {"jsonrpc": '"2.0"', "id": "1", "method": '"x"', place: text}
    data = "{" + ",".join(f'"{name}":{value}' for name, value in members.items()) + "}"
    assert accepted(data.encode()) is None or json.loads(data, parse_constant=not_in_json)["jsonrpc"] == "2.0"


# What passes untouched

UNTOUCHED = [
    b'{"b":1,"a":2,"B":3}',  # the order of keys
    b'{"a":1,"a":2}',  # a key twice
    b'{"n":1e999}',  # no float holds it
    b'{"n":123456789012345678901234567890}',  # no 64 bits hold it
    b'{"n":[1.0,1.10,1E5,1e+05,-0,-0.0,0.1e-7]}',  # one number, many spellings
    rb'{"s":"\u00e9\/\u0041\b\f\t\ud83d\ude00"}',  # escapes that need not be
    '{"s":"é😀\u2028\x7f"}'.encode(),  # and characters that need none
    rb'{"\u0061":"\n\\n"}',
    b'{ "a" :  [ 1 ,\t2 ] }',  # blanks
    b'{"id":7,"method":"y","progressToken":1,"jsonrpc":"1.0"}',  # what looks like an envelope
    b"{}",
]


@pytest.mark.parametrize("params", UNTOUCHED)
def test_params_pass_byte_for_byte(params: bytes) -> None:
    message = parse(with_params(params))
    assert isinstance(message, Request)
    assert message.params == params
    assert messages.request_line(b"42", message.method, message.params) == (
        b'{"jsonrpc":"2.0","id":42,"method":"x","params":%b}' % params
    )
    assert messages.notification_line("n", params) == b'{"jsonrpc":"2.0","method":"n","params":%b}' % params


NO_OBJECTS = [b"null", b"5", b'""', b"[1e999, 1.0]", b"false", rb'"\u0041"']


@pytest.mark.parametrize("result", [*UNTOUCHED, *NO_OBJECTS])
def test_a_result_passes_byte_for_byte(result: bytes) -> None:
    message = parse(with_result(result))
    assert isinstance(message, Response)
    assert message.result == result
    assert messages.response_line(message, b'"own"') == b'{"jsonrpc":"2.0","id":"own","result":%b}' % result
    assert parse(b'{"jsonrpc":"2.0","id":1,"result":%b,"error":null}' % result) == message


def test_a_null_result_beside_an_error_is_none() -> None:
    assert parse(b'{"jsonrpc":"2.0","id":1,"result":null,"error":{"code":-1}}') == Response(b"1", error=b'{"code":-1}')


@pytest.mark.parametrize("error", UNTOUCHED)
def test_an_error_passes_byte_for_byte(error: bytes) -> None:
    message = parse(b'{"jsonrpc":"2.0","id":1,"error":%b}' % error)
    assert isinstance(message, Response)
    assert messages.response_line(message) == b'{"jsonrpc":"2.0","id":1,"error":%b}' % error


@pytest.mark.parametrize("error", NO_OBJECTS)
def test_an_error_that_is_no_object_is_no_answer(error: bytes) -> None:
    # JSON-RPC 2.0, response object: "error" is an object with a code and a message, and absent beside a result.
    assert refusal(b'{"jsonrpc":"2.0","id":1,"error":%b}' % error).fault is Fault.NOT_A_MESSAGE


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_pretty_printed_message_becomes_one_line(end: str) -> None:
    document = {"text": "one\ntwo\r\n", "list": [1, {"a": []}], "é": "\u2028"}
    pretty = json.dumps(document, indent=4).replace("\n", end).encode()
    for line in (
        messages.request_line(b"1", "x", pretty),
        messages.notification_line("x", pretty),
        messages.response_line(Response(b"1", result=pretty)),
        messages.response_line(Response(b"1", error=pretty)),
    ):
        assert b"\n" not in line
        assert b"\r" not in line
        said: dict[str, Any] = json.loads(line)
        assert document in said.values()


def test_a_method_with_a_line_end_in_it_stays_one_line() -> None:
    message = parse(b'{"jsonrpc":"2.0","id":1,"method":"a\\nb\\u0022"}')
    assert isinstance(message, Request)
    line = messages.request_line(message.id, message.method)
    assert b"\n" not in line
    assert parse(line) == message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
styles = st.sampled_from([{}, {"indent": 2}, {"separators": (",", ":")}, {"separators": (" ,\r\n", "\t: ")}])


@given(st.dictionaries(st.text(max_size=5), json_values), st.integers() | st.text(), st.text(), styles, st.booleans())
def test_a_round_trip_loses_nothing(
    params: dict[str, Any], id_: int | str, method: str, style: dict[str, Any], is_ascii: bool
) -> None:
    written = json.dumps(params, ensure_ascii=is_ascii, **style).encode()
    name = json.dumps(id_, ensure_ascii=is_ascii).encode()
    request = Request(name, method, written)
    said = parse(messages.request_line(request.id, request.method, request.params))
    assert isinstance(said, Request)
    assert (said.id, said.method) == (name, method)
    assert json.loads(said.params) == params
    assert parse(messages.request_line(said.id, said.method, said.params)) == said
    note = parse(messages.notification_line(method, written))
    assert note == Notification(method, said.params)
    answer = parse(messages.response_line(Response(name, result=written)))
    assert answer == Response(name, result=said.params)


# Small parts


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (b"7", b"7", True),
        (b'"a"', b'"a"', True),
        (b'"a"', rb'"\u0061"', True),
        (rb'"\u00e9"', '"é"'.encode(), True),
        (rb'"\/"', b'"/"', True),
        (b"7", b'"7"', False),
        (b'"7"', b"7", False),
        (b"7", b"8", False),
        (b"7", b"7.0", False),
        (b'"a"', b'"A"', False),
        (b'""', b'" "', False),
        (b'"a"', b"null", False),
        (b'"a"', b"", False),
        (b"", b"", True),
    ],
)
def test_two_ids_are_one_when_kind_and_text_are(left: bytes, right: bytes, same: bool) -> None:
    assert messages.same_id(left, right) is same
    assert messages.same_id(right, left) is same


@given(st.text(), st.text())
def test_strings_are_one_id_however_they_are_escaped(left: str, right: str) -> None:
    plain, escaped = json.dumps(left, ensure_ascii=False).encode(), json.dumps(right).encode()
    assert messages.same_id(plain, escaped) is (left == right)
    assert messages.same_id(plain, json.dumps(left).encode())


@pytest.mark.parametrize(
    ("line", "number"),
    [
        (b'{"jsonrpc":"2.0","id":12,"result":{"n":NaN}}', 12),
        (b'{"jsonrpc": "2.0", "id": 12, "error": {"n": NaN}}', 12),
        (b'{"id":12,"result":"\xff"}', 12),
        (b'{"id":12,"jsonrpc":"2.0","result":NaN}', 12),
        (b'{"jsonrpc":"1.0","id":12,"result":{}}', 12),
        (b'{"jsonrpc":2,"id":12,"result":{}}', 12),
        (b'{"jsonrpc":"2.0","id":12,"result":{"half', 12),
        (b' {\t"jsonrpc" : "2.0" ,\n "id" : 12 , "result": "half', 12),
        (b'{"jsonrpc":"2.0","id":0,"result":1,"error":2}', 0),
        (b'{"jsonrpc":"2.0","id":12}', 12),
        (rb'{"result":{"s":"\ud83d"},"jsonrpc":"2.0","id":12}', 12),  # as the TypeScript SDK orders it
        (rb'{"jsonrpc":"2.0","result":{"s":"\ud83d"},"id":12} ', 12),
        (rb'{"result":{"s":"\ud83d"},"id":12,"jsonrpc":"2.0"}', 12),
        (b'{"jsonrpc":"2.0","result":{"text":"' + b"x" * 2000 + b'"},"id":12}', 12),
        (b'{"jsonrpc":"2.0","id":12,"method":"sampling/createMessage","params":{"n":NaN}}', None),  # its own number
        (b'{"method":"x","params":{"n":NaN},"jsonrpc":"2.0","id":12}', None),
        (b'{"id":12}', None),  # any logger writes that
        (b'{"id":12,"level":30,"msg":"NaN"', None),
        (b'{"jsonrpc":"2.0","id":12', None),  # it may go on with more digits
        (b'{"jsonrpc":"2.0","id":12.5,"result":NaN}', None),
        (b'{"jsonrpc":"2.0","id":"12","result":NaN}', None),
        (b'{"jsonrpc":"2.0","id":-12,"result":NaN}', None),
        (b'{"jsonrpc":"2.0","id":null,"error":NaN}', None),
        (b'{"jsonrpc":"2.0","id":1234567890123456789012,"result":NaN}', None),
        (b'{"jsonrpc":"2.0","result":{"id":12},"n":NaN}', None),
        (b'{"jsonrpc":"2.0","result":{"id":12}', None),
        (b'{"jsonrpc":"2.0","result":{"id":12', None),
        (b'result {"jsonrpc":"2.0","id":12,"result":NaN}', None),
        (b'["id":12,', None),
        (b"", None),
        (b"x" * 1024, None),
    ],
)
def test_a_broken_line_tells_what_it_answers_only_when_it_is_certain(line: bytes, number: int | None) -> None:
    assert messages.id_in_broken(line) == number


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (b'[{"a":1}, 5,{"b":2}]', [b'{"a":1}', b'{"b":2}']),
        (b"[]", []),
        (b'{"a":1}', []),
        (b"[{", []),
        (b"[" * 20_000, []),
        (b"", []),
    ],
)
def test_the_objects_of_an_array_are_the_bytes_that_came(raw: bytes, found: list[bytes]) -> None:
    assert jsontext.objects(raw) == found


@pytest.mark.parametrize(
    ("raw", "number"),
    [
        (b"0", 0),
        (b"42", 42),
        (b"9" * 18, 10**18 - 1),
        (b"9" * 19, None),
        (b"9" * 5000, None),  # int() itself would refuse it
        (b'"42"', None),
        (b"42.0", None),
        (b"-42", None),
        (b"null", None),
        (b"", None),
    ],
)
def test_a_number_of_ours_is_plain_digits(raw: bytes, number: int | None) -> None:
    assert messages.number(raw) == number


def test_the_fields_of_an_object_are_the_bytes_that_came() -> None:
    raw = b'{ "a" : 1e999, "b":[ 1, 2 ] ,"a\\u0063":{"x":1.0} }'
    assert {name: bytes(value) for name, value in jsontext.fields(raw).items()} == {
        "a": b"1e999",
        "b": b"[ 1, 2 ]",
        "ac": b'{"x":1.0}',
    }


@pytest.mark.parametrize("raw", [b"", b"null", b"5", b'"a"', b"[]", b'[{"a":1}]', b"{"])
def test_what_is_no_object_has_no_fields(raw: bytes) -> None:
    assert jsontext.fields(raw) == {}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (messages.error_line(b'"a"', -32603, "no"), {"id": "a", "error": {"code": -32603, "message": "no"}}),
        (messages.error_line(None, -32700, "no"), {"id": None, "error": {"code": -32700, "message": "no"}}),
        (
            messages.error_line(b"1", -32022, "a\nb", {"supported": []}),
            {"id": 1, "error": {"code": -32022, "message": "a\nb", "data": {"supported": []}}},
        ),
    ],
)
def test_an_error_line_carries_id_code_message_and_data(line: bytes, expected: dict[str, Any]) -> None:
    assert b"\n" not in line
    assert json.loads(line) == {"jsonrpc": "2.0", **expected}


# One member of an object


TEXTS = st.sampled_from(
    [
        b"1",
        b'"1"',
        b"11",
        b"{}",
        b'{"a":1}',
        b'{ "a" : [1, 1e999] }',
        b'"?"',
        b'"!"',
        rb'"\u0031"',
        b'{"b":{"a":1}}',
        b"[1]",
    ]
)
NAMES = st.sampled_from([b'"a"', b'"b"', rb'"\u0061"', b'"_meta"', b'"1"'])
BLANKS = st.sampled_from([b"", b" ", b"\t "])


@st.composite
def objects(draw: st.DrawFn) -> tuple[bytes, int, int]:
    """An object with a member "a", and from where to where the value stands that counts for it."""
    members = draw(st.lists(st.tuples(NAMES, TEXTS), max_size=6))
    members.insert(draw(st.integers(0, len(members))), (b'"a"', draw(TEXTS)))
    text, start, end = b"{", 0, 0
    for index, (name, value) in enumerate(members):
        text += (b"," if index else b"") + draw(BLANKS) + name + draw(BLANKS) + b":" + draw(BLANKS)
        if name in (b'"a"', rb'"\u0061"'):
            start, end = len(text), len(text) + len(value)
        text += value + draw(BLANKS)
    return text + b"}", start, end


@given(objects(), TEXTS)
def test_one_member_is_replaced_and_every_other_byte_stays(given: tuple[bytes, int, int], value: bytes) -> None:
    text, start, end = given
    assert jsontext.replaced(text, "a", value) == text[:start] + value + text[end:]


def test_a_text_that_stands_in_too_many_places_is_replaced_all_the_same() -> None:
    text = b'{"a":1,"n":[%b]}' % b",".join([b"1"] * 1000)
    assert jsontext.replaced(text, "a", b"2") == text.replace(b'"a":1', b'"a":2')
    spread = text.replace(b'"a":', b'"a": ')
    assert jsontext.replaced(spread, "a", b"2") == text.replace(b'"a":1', b'"a":2')  # written anew


@pytest.mark.parametrize("rest", [b"", b',"text":"%b"' % (b"x" * messages.SEARCHED)])
@pytest.mark.parametrize(
    ("member", "meta"),
    [
        (b'"_meta":{"a":1}', b'{"a":1}'),
        (rb'"\u005fmeta":{}', b"{}"),
        (rb'"_m\u0065ta": { } ', b"{ }"),
        (b'"_meta":{},"_meta":{"a":1}', b'{"a":1}'),
        (b'"_meta":null', b"null"),
        (rb'"text":"one\ntwo \"_meta\" \/ \u00e9"', b""),
        (b'"arguments":{"_meta":{}}', b""),
    ],
)
def test_the_meta_of_a_request_is_found_however_it_is_written(member: bytes, meta: bytes, rest: bytes) -> None:
    assert Request(b"1", "x", b"{%b%b}" % (member, rest)).meta == meta


def test_without_params_there_is_no_meta() -> None:
    assert Request(b"1", "x").meta == b""


@pytest.mark.parametrize("raw", [b'"\xff"', b'{"a":"\xc3"}', b"1e999", b"{", b"[" * 100_000])
def test_what_python_cannot_hold_is_none(raw: bytes) -> None:
    assert jsontext.decode(raw) is None
