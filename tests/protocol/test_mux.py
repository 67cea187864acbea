"""The routing table of one child: many clients, one pipe, and nobody gets what belongs to somebody else.

The first half is small examples, to learn the mux from. The second half lets hypothesis play clients and child in any
order and compares the mux with a model that is too simple to be wrong.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from bridge.protocol import messages, tasks
from bridge.protocol.envelope import LARGE
from bridge.protocol.messages import Request, Response
from bridge.protocol.modern import LISTEN, SUBSCRIPTION_ID
from bridge.protocol.mux import (
    CANCELLED,
    MOST_QUESTIONS,
    PROGRESS,
    Decision,
    Deliver,
    Drop,
    Mux,
    Refuse,
    Reply,
    Undirected,
)

CHANGED = "notifications/tools/list_changed"


def new_mux(first_question: int = 1000) -> Mux:
    return Mux(itertools.count(first_question))


def call(id_: str, token: str | None = None) -> Request:
    """A client's call; id and token are JSON text."""
    meta = "" if token is None else f',"_meta":{{"progressToken":{token}}}'
    return Request(id_.encode(), "tools/call", f'{{"name":"echo"{meta}}}'.encode())


def says(mux: Mux, line: str) -> Decision:
    """The child writes this line."""
    return mux.receive(messages.parse(line.encode()))


def answers(mux: Mux, id_: str, result: str = "{}") -> Decision:
    return says(mux, f'{{"jsonrpc":"2.0","id":{id_},"result":{result}}}')


def listen(id_: str) -> Request:
    """A client's subscription; its id is JSON text."""
    return Request(id_.encode(), LISTEN, b'{"notifications":{"toolsListChanged":true}}')


def frame(subscription: str, method: str = CHANGED) -> str:
    """What reaches a subscriber, or comes from the child."""
    return f'{{"jsonrpc":"2.0","method":"{method}","params":{{"_meta":{{"{SUBSCRIPTION_ID}":{subscription}}}}}}}'


def progresses(mux: Mux, token: str, progress: str = "1") -> Decision:
    params = f'{{"progressToken":{token},"progress":{progress}}}'
    return says(mux, f'{{"jsonrpc":"2.0","method":"{PROGRESS}","params":{params}}}')


def asks(mux: Mux, id_: str) -> Undirected:
    decision = says(mux, f'{{"jsonrpc":"2.0","id":{id_},"method":"sampling/createMessage","params":{{"maxTokens":9}}}}')
    assert isinstance(decision, Undirected)
    assert decision.question is not None
    return decision


def withdraws(mux: Mux, id_: str) -> Decision:
    return says(mux, f'{{"jsonrpc":"2.0","method":"{CANCELLED}","params":{{"requestId":{id_},"reason":"late"}}}}')


# Examples


def test_two_clients_with_the_same_id_get_their_own_answers() -> None:
    mux = new_mux()
    first, line = mux.open("alice", call("7"))
    second, _ = mux.open("bob", call("7"))
    assert line == b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}'
    assert answers(mux, str(second), '{"for":"bob"}') == Deliver(
        "bob", b'{"jsonrpc":"2.0","id":7,"result":{"for":"bob"}}', final=True
    )
    assert answers(mux, str(first), '{"for":"alice"}') == Deliver(
        "alice", b'{"jsonrpc":"2.0","id":7,"result":{"for":"alice"}}', final=True
    )
    assert len(mux) == 0


def test_a_number_and_a_string_are_two_ids_and_both_come_back_as_they_were_written() -> None:
    mux = new_mux()
    number, _ = mux.open("a", call("7"))
    string, _ = mux.open("b", call('"7"'))
    escaped, _ = mux.open("c", call(r'"\u0037"'))
    assert answers(mux, str(escaped)) == Deliver("c", rb'{"jsonrpc":"2.0","id":"\u0037","result":{}}', final=True)
    assert answers(mux, str(string)) == Deliver("b", b'{"jsonrpc":"2.0","id":"7","result":{}}', final=True)
    assert answers(mux, str(number)) == Deliver("a", b'{"jsonrpc":"2.0","id":7,"result":{}}', final=True)


def test_the_progress_token_is_the_wire_id_on_the_child_and_the_clients_own_outside() -> None:
    mux = new_mux()
    mux.open("alice", call("7", token='"p"'))
    number, line = mux.open("bob", call("7", token='"p"'))
    assert line == (
        b'{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"echo","_meta":{"progressToken":2}}}'
    )
    assert progresses(mux, str(number), "0.5") == Deliver(
        "bob",
        b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"p","progress":0.5}}',
    )


@pytest.mark.parametrize("params", [b'{"x":"%b"}', b'{"x":"%b",\r\n"y":1}', b'{"x":"%b","_meta":{"progressToken":7}}'])
def test_a_large_call_is_the_same_line_in_pieces(params: bytes) -> None:
    mux = new_mux()
    _, small = mux.open("alice", messages.parse(b'{"jsonrpc":"2.0","id":7,"method":"m","params":%b}' % (params % b"")))
    large = b'{"jsonrpc":"2.0","id":7,"method":"m","params":%b}' % (params % (b"x" * LARGE))
    number, pieces = mux.open("bob", messages.parse(large))
    assert isinstance(small, bytes)
    assert isinstance(pieces, tuple)
    again = messages.joined(pieces).replace(b"x" * LARGE, b"")
    assert again.replace(b":%d" % number, b":1") == small == messages.joined(small)


@pytest.mark.parametrize(
    "params",
    [
        b'{"arguments":{"x":7,"_meta":{"progressToken":7}},"_meta":{"progressToken":@}}',
        b'{"_meta":{"progressToken":@},"arguments":{"_meta":{"progressToken":7}}}',
        b'{"_meta" : {"a":"7", "progressToken" : @, "b":"\\"7\\"",\t"c":17},"x":7}',
        b'{"_meta":{"progressToken":7,"progressToken":@}}',  # of two members of one name the last one counts
        b'{"_meta":{"progressToken":7},"_meta":{"progressToken":@}}',
        b'{"_meta":{"progressToken":@,"z":{"a":7}}}',
        b'{"\\u005fmeta":{"progress\\u0054oken":@,"z":7}}',
    ],
)
def test_the_token_alone_is_replaced_wherever_its_text_stands_as_well(params: bytes) -> None:
    mux = new_mux()
    for _ in range(41):
        mux.open("bob", call("7"))
    number, line = mux.open("alice", Request(b"1", "tools/call", params.replace(b"@", b"7")))
    assert number == 42
    assert b'"params":' + params.replace(b"@", b"42") + b"}" in line


def test_the_rest_of_meta_is_untouched_when_the_token_is_replaced() -> None:
    params = b'{"z":1e999,"_meta":{"traceparent":"00-\\u0061","progressToken":"p","n":12345678901234567890123},"a":1.0}'
    _, line = new_mux().open("x", Request(b"7", "tools/call", params))
    assert line.endswith(b'"params":' + params.replace(b'"p"', b"1") + b"}")


@pytest.mark.parametrize(
    "params",
    [
        b"",
        b"{}",
        b'{ "b": 1,\t"a": [ ] }',
        b'{"progressToken":"not in _meta"}',
        b'{"text":"progressToken"}',
        b'{"_meta":{"about":"progressToken"}}',
        b'{"_meta":["progressToken"]}',
        b'{"arguments":{"_meta":{"progressToken":"too deep"}}}',
    ],
)
def test_params_without_a_progress_token_pass_byte_for_byte(params: bytes) -> None:
    mux = new_mux()
    number, line = mux.open("x", Request(b"7", "tools/call", params))
    assert line.partition(b',"params":')[2].removesuffix(b"}") == params
    assert isinstance(progresses(mux, str(number)), Drop)


def test_an_error_of_the_child_is_an_answer_too() -> None:
    mux = new_mux()
    mux.open("alice", call('"x"'))
    assert says(mux, '{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no"}}') == Deliver(
        "alice", b'{"jsonrpc":"2.0","id":"x","error":{"code":-32602,"message":"no"}}', final=True
    )


def test_the_second_answer_to_one_request_reaches_nobody() -> None:
    mux = new_mux()
    mux.open("alice", call("7"))
    answers(mux, "1")
    assert answers(mux, "1") == Drop("an answer to id 1, which is not open")


@pytest.mark.parametrize("id_", ['"1"', "1.0", "1e0", "-1", "0", "2", "null", "{}", "[1]", "true", "1" * 30])
def test_an_answer_to_an_id_that_was_never_given_reaches_nobody(id_: str) -> None:
    mux = new_mux()
    mux.open("alice", call("7", token="7"))
    assert isinstance(answers(mux, id_), Drop)
    assert isinstance(progresses(mux, id_), Drop)
    assert len(mux) == 1


@pytest.mark.parametrize("params", ["", ',"params":{}', ',"params":{"progress":1}', ',"params":null'])
def test_progress_without_a_token_reaches_nobody(params: str) -> None:
    mux = new_mux()
    mux.open("alice", call("7", token="7"))
    assert isinstance(says(mux, f'{{"jsonrpc":"2.0","method":"{PROGRESS}"{params}}}'), Drop)


def begins(mux: Mux, number: int, task: str = "t", status: str = "working") -> None:
    """The child answers with a task."""
    answers(mux, str(number), f'{{"task":{{"taskId":"{task}","status":"{status}","ttl":null}}}}')


def changes(mux: Mux, task: str, status: str) -> None:
    """The child tells the state of a task, and its client hears that."""
    params = f'{{"taskId":"{task}","status":"{status}"}}'
    line = f'{{"jsonrpc":"2.0","method":"{tasks.STATUS}","params":{params}}}'
    assert says(mux, line) == Undirected(tasks.STATUS, line.encode())


def test_progress_of_a_task_goes_on_behind_its_answer_until_it_has_ended() -> None:
    mux = new_mux()
    first, _ = mux.open("alice", call("7", token='"p"'))
    second, _ = mux.open("alice", call("8", token="8"))
    begins(mux, first, "one")
    begins(mux, second, "two")
    line = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%b,"progress":1}}'
    for status in ("working", "input_required"):
        changes(mux, "one", status)
        assert progresses(mux, str(first)) == Undirected(PROGRESS, line % b'"p"')
    changes(mux, "one", "completed")
    assert isinstance(progresses(mux, str(first)), Drop)
    assert progresses(mux, str(second)) == Undirected(PROGRESS, line % b"8")


@pytest.mark.parametrize("status", sorted(tasks.FINAL))
def test_a_task_that_has_ended_already_makes_no_progress(status: str) -> None:
    mux = new_mux()
    number, _ = mux.open("alice", call("7", token='"p"'))
    begins(mux, number, status=status)
    assert isinstance(progresses(mux, str(number)), Drop)


@pytest.mark.parametrize(
    "result",
    [
        '{"taskId":"t","status":"working"}',
        '{"task":{"taskId":7,"status":"working"}}',
        '{"task":{"status":"working"},"taskId":"t"}',
        '["taskId"]',
        '{"a":' + "[" * 100_000 + "]" * 100_000 + ',"task":{"taskId":"t","status":"working"}}',
    ],
)
def test_what_only_looks_like_a_task_keeps_nothing(result: str) -> None:
    mux = new_mux()
    number, _ = mux.open("alice", call("7", token='"p"'))
    assert isinstance(mux.receive(Response(b"%d" % number, result=result.encode())), Deliver)
    assert isinstance(progresses(mux, str(number)), Drop)


def test_tokens_of_so_many_tasks_and_no_more_are_kept() -> None:
    mux = new_mux()
    for _ in range(tasks.MOST + 1):
        begins(mux, mux.open("alice", call("7", token='"p"'))[0])
    assert isinstance(progresses(mux, "1"), Drop)
    assert isinstance(progresses(mux, "2"), Undirected)
    number, _ = mux.open("alice", call("7", token=f'"{"p" * tasks.LONGEST_TOKEN}"'))
    begins(mux, number)
    assert isinstance(progresses(mux, str(number)), Drop)


def test_nothing_reaches_an_exchange_after_close() -> None:
    mux = new_mux()
    number, _ = mux.open("alice", call("7", token='"p"'))
    mux.close(number)
    assert isinstance(progresses(mux, str(number)), Drop)
    assert isinstance(answers(mux, str(number)), Drop)
    assert mux.cancel(number) is None


def test_a_number_is_never_used_twice() -> None:
    mux = new_mux()
    first, _ = mux.open("alice", call("7"))
    mux.close(first)
    second, _ = mux.open("bob", call("7"))
    assert second != first


def test_a_cancellation_names_the_wire_id_and_keeps_the_clients_reason() -> None:
    mux = new_mux()
    mux.open("alice", call("7"))
    number, _ = mux.open("bob", call("7"))
    assert mux.cancel(number, b'{"requestId":7,"reason":"too \\u0073low"}') == (
        rb'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2,"reason":"too \u0073low"}}'
    )
    assert mux.cancel(number) == b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}'


def test_a_cancelled_exchange_may_still_be_answered() -> None:
    mux = new_mux()
    number, _ = mux.open("alice", call("7"))
    mux.cancel(number)
    assert isinstance(answers(mux, str(number)), Deliver)


def test_a_ping_of_the_child_is_answered_here_under_its_own_id() -> None:
    mux = new_mux()
    assert says(mux, '{"jsonrpc":"2.0","id":"p-1","method":"ping"}') == Reply(
        b'{"jsonrpc":"2.0","id":"p-1","result":{}}'
    )
    assert mux.questions == 0


def test_a_question_of_the_child_gets_a_number_and_its_answer_the_childs_id() -> None:
    mux = new_mux(first_question=1000)
    question = asks(mux, '"q"')
    assert question == Undirected(
        "sampling/createMessage",
        b'{"jsonrpc":"2.0","id":1000,"method":"sampling/createMessage","params":{"maxTokens":9}}',
        question=1000,
    )
    assert mux.answer(Response(b"1000", result=b'{"role":"user"}')) == (
        b'{"jsonrpc":"2.0","id":"q","result":{"role":"user"}}'
    )
    assert mux.answer(Response(b"1000", result=b'{"role":"user"}')) is None


@pytest.mark.parametrize("id_", [b'"1000"', b"1001", b"1000.0", b"null", b'"q"'])
def test_an_answer_to_a_question_that_was_not_asked_does_not_reach_the_child(id_: bytes) -> None:
    mux = new_mux(first_question=1000)
    asks(mux, '"q"')
    assert mux.answer(Response(id_, result=b"{}")) is None
    assert mux.questions == 1


def test_a_question_too_many_is_refused_until_another_is_answered() -> None:
    mux = new_mux(first_question=1)
    for number in range(MOST_QUESTIONS):
        asks(mux, str(number))
    refused = says(mux, '{"jsonrpc":"2.0","id":"more","method":"roots/list"}')
    assert isinstance(refused, Refuse)
    assert refused.message.startswith(b'{"jsonrpc":"2.0","id":"more","error":{"code":-32603,"message":"1000 questions')
    assert mux.questions == MOST_QUESTIONS
    assert mux.answer(Response(b"1", result=b"{}")) is not None
    asks(mux, '"more"')


def test_two_children_never_ask_under_the_same_number() -> None:
    numbers = itertools.count(1)
    one, other = Mux(numbers), Mux(numbers)
    question = asks(one, "0")
    assert question.question != asks(other, "0").question
    assert other.answer(Response(b"%d" % (question.question or 0), result=b"{}")) is None


def test_a_question_that_nobody_takes_is_refused_once() -> None:
    mux = new_mux()
    question = asks(mux, "0").question
    assert question is not None
    assert mux.refuse(question, -32601, "nobody here") == (
        b'{"jsonrpc":"2.0","id":0,"error":{"code":-32601,"message":"nobody here"}}'
    )
    assert mux.refuse(question, -32601, "nobody here") is None


def test_a_question_that_is_taken_back_is_cancelled_under_the_number_the_client_knows() -> None:
    mux = new_mux(first_question=1000)
    asks(mux, '"q"')
    asks(mux, '"7"')
    assert withdraws(mux, r'"\u0037"') == Undirected(
        CANCELLED,
        b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1001,"reason":"late"}}',
        question=1001,
    )
    assert mux.answer(Response(b"1001", result=b"{}")) is None
    assert mux.questions == 1


@pytest.mark.parametrize("id_", ["7", '"q2"', "null", "1000"])
def test_taking_back_what_was_not_asked_reaches_nobody(id_: str) -> None:
    mux = new_mux(first_question=1000)
    asks(mux, '"7"')
    assert isinstance(withdraws(mux, id_), Drop)
    assert mux.questions == 1


def test_what_names_no_exchange_is_undirected_and_untouched() -> None:
    line = '{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info",  "data":1e999}}'
    assert says(new_mux(), line) == Undirected("notifications/message", line.encode())


def test_a_reason_for_the_log_is_one_short_line() -> None:
    decision = answers(new_mux(), '"' + r"\n\u001b" + "\N{SNOWMAN}" + "x" * 500 + '"')
    assert isinstance(decision, Drop)
    assert decision.why.isprintable()
    assert decision.why.isascii()
    assert len(decision.why) < 120


def test_an_escaped_spelling_of_progress_token_does_not_hide_it() -> None:
    mux = new_mux()
    _, line = mux.open("mallory", Request(b"7", "tools/call", rb'{"_meta":{"progress\u0054oken":2}}'))
    mux.open("bob", call("7", token='"p"'))
    given = json.loads(line)["params"]["_meta"]["progressToken"]
    decision = progresses(mux, str(given))
    assert isinstance(decision, Deliver)
    assert decision.exchange == "mallory"


def deepest_progress() -> messages.Message:
    """The deepest progress notification that ``parse`` accepts from here."""
    deepest = None
    for depth in itertools.count(1):
        nest = b"[" * depth + b"]" * depth
        try:
            deepest = messages.parse(
                b'{"jsonrpc":"2.0","method":"%b","params":{"progressToken":1,"x":%b}}' % (PROGRESS.encode(), nest)
            )
        except messages.Rejection:
            break
    assert deepest is not None
    return deepest


def test_a_message_that_was_parsed_is_never_too_deep_to_be_routed() -> None:
    mux = new_mux()
    mux.open("alice", call("7", token="7"))
    assert isinstance(mux.receive(deepest_progress()), Deliver | Drop)


# Subscriptions


def test_two_subscriptions_under_one_client_id_get_their_own_frames() -> None:
    mux = new_mux()
    first, line = mux.open("alice", listen("7"))
    second, _ = mux.open("bob", listen("7"))
    assert line == (
        b'{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true}}}'
    )
    for method in (CHANGED, "notifications/subscriptions/acknowledged", "notifications/resources/updated"):
        assert says(mux, frame(str(second), method)) == Deliver("bob", frame("7", method).encode())
        assert says(mux, frame(str(first), method)) == Deliver("alice", frame("7", method).encode())


@pytest.mark.parametrize("id_", ["7", '"7"', r'"\u0037"', "-1", "1", '"1"', "123456789012345678901234567890", '"é"'])
def test_a_frame_carries_the_clients_id_exactly_as_it_was_written(id_: str) -> None:
    mux = new_mux()
    mux.open("other", listen("7"))
    number, _ = mux.open("alice", listen(id_))
    assert says(mux, frame(str(number))) == Deliver("alice", frame(id_).encode())
    assert says(mux, frame(f'"{number}"')) == Deliver("alice", frame(id_).encode())  # a loose child writes texts


def test_the_rest_of_a_frame_is_untouched() -> None:
    mux = new_mux()
    mux.open("alice", listen('"mine"'))
    params = f'"uri":"file:\\/\\/a","n":1e999,"_meta":{{"b":1.10,"{SUBSCRIPTION_ID}":%s,"a":[ 1 ]}},"z":{{}}'
    line = f'{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{{{params}}}}}'
    assert says(mux, line % "1") == Deliver("alice", (line % '"mine"').encode())


@pytest.mark.parametrize("id_", ["2", "3", "0", "-1", "1.0", "null", '""', '"mine"', "[1]", "{}", "true", "1" * 30])
def test_a_frame_for_a_subscription_that_is_not_there_reaches_nobody(id_: str) -> None:
    mux = new_mux()
    mux.open("alice", listen('"mine"'))
    mux.open("bob", call("7", token="7"))  # 2 is open, but is no subscription
    assert isinstance(says(mux, frame(id_)), Drop)
    assert isinstance(says(mux, frame("1")), Deliver)


def test_a_frame_for_a_subscription_that_was_closed_reaches_nobody() -> None:
    mux = new_mux()
    closed, _ = mux.open("alice", listen("7"))
    ended, _ = mux.open("bob", listen("7"))
    mux.close(closed)
    answers(mux, str(ended))
    number, _ = mux.open("carol", listen("7"))
    assert isinstance(says(mux, frame(str(closed))), Drop)
    assert isinstance(says(mux, frame(str(ended))), Drop)
    assert says(mux, frame(str(number))) == Deliver("carol", frame("7").encode())


def test_the_end_of_a_subscription_carries_the_clients_id_too() -> None:
    mux = new_mux()
    mux.open("alice", listen('"7"'))
    result = f'{{"resultType":"complete","_meta":{{"{SUBSCRIPTION_ID}":%s,"x":1.10}}}}'
    assert answers(mux, "1", result % "1") == Deliver(
        "alice", (f'{{"jsonrpc":"2.0","id":"7","result":{result}}}' % '"7"').encode(), final=True
    )
    mux.open("bob", listen("7"))
    assert says(mux, '{"jsonrpc":"2.0","id":2,"error":{"code":-32603,"message":"full"}}') == Deliver(
        "bob", b'{"jsonrpc":"2.0","id":7,"error":{"code":-32603,"message":"full"}}', final=True
    )


def test_the_answer_to_any_other_request_gets_no_subscription_id() -> None:
    mux = new_mux()
    mux.open("alice", call("7"))
    decision = answers(mux, "1", f'{{"_meta":{{"{SUBSCRIPTION_ID}":1}}}}')
    assert isinstance(decision, Deliver)
    assert decision.message == f'{{"jsonrpc":"2.0","id":7,"result":{{"_meta":{{"{SUBSCRIPTION_ID}":1}}}}}}'.encode()


def test_a_subscription_without_a_token_gets_no_progress() -> None:
    mux = new_mux()
    mux.open("alice", listen("7"))
    assert isinstance(progresses(mux, "1"), Drop)


@pytest.mark.parametrize(
    "spelling", [r"io.modelcontextprotocol\/subscriptionId", SUBSCRIPTION_ID.replace("I", r"\u0049")]
)
def test_an_escaped_spelling_does_not_hide_a_subscription_id(spelling: str) -> None:
    mux = new_mux()
    mux.open("alice", listen('"mine"'))
    assert says(mux, frame("1").replace(SUBSCRIPTION_ID, spelling)) == Deliver("alice", frame('"mine"').encode())


def test_a_message_that_mentions_subscription_ids_is_no_frame() -> None:
    line = f'{{"jsonrpc":"2.0","method":"notifications/message","params":{{"data":"no {SUBSCRIPTION_ID}"}}}}'
    assert says(new_mux(), line) == Undirected("notifications/message", line.encode())


# Any order

#: Every client uses these, so the ids and tokens of all of them collide, and some look like wire numbers.
IDS = ("7", '"7"', r'"\u0037"', "1", '"1"', '"id"', "-1", "123456789012345678901234567890")
TOKENS = (None, "7", '"7"', "1", "2", "3", '"p"', r'"\u0070"', "123456789012345678901234567890")
CLIENTS = ("alice", "bob", "carol")
PAYLOADS = ("{}", "null", '{"b":1,"a":1e999}', '{"id":7,"progressToken":7}', r'["\u00e9", "é"]')
#: What is no number of ours, whatever is open.
STRAYS = ("null", "1.0", "-1", '""', "{}", "[7]", "0", "9999999999999999999999", '"1"', '"7"')


@dataclass(frozen=True)
class Call:
    """What the model remembers of an open exchange."""

    exchange: tuple[str, int]
    id: str
    token: str | None
    listens: bool = False


def key(text: str) -> tuple[type, Any]:
    """What makes two JSON ids the same id."""
    value = json.loads(text)
    return type(value), value


def with_subscription(result: str, id_: str) -> str:
    """The end of a subscription as its client sees it: an object that names it."""
    inside = f"{result[1:-1]}," if result.startswith("{") and result != "{}" else ""
    return f'{{{inside}"_meta":{{"{SUBSCRIPTION_ID}":{id_}}}}}'


class Interleavings(RuleBasedStateMachine):
    """Clients and a child do whatever they like; the model says who must get what."""

    numbers = Bundle("numbers")
    questions = Bundle("questions")

    def __init__(self) -> None:
        super().__init__()
        self.mux = Mux(itertools.count(1))
        self.open: dict[int, Call] = {}
        self.asked: dict[int, str] = {}
        self.used: set[int] = set()
        self.serials = itertools.count()

    # What clients do

    @rule(
        target=numbers,
        client=st.sampled_from(CLIENTS),
        id_=st.sampled_from(IDS),
        token=st.sampled_from(TOKENS),
        payload=st.sampled_from(PAYLOADS),
    )
    def a_client_calls(self, client: str, id_: str, token: str | None, payload: str) -> Any:
        meta = "" if token is None else f',"_meta":{{"progressToken":{token}}}'
        params = f'{{"arguments":{payload}{meta}}}'
        exchange = (client, next(self.serials))
        number, line = self.mux.open(exchange, Request(id_.encode(), "tools/call", params.encode()))
        assert number not in self.used
        swapped = "" if token is None else f',"_meta":{{"progressToken":{number}}}'
        params = f'{{"arguments":{payload}{swapped}}}'
        expected = f'{{"jsonrpc":"2.0","id":{number},"method":"tools/call","params":{params}}}'
        assert line == expected.encode()
        self.used.add(number)
        self.open[number] = Call(exchange, id_, token)
        return number

    @rule(target=numbers, client=st.sampled_from(CLIENTS), id_=st.sampled_from(IDS))
    def a_client_subscribes(self, client: str, id_: str) -> Any:
        exchange = (client, next(self.serials))
        number, _ = self.mux.open(exchange, listen(id_))
        assert number not in self.used
        self.used.add(number)
        self.open[number] = Call(exchange, id_, None, listens=True)
        return number

    @rule(number=numbers, reason=st.sampled_from(["", ',"reason":"x"']), id_=st.sampled_from(IDS))
    def a_client_cancels(self, number: int, reason: str, id_: str) -> None:
        line = self.mux.cancel(number, f'{{"requestId":{id_}{reason}}}'.encode())
        if number in self.open:
            expected = f'{{"jsonrpc":"2.0","method":"{CANCELLED}","params":{{"requestId":{number}{reason}}}}}'
            assert line == expected.encode()
        else:
            assert line is None

    @rule(number=numbers)
    def an_exchange_is_closed(self, number: int) -> None:
        self.mux.close(number)
        self.open.pop(number, None)

    @rule(number=questions, payload=st.sampled_from(PAYLOADS))
    def a_client_answers_a_question(self, number: int, payload: str) -> None:
        line = self.mux.answer(Response(b"%d" % number, result=payload.encode()))
        if number in self.asked:
            assert line == f'{{"jsonrpc":"2.0","id":{self.asked.pop(number)},"result":{payload}}}'.encode()
        else:
            assert line is None

    @rule(number=questions)
    def a_client_answers_with_the_id_as_a_string(self, number: int) -> None:
        assert self.mux.answer(Response(b'"%d"' % number, result=b"{}")) is None

    @rule(number=questions)
    def a_question_is_refused(self, number: int) -> None:
        line = self.mux.refuse(number, -32601, "nobody")
        if number in self.asked:
            error = '{"code":-32601,"message":"nobody"}'
            assert line == f'{{"jsonrpc":"2.0","id":{self.asked.pop(number)},"error":{error}}}'.encode()
        else:
            assert line is None

    # What the child does

    @rule(number=numbers, field=st.sampled_from(["result", "error"]), payload=st.sampled_from(PAYLOADS))
    def the_child_answers(self, number: int, field: str, payload: str) -> None:
        payload = payload if field == "result" or payload.startswith("{") else f'{{"data":{payload}}}'
        decision = says(self.mux, f'{{"jsonrpc":"2.0","id":{number},"{field}":{payload}}}')
        asked = self.open.pop(number, None)
        if asked is None:
            assert isinstance(decision, Drop)
        else:
            if asked.listens and field == "result":
                payload = with_subscription(payload, asked.id)
            expected = f'{{"jsonrpc":"2.0","id":{asked.id},"{field}":{payload}}}'
            assert decision == Deliver(asked.exchange, expected.encode(), final=True)

    @rule(number=numbers, payload=st.sampled_from(PAYLOADS))
    def the_child_progresses(self, number: int, payload: str) -> None:
        decision = progresses(self.mux, str(number), payload)
        asked = self.open.get(number)
        if asked is None or asked.token is None:
            assert isinstance(decision, Drop)
        else:
            params = f'{{"progressToken":{asked.token},"progress":{payload}}}'
            expected = f'{{"jsonrpc":"2.0","method":"{PROGRESS}","params":{params}}}'
            assert decision == Deliver(asked.exchange, expected.encode(), final=False)

    @rule(number=numbers)
    def the_child_publishes(self, number: int) -> None:
        decision = says(self.mux, frame(str(number)))
        asked = self.open.get(number)
        if asked is None or not asked.listens:
            assert isinstance(decision, Drop)
        else:
            assert decision == Deliver(asked.exchange, frame(asked.id).encode(), final=False)

    @rule(number=numbers)
    def the_child_answers_with_the_id_as_a_string(self, number: int) -> None:
        assert isinstance(answers(self.mux, f'"{number}"'), Drop)
        assert isinstance(progresses(self.mux, f'"{number}"'), Drop)

    @rule(id_=st.sampled_from(STRAYS))
    def the_child_names_an_id_that_was_never_given(self, id_: str) -> None:
        assert isinstance(answers(self.mux, id_), Drop)
        assert isinstance(progresses(self.mux, id_), Drop)

    @rule(id_=st.sampled_from(["null", "1.0", "-1", '""', "{}", "[7]", "0", "9999999999999999999999"]))
    def the_child_publishes_to_an_id_that_was_never_given(self, id_: str) -> None:
        assert isinstance(says(self.mux, frame(id_)), Drop)

    @rule(target=questions, id_=st.sampled_from(IDS))
    def the_child_asks(self, id_: str) -> Any:
        question = asks(self.mux, id_)
        number = question.question
        assert number is not None
        assert number not in self.asked
        assert json.loads(question.message)["id"] == number
        self.asked[number] = id_
        return number

    @rule(id_=st.sampled_from(IDS))
    def the_child_takes_a_question_back(self, id_: str) -> None:
        decision = withdraws(self.mux, id_)
        number = next((n for n, theirs in self.asked.items() if key(theirs) == key(id_)), None)
        if number is None:
            assert isinstance(decision, Drop)
        else:
            del self.asked[number]
            params = f'{{"requestId":{number},"reason":"late"}}'
            expected = f'{{"jsonrpc":"2.0","method":"{CANCELLED}","params":{params}}}'
            assert decision == Undirected(CANCELLED, expected.encode(), question=number)

    @rule(id_=st.sampled_from(IDS))
    def the_child_pings(self, id_: str) -> None:
        expected = f'{{"jsonrpc":"2.0","id":{id_},"result":{{}}}}'
        assert says(self.mux, f'{{"jsonrpc":"2.0","id":{id_},"method":"ping"}}') == Reply(expected.encode())

    @invariant()
    def it_remembers_what_is_open_and_nothing_else(self) -> None:
        assert len(self.mux) == len(self.open)
        assert self.mux.questions == len(self.asked)


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=100, stateful_step_count=40)
