"""What a subscription may hear of."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.protocol import messages, subscriptions
from bridge.protocol.messages import Notification, Response
from bridge.protocol.modern import ACKNOWLEDGED, SUBSCRIPTION_ID

ALL = {"toolsListChanged": True, "promptsListChanged": True, "resourcesListChanged": True}


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


def greeting(**capabilities: Any) -> bytes:
    return encoded({"capabilities": capabilities})


@pytest.mark.parametrize(
    ("declared", "kinds", "uris"),
    [
        ({}, set(), []),
        ({"tools": {}}, set(), []),
        ({"tools": {"listChanged": False}, "resources": {"subscribe": False}}, set(), []),
        ({"tools": {"listChanged": True}}, {"toolsListChanged"}, []),
        ({"prompts": {"listChanged": True}, "resources": {"subscribe": True}}, {"promptsListChanged"}, ["a://b"]),
        ({"resources": {"listChanged": True, "subscribe": True}}, {"resourcesListChanged"}, ["a://b"]),
    ],
)
def test_only_what_the_server_declares_is_honored(declared: dict[str, Any], kinds: set[str], uris: list[str]) -> None:
    asked = encoded({**ALL, "resourceSubscriptions": ["a://b"]})
    assert subscriptions.honored(asked, greeting(**declared)) == (dict.fromkeys(kinds, True), uris)


@pytest.mark.parametrize("asked", [{}, {"toolsListChanged": False}, {"toolsListChanged": 1}, {"other": True}, []])
def test_only_what_is_asked_for_is_honored(asked: Any) -> None:
    assert subscriptions.honored(encoded(asked), greeting(tools={"listChanged": True})) == ({}, [])


@pytest.mark.parametrize(("uris", "taken"), [("a", []), ({"a": 1}, []), ([1, "a://b", None], ["a://b"])])
def test_resources_are_a_list_of_names(uris: Any, taken: list[str]) -> None:
    asked = encoded({"resourceSubscriptions": uris})
    assert subscriptions.honored(asked, greeting(resources={"subscribe": True})) == ({}, taken)


def test_a_server_is_asked_for_all_that_it_declares_or_not_at_all() -> None:
    assert subscriptions.listen_to_all(greeting(tools={})) is None
    request = subscriptions.listen_to_all(greeting(tools={"listChanged": True}, prompts={"listChanged": True}))
    assert request is not None
    assert json.loads(request.params)["notifications"] == {"toolsListChanged": True, "promptsListChanged": True}


@pytest.mark.parametrize(
    ("notifications", "granted"),
    [({"resourceSubscriptions": ["a://b"]}, True), ({"resourceSubscriptions": []}, False), ({}, False), ([], False)],
)
def test_a_subscription_is_granted_by_its_acknowledgment(notifications: Any, granted: bool) -> None:
    params = encoded({"notifications": notifications})
    assert subscriptions.acknowledges(Notification(ACKNOWLEDGED, params), "a://b") is granted
    assert not subscriptions.acknowledges(Notification("notifications/other", params), "a://b")
    assert not subscriptions.acknowledges(Response(b"1", result=params), "a://b")


def test_all_that_was_granted_may_have_changed() -> None:
    granted = {"toolsListChanged": True, "promptsListChanged": False, "resourceSubscriptions": ["a://1", "a://2"]}
    lines = [json.loads(line) for line in subscriptions.all_changed(encoded({"notifications": granted}), b"7")]
    assert [(line["method"], line["params"].get("uri")) for line in lines] == [
        ("notifications/tools/list_changed", None),
        ("notifications/resources/updated", "a://1"),
        ("notifications/resources/updated", "a://2"),
    ]
    assert {line["params"]["_meta"][SUBSCRIPTION_ID] for line in lines} == {7}


values = st.sampled_from(["1e999", "1.10", "-0.0", '"a\\/b"', '"é😀"', '{"z":1,"a":[2]}', "null"])
names = st.sampled_from(["uri", "a", "é"])


@given(st.dictionaries(names, values), st.dictionaries(names, values), st.sampled_from([b"7", b'"7"', b'"a\\/b"']))
def test_an_announcement_comes_back_from_a_subscription_as_it_went(
    params: dict[str, str], meta: dict[str, str], subscription: bytes
) -> None:
    def text(members: dict[str, str]) -> str:
        return (
            "{" + ",".join(f"{json.dumps(name, ensure_ascii=False)}:{value}" for name, value in members.items()) + "}"
        )

    whole = text({**params, **({"_meta": text(meta)} if meta else {})}).encode()
    note = messages.parse(subscriptions.named("notifications/resources/updated", whole, subscription))
    assert isinstance(note, Notification)
    assert subscriptions.unnamed(note) == messages.notification_line("notifications/resources/updated", whole)


def test_the_handshake_era_knows_no_subscriptions() -> None:
    line = subscriptions.named("notifications/tools/list_changed", b'{"a":1,"_meta":{"b":2}}', b'"mine"')
    note = messages.parse(line)
    assert isinstance(note, Notification)
    assert json.loads(note.params)["_meta"] == {"b": 2, SUBSCRIPTION_ID: "mine"}
    assert json.loads(subscriptions.unnamed(note))["params"] == {"a": 1, "_meta": {"b": 2}}
