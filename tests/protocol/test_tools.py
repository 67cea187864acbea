"""Which tools are there for clients."""

from __future__ import annotations

import pytest

from bridge.protocol.messages import Request
from bridge.protocol.tools import ToolNames, called, is_call, tools_in, without


@pytest.mark.parametrize(
    ("allowed", "disabled", "name", "permitted"),
    [
        (None, (), "x", True),
        ((), (), "x", False),
        (("a*",), (), "abc", True),
        (("a*",), (), "ABC", False),  # names are told apart by case (specification, tools)
        (("a?", "b"), (), "b", True),
        (("*",), ("*_all",), "delete_all", False),
        (None, ("delete_*",), "read", True),
        (("x",), ("x",), "x", False),
    ],
)
def test_allowed_minus_disabled(
    allowed: tuple[str, ...] | None, disabled: tuple[str, ...], name: str, permitted: bool
) -> None:
    assert ToolNames(allowed, disabled).permit(name) is permitted


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (b'{"id":1,"error":{"code":1}}', None),
        (b'{"id":1,"result":{}}', []),
        (b'{"id":1,"result":{"tools":7}}', []),
        (rb'{"id":1,"result":{"tools":[{"name":"\u0061"},{"name":7},5]}}', ["a", "", ""]),
    ],
)
def test_tools_are_found_by_name(line: bytes, wanted: list[str] | None) -> None:
    found = tools_in(line)
    assert (None if found is None else [name for name, _ in found]) == wanted


def test_a_list_of_which_nothing_goes_is_the_same_line() -> None:
    line = b'{"jsonrpc":"2.0","id":1,"result":{"tools":[ {"name":"a"} ]}}'
    assert without(line, tools_in(line) or [], lambda *_: True) is line


def test_all_may_go() -> None:
    line = b'{"jsonrpc":"2.0","id":"x","result":{"_meta":{"tools":[]},"tools":[{"name":"a"}],"nextCursor":"2"}}'
    left = without(line, tools_in(line) or [], lambda *_: False)
    assert left == b'{"jsonrpc":"2.0","id":"x","result":{"_meta":{"tools":[]},"tools":[],"nextCursor":"2"}}'


def test_a_call_is_read_in_one_way_only() -> None:
    assert called(Request(b"1", "tools/call", b'{"name":"a","name":"b"}')) == (
        "b",
        Request(b"1", "tools/call", b'{"name":"b"}'),
    )
    assert called(Request(b"1", "tools/call", b'{"name":"a","nAme":"b"}')) is None
    assert called(Request(b"1", "tools/call", b'{"name":1}')) is None


def test_a_notification_that_calls_is_seen() -> None:
    assert is_call(b'{"jsonrpc":"2.0","method":"tools/call","params":{}}')
    assert is_call(b'{"jsonrpc":"2.0","method":"tools/call"}')
    assert not is_call(b'{"jsonrpc":"2.0","method":"notifications/cancelled"}')
