"""Large messages are read once, and mean what they mean when they are read as all others are."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from itertools import permutations

import pytest

from bridge.protocol import messages
from bridge.protocol.envelope import LARGE, split
from bridge.protocol.errors import Rejection
from bridge.protocol.messages import LargeResult, Message, Request
from bridge.protocol.mux import Mux

LONG = "x" * LARGE
#: How the members of a message may end in the text of an argument.
TRAPS = ('"}},"id":2}', '}}},"jsonrpc":"2.0","id":2}', "\\", '\\"', "é}", "\n}", '"_meta":{}}}')


def in_full(data: bytes, monkeypatch: pytest.MonkeyPatch) -> Message | Rejection:
    """What the decoder of the whole message says."""
    with monkeypatch.context() as patch:
        patch.setattr(messages, "split", lambda _data: None)
        return parsed(data)


def parsed(data: bytes) -> Message | Rejection:
    try:
        return messages.parse(data)
    except Rejection as rejection:
        return rejection


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\r\n", "\t: ")])
@pytest.mark.parametrize("text", ["", *TRAPS])
@pytest.mark.parametrize("has_id", [True, False])
def test_every_order_is_read_at_once(
    text: str, separators: tuple[str, str], has_id: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = {"_meta": {"progressToken": "p"}, "arguments": {"long": LONG, "text": text}}
    message = {"jsonrpc": "2.0", "method": "tools/call", "params": params} | ({"id": "a-7"} if has_id else {})
    for order in permutations(message):
        data = json.dumps({name: message[name] for name in order}, separators=separators, ensure_ascii=False).encode()
        assert split(data) is not None
        assert messages.parse(data) == in_full(data, monkeypatch)
        found = messages.parse(bytearray(data))  # which whoever has received it may fill anew
        assert found == messages.parse(data)
        assert {type(getattr(found, name)) for name in ("id", "params", "meta") if hasattr(found, name)} == {bytes}


@pytest.mark.parametrize(
    "data",
    [
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":@,"id":2}',
        b'{"jsonrpc":"2.0","id":1,"id":2,"method":"m","method":"n","params":@}',
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":@,"params":@}',
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":{},"id":3,"params":@}',
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":@,"result":{}}',
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":@,"more":{}}',
        b'{"jsonrpc":"2.0","id":1,"params":@}',
        b'{"id":1,"method":"m","params":@}',
        b'{"jsonrpc":"1.0","id":1,"method":"m","params":@}',
        b'{"jsonrpc":"2.0","id":1.5,"method":"m","params":@}',
        b'{"jsonrpc":"2.0","id":01,"method":"m","params":@}',
        b'{"jsonrpc":"2.0","id":null,"method":"m","params":@}',
        b'{"jsonrpc":"2.0","id":"\\u0031","method":"\\u006d","params":@}',
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":[@]}',
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":@@}',
        b'{"jsonrpc":"2.0","id":1,"method":"m",,"params":@}',
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":@,}',
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":@}}',
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":@',
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":NaN,"b":@}}',
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":7,"b":@}}',
        b'[{"jsonrpc":"2.0","id":1,"method":"m","params":@}]',
        b'{"jsonrpc":"2.0","id":1,"method":"m\xff","params":@}',
        b'{"jsonrpc":"2.0","id":1,"result":@}',
    ],
)
def test_anything_else_is_what_it_is_in_full(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    large = data.replace(b"@", b'{"long":"%b"}' % LONG.encode())
    one, other = parsed(large), in_full(large, monkeypatch)
    assert (type(one), str(one)) == (type(other), str(other))
    if not isinstance(one, Rejection):
        assert one == other


def test_what_is_nested_too_deeply_is_refused() -> None:
    deep = b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":%b%b}}' % (b"[" * LARGE, b"]" * LARGE)
    with pytest.raises(Rejection, match="nested too deeply"):
        messages.parse(deep)


@pytest.mark.parametrize(
    "line",
    [
        b'{"jsonrpc":"2.0","id":1,"result":@}',
        b'{"result": @ ,"id":1,"jsonrpc":"2.0"}',
        b'{"jsonrpc":"2.0","id":1,"result":{"a":\r[@]}}',
        b'{"jsonrpc":"2.0","id":1,"result":@,"error":null}',
        b'{"jsonrpc":"2.0","id":1,"error":@}',
        b'{"jsonrpc":"2.0","id":9,"result":@}',
        b'{"jsonrpc":"2.0","id":"1","result":@}',
        b'{"jsonrpc":"2.0","result":@}',
        b'{"jsonrpc":"1.0","id":1,"result":@}',
        b'{"jsonrpc":"2.0","id":1,"result":{"a":NaN,"b":@}}',
        b'{"jsonrpc":"2.0","id":1,"method":"roots/list","result":@}',
        b'{"jsonrpc":"2.0","id":1,"method":"notifications/message","params":@}',
    ],
)
@pytest.mark.parametrize("method", ["tools/call", "subscriptions/listen"])
def test_a_large_answer_is_passed_on_as_any_other(line: bytes, method: str) -> None:
    large = line.replace(b"@", b'{"long":"%b"}' % LONG.encode())

    def decided(read: Callable[[bytes], Message | LargeResult]) -> object:
        mux: Mux[str] = Mux(itertools.count(7))
        mux.open("alice", Request(b'"a"', method, b"{}"))
        try:
            return mux.receive(read(large)), mux.exchanges
        except Rejection as rejection:
            return str(rejection)

    assert decided(messages.parse_line) == decided(messages.parse)


def test_a_large_result_is_not_copied_out_of_its_line() -> None:
    line = b'{"jsonrpc":"2.0","id":1,"result":"%b"}' % LONG.encode()
    assert isinstance(messages.parse_line(line), LargeResult)
