"""Who hears of a change."""

from __future__ import annotations

import json

import pytest

from bridge.children.audience import Audience
from bridge.protocol.mux import Undirected

CHANGED = Undirected("notifications/tools/list_changed", b"{}")


class Listener:
    def __init__(self) -> None:
        self.heard: list[Undirected] = []

    def hear(self, message: Undirected) -> None:
        self.heard.append(message)


def updated(uri: str) -> Undirected:
    method = "notifications/resources/updated"
    return Undirected(method, json.dumps({"method": method, "params": {"uri": uri}}).encode())


@pytest.mark.parametrize(
    ("wanted", "uri", "concerns"),
    [
        ("file:///a", "file:///a", True),
        ("file:///a", "file:///a/b", True),
        ("file:///a/", "file:///a/b", True),
        ("file:///a", "file:///ab", False),
        ("file:///a/b", "file:///a", False),
        ("", "file:///a", False),
        ("a://b", "A://B", False),
    ],
)
def test_an_update_concerns_those_who_subscribed_to_it_or_to_what_it_is_a_part_of(
    wanted: str, uri: str, concerns: bool
) -> None:
    audience, subscriber, other = Audience(), Listener(), Listener()
    audience.join(subscriber)
    audience.join(other)
    audience.subscribe(subscriber, wanted)
    assert audience.hear(updated(uri))
    assert len(subscriber.heard) == concerns
    assert other.heard == []


def test_a_member_with_two_subscriptions_hears_of_a_change_once() -> None:
    audience, member = Audience(), Listener()
    audience.join(member)
    audience.subscribe(member, "a://b")
    audience.subscribe(member, "a://b/c")
    audience.hear(updated("a://b/c"))
    assert len(member.heard) == 1


def test_who_has_gone_hears_nothing_and_leaves_what_only_it_had_subscribed_to() -> None:
    audience, one, two = Audience(), Listener(), Listener()
    for member in (one, two):
        audience.join(member)
        audience.subscribe(member, "a://both")
    audience.subscribe(one, "a://one")
    assert audience.part(one) == ["a://one"]
    assert audience.part(one) == []
    for change in (CHANGED, updated("a://both"), updated("a://one")):
        audience.hear(change)
    audience.subscribe(one, "a://one")  # its child has answered only now
    assert one.heard == []
    assert len(two.heard) == 2
    assert audience.subscriptions == ["a://both"]


@pytest.mark.parametrize("method", ["notifications/message", "notifications/progress", "sampling/createMessage"])
def test_what_is_no_change_is_for_somebody_else(method: str) -> None:
    audience, member = Audience(), Listener()
    audience.join(member)
    assert not audience.hear(Undirected(method, b"{}"))
    assert member.heard == []
