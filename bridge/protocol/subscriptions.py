"""``subscriptions/listen`` (specification 2026-07-28): what may be asked for, and the notifications that it means."""

from __future__ import annotations

from bridge.protocol import jsontext, messages, translate
from bridge.protocol.capabilities import declares
from bridge.protocol.jsontext import Raw
from bridge.protocol.messages import Message, Notification, Request, Response
from bridge.protocol.modern import ACKNOWLEDGED, LISTEN, SUBSCRIPTION_ID, with_meta

UPDATED = "notifications/resources/updated"
#: What may be asked for, and where a server declares that it announces that.
KINDS = {"toolsListChanged": "tools", "promptsListChanged": "prompts", "resourcesListChanged": "resources"}
#: The announcement of each.
CHANGED = {key: f"notifications/{group}/list_changed" for key, group in KINDS.items()}
LIST_CHANGED = frozenset(CHANGED.values())


def honored(asked: bytes, greeting: bytes) -> tuple[dict[str, bool], list[str]]:
    """Return the kinds and the resources that a server declares to announce, of those that are asked for.

    ``asked`` is ``params.notifications`` of a listen, ``greeting`` the server's InitializeResult or DiscoverResult.
    """
    members = jsontext.fields(asked)
    kinds = {
        key: True
        for key, group in KINDS.items()
        if members.get(key) == Raw(b"true") and declares(greeting, group, "listChanged")
    }
    uris = jsontext.decode(bytes(members.get("resourceSubscriptions", b"[]")))
    if not isinstance(uris, list) or not declares(greeting, "resources", "subscribe"):
        return kinds, []
    return kinds, [uri for uri in uris if isinstance(uri, str)]


def listen_to_all(greeting: bytes) -> Request | None:
    """Return the request to hear of every list that changes; None where the server announces none."""
    kinds, _ = honored(jsontext.encode(dict.fromkeys(KINDS, True)), greeting)
    return _listen({"notifications": kinds}) if kinds else None


def listen_to(uri: str) -> Request:
    """Return the request to hear of updates of one resource."""
    return _listen({"notifications": {"resourceSubscriptions": [uri]}})


def _listen(params: dict[str, object]) -> Request:
    return Request(b"0", LISTEN, translate.params_up(jsontext.encode(params), b"{}", b"", None))


def acknowledges(message: Message, uri: str) -> bool:
    """Whether a server's first answer to :func:`listen_to` grants that."""
    if not isinstance(message, Notification) or message.method != ACKNOWLEDGED:
        return False
    granted = jsontext.fields(jsontext.member(message.params, "notifications"))
    uris = jsontext.decode(bytes(granted.get("resourceSubscriptions", b"")))
    return isinstance(uris, list) and uri in uris


def wants(listen: Request, method: str) -> bool:
    """Whether a ``subscriptions/listen`` asks for this announcement of a list."""
    asked = jsontext.fields(jsontext.member(listen.params, "notifications"))
    return any(CHANGED[key] == method and asked.get(key) == Raw(b"true") for key in KINDS)


def end_of(subscription: bytes) -> bytes:
    """Return the line that ends a subscription in good order: the answer to the request that opened it."""
    result = with_meta(b'{"resultType":"complete"}', {SUBSCRIPTION_ID: subscription})
    return messages.response_line(Response(subscription, result))


def named(method: str, params: bytes, subscription: bytes) -> bytes:
    """Return a notification as a line, under the id of its subscription."""
    return messages.notification_line(method, with_meta(params, {SUBSCRIPTION_ID: subscription}))


def unnamed(note: Notification) -> bytes:
    """Return the same announcement as a line of the handshake era, which knows no subscriptions."""
    return messages.notification_line(note.method, with_meta(note.params, {SUBSCRIPTION_ID: b""}))


def all_changed(acknowledged: bytes, subscription: bytes) -> list[bytes]:
    """Return the lines that say of everything subscribed to that it may have changed.

    ``acknowledged`` are the params of the acknowledgment.
    """
    granted = jsontext.fields(jsontext.member(acknowledged, "notifications"))
    lines = [named(CHANGED[key], b"", subscription) for key in KINDS if granted.get(key) == Raw(b"true")]
    uris = jsontext.items(bytes(granted.get("resourceSubscriptions", b"[]")))
    return lines + [named(UPDATED, jsontext.encode({"uri": uri}), subscription) for uri in uris]
