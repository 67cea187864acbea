"""Many servers told as one: lists, who has what, and the rewriting of what names a thing."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from bridge.protocol import merged
from bridge.protocol.merged import PROMPTS, RESOURCES, TEMPLATES, TOOLS, Index, Listing
from bridge.protocol.messages import Request, parse
from bridge.protocol.prefix import Prefixes

AB = Prefixes(["a", "b"], "__")


def items(listing: Listing, *names: Any) -> list[bytes]:
    return [json.dumps({listing.key: name}).encode() for name in names]


def learn(index: Index, listing: Listing, **found: list[Any]) -> list[str]:
    """Teach an index what servers list; return the names that clients see."""
    shown = index.learn(listing, {server: items(listing, *names) for server, names in found.items()}, AB)
    return [json.loads(bytes(item))[listing.key] for item in shown]


@pytest.mark.parametrize("name", ["x", "\\u00e9", "a b", '\\"'])
def test_a_listed_thing_keeps_every_byte_but_its_name(name: str) -> None:
    item = b'{ "description": "name", "name" :"%b","inputSchema":{"name":"%b",  "x":1e400}}' % (2 * (name.encode(),))
    [shown] = Index().learn(TOOLS, {"a": [item]}, AB)
    public = json.dumps("a__" + json.loads(f'"{name}"'), ensure_ascii=False).encode()
    assert bytes(shown) == item.replace(b'"name" :"%b"' % name.encode(), b'"name" :' + public)


def test_what_has_no_name_is_left_out_and_what_comes_twice_comes_once() -> None:
    assert learn(Index(), TOOLS, a=["x", None, 7, "x"], b=["x"]) == ["a__x", "b__x"]
    assert Index().learn(TOOLS, {"a": [b"{}", b"[]", b"7"]}, AB) == []


def test_a_resource_stays_with_the_first_server() -> None:
    index = Index()
    assert learn(index, RESOURCES, a=["x://1"], b=["x://1", "x://2"]) == ["x://1", "bridge://b/x://1", "x://2"]
    assert index.origin(RESOURCES, "x://1") == ("a", "x://1")
    assert index.origin(RESOURCES, "bridge://b/x://1") == ("b", "x://1")
    assert (index.public_of("a", "x://1"), index.public_of("b", "x://1")) == ("x://1", "bridge://b/x://1")
    assert index.public_of("b", "x://other") == "x://other"


def test_a_server_that_is_silent_is_remembered_and_one_that_answers_is_not() -> None:
    index = Index()
    learn(index, RESOURCES, a=["x://1", "x://3"], b=["x://2"])
    assert learn(index, RESOURCES, b=["x://1"]) == ["x://1"]
    assert index.origin(RESOURCES, "x://3") == ("a", "x://3")
    assert index.origin(RESOURCES, "x://1") == ("b", "x://1")
    assert index.origin(RESOURCES, "x://2") is None


@pytest.mark.parametrize(
    ("template", "uri", "fits"),
    [
        ("x://{id}", "x://7", True),
        ("x://{id}", "y://7", False),
        ("x://{id}/end", "x://7/end", True),
        ("x://{id}/end", "x://7", False),
        ("x://{a}/m/{b}", "x://1/m/2", True),
        ("x://{a}/m/{b}", "x://1/n/2", False),
        ("x://plain", "x://plain", True),
        ("x://plain", "x://plainer", False),
        ("{+path}", "any:thing", True),
        ("a:b{x}b", "a:b", False),
        ("{", "{", True),
    ],
)
def test_who_may_have_what_nobody_lists(template: str, uri: str, fits: bool) -> None:
    index = Index()
    learn(index, TEMPLATES, a=[template])
    learn(index, RESOURCES, b=["x:first-of-its-scheme", "y:", "a:"])
    assert (index.fitting(uri) or index.likely(uri)) == (("a" if fits else "b"), uri)


def test_the_most_specific_template_wins_and_none_takes_long() -> None:
    index = Index()
    learn(index, TEMPLATES, a=["x://{+all}", "{x}a" * 5000 + "!"], b=["x://files/{name}"])
    begun = time.process_time()
    assert index.fitting("x://files/1") == ("b", "x://files/1")
    assert index.fitting("x://" + "a" * 100_000) == ("a", "x://" + "a" * 100_000)
    assert time.process_time() - begun < 1
    assert index.fitting("z://") is None
    assert index.likely("z://") is None


@pytest.mark.parametrize(
    ("method", "params", "subject", "becomes"),
    [
        (
            "tools/call",
            '{ "name":"a__x", "arguments":{"name":"a__x"}}',
            (TOOLS, "a__x"),
            '{ "name":"n", "arguments":{"name":"a__x"}}',
        ),
        ("tools/call", '{"name":"1","name":"a__x"}', (TOOLS, "a__x"), '{"name":"1","name":"n"}'),
        ("prompts/get", '{"name":"p"}', (PROMPTS, "p"), '{"name":"n"}'),
        ("resources/read", '{"uri":"x:"}', (RESOURCES, "x:"), '{"uri":"n"}'),
        ("resources/subscribe", '{"uri":"x:"}', (RESOURCES, "x:"), '{"uri":"n"}'),
        (
            "completion/complete",
            '{"argument":{"name":"p"},"ref":{"type":"ref/prompt","name":"p"}}',
            (PROMPTS, "p"),
            '{"argument":{"name":"p"},"ref":{"type":"ref/prompt","name":"n"}}',
        ),
        (
            "completion/complete",
            '{"ref":{"type":"ref/resource","uri":"x:{y}"}}',
            (RESOURCES, "x:{y}"),
            '{"ref":{"type":"ref/resource","uri":"n"}}',
        ),
        ("completion/complete", '{"ref":{"type":"ref/other","name":"p"}}', None, ""),
        ("tools/call", '{"name":7}', None, ""),
        ("tools/call", "", None, ""),
        ("tools/list", '{"name":"x"}', None, ""),
    ],
)
def test_what_a_request_is_about(method: str, params: str, subject: tuple[Listing, str] | None, becomes: str) -> None:
    request = Request(b"1", method, params.encode())
    assert merged.subject(request) == subject
    if subject is not None:
        assert merged.about(request, subject[0], "n") == Request(b"1", method, becomes.encode())


@pytest.mark.parametrize(
    ("method", "params", "code", "text"),
    [
        ("tools/call", {"name": "x"}, -32602, "Unknown tool: x"),
        ("prompts/get", {"name": "x"}, -32602, "Unknown prompt: x"),
        ("resources/read", {"uri": "x:"}, -32002, "Unknown resource: x:"),
        ("resources/read", {}, -32602, "params of resources/read must name what it is about"),
        ("completion/complete", {}, -32602, "params of completion/complete must name what it is about"),
        ("tasks/get", {}, -32601, "method tasks/get is not for all servers at once; use /mcp/<id>"),
    ],
)
def test_what_is_for_nobody(method: str, params: dict[str, Any], code: int, text: str) -> None:
    error = merged.refusal(Request(b"1", method, json.dumps(params).encode()), -32002)
    assert error == {"code": code, "message": text}


def test_an_update_names_what_clients_know() -> None:
    line = b'{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"x:", "more":1}}'
    assert merged.updated(line, lambda uri: uri) is line
    assert merged.updated(line, lambda uri: f"bridge://a/{uri}") == line.replace(b"x:", b"bridge://a/x:")
    broken = b'{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":7}}'
    assert merged.updated(broken, lambda uri: "y") is broken
    assert parse(broken)


def test_capabilities_and_instructions() -> None:
    one = json.dumps({"capabilities": {"tools": {}, "tasks": {}, "x": {"a": 1}}, "instructions": " Be one.\n"}).encode()
    two = json.dumps({"capabilities": {"x": {"b": 2}, "experimental": {}}, "instructions": 7}).encode()
    found = json.loads(json.dumps(merged.capabilities([one, two, b"{}"]), default=lambda raw: json.loads(bytes(raw))))
    assert found == {**merged.CAPABILITIES, "x": {"a": 1, "b": 2}, "experimental": {}}
    said = merged.instructions({"one": one, "two": two, "three": b""}, "::")
    assert said == "Names begin with the id of their server: <id>::<name>.\n\n# one\nBe one."
    assert merged.instructions({"two": two}, "__") == ""
