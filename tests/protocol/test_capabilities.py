"""What a client may be asked, and what it is told that a server does."""

from __future__ import annotations

import pytest

from bridge.protocol.capabilities import may_ask, without

FORM = b'{"method":"elicitation/create","params":{"mode":"form"}}'
URL = b'{"method":"elicitation/create","params":{"mode":"url"}}'


@pytest.mark.parametrize(
    ("capabilities", "question", "may"),
    [
        (b"{}", b'{"method":"sampling/createMessage"}', False),
        (b'{"sampling":{}}', b'{"method":"sampling/createMessage","params":{}}', True),
        (b'{"sampling":{}}', b'{"method":"roots/list"}', False),
        (b'{"roots":{"listChanged":true}}', b'{"method":"roots/list"}', True),
        (b'{"elicitation":{}}', b'{"method":"elicitation/create","params":{}}', True),
        (b'{"elicitation":{}}', FORM, True),
        (b'{"elicitation":{}}', URL, False),
        (b'{"elicitation":{"url":{}}}', URL, True),
        (b'{"elicitation":{"form":{},"url":{}}}', FORM, True),
        (b'{"elicitation":{"url":{}}}', FORM, False),
        (b'{"elicitation":{"url":{}}}', b'{"method":"elicitation/create","params":{}}', False),
        (b'{"sampling":{}}', b'{"method":"sampling/createMessage","params":{"tools":null}}', True),
        (b'{"sampling":{}}', b'{"method":"sampling/createMessage","params":{"tools":[{}]}}', False),
        (b'{"sampling":{}}', b'{"method":"sampling/createMessage","params":{"toolChoice":{}}}', False),
        (b'{"sampling":{"tools":{}}}', b'{"method":"sampling/createMessage","params":{"tools":[{}]}}', True),
        (b"", b'{"method":"elicitation/create"}', False),
        (b"{}", b'{"method":"tasks/get"}', True),
        (b"{}", b'{"method":"ping"}', True),
    ],
)
def test_a_client_is_asked_what_it_offered(capabilities: bytes, question: bytes, may: bool) -> None:
    assert may_ask(capabilities, question) is may


@pytest.mark.parametrize(
    ("greeting", "told"),
    [
        (b'{"a": 1.0,"capabilities":{"tools":{},"tasks":{"list":{}}}}', b'{"a": 1.0,"capabilities":{"tools":{}}}'),
        (b'{"a": 1.0,"capabilities":{ "tools":{}}}', b'{"a": 1.0,"capabilities":{ "tools":{}}}'),
        (b'{"a": 1.0}', b'{"a": 1.0}'),
    ],
)
def test_a_capability_is_left_out_and_all_else_stays_as_it_was(greeting: bytes, told: bytes) -> None:
    assert without(greeting, "tasks") == told


@pytest.mark.parametrize(
    ("greeting", "told"),
    [
        (
            b'{"capabilities":{"tasks":{"list":{},"cancel":{}}}, "a":1.0}',
            b'{"capabilities":{"tasks":{"cancel":{}}}, "a":1.0}',
        ),
        (b'{"capabilities":{"tasks":{ "cancel":{}}}}', b'{"capabilities":{"tasks":{ "cancel":{}}}}'),
        (b'{"capabilities":{ "tools":{}}}', b'{"capabilities":{ "tools":{}}}'),
        (b'{"capabilities":{ "tasks":7}}', b'{"capabilities":{ "tasks":7}}'),
    ],
)
def test_so_is_a_part_of_one(greeting: bytes, told: bytes) -> None:
    assert without(greeting, "tasks", "list") == told
