"""Names of many servers in one list: short enough, no two alike, and always the same."""

from __future__ import annotations

import random

import pytest

from bridge.protocol.prefix import LONGEST, Prefixes, public_uri, split_uri

IDS = ("a", "a__b", "b", "b_", "long" * 16)


@pytest.mark.parametrize(
    ("server", "name", "public"),
    [
        ("a", "echo", "a__echo"),
        ("a", "é 1/x", "a__é 1/x"),
        ("a", "", "a__"),
        ("a__b", "c", "a__b__c"),
        ("a", "b__c", "a__b__c_edc6b97d"),  # or it would be what "c" of "a__b" is
        ("a", "b___", "a__b____2125f0b9"),
        ("b", "_c", "b___c_3392212d"),  # "c" of "b_" is b___c
        ("b_", "c", "b___c"),
        ("a", "c_0123abcd", "a__c_0123abcd_6f96f6e4"),  # or it would look like one that was cut
        ("a", "x" * 61, "a__" + "x" * 61),
        ("a", "x" * 62, "a__" + "x" * 52 + "_02ce5648"),
    ],
)
def test_how_a_name_is_made(server: str, name: str, public: str) -> None:
    """Clients keep names: whoever changes how they are made breaks what people have permitted."""
    prefixes = Prefixes(IDS, "__")
    assert prefixes.public(server, name) == public
    assert Prefixes(reversed(IDS), "__").public(server, name) == public
    is_plain = public == f"{server}__{name}"
    assert prefixes.split(public) == ((server, name) if is_plain else None)


@pytest.mark.parametrize("separator", ["__", "_", "-", ".", "/", "a", "x__"])
def test_no_two_names_are_alike_and_each_is_found_again(separator: str) -> None:
    rng = random.Random(separator)
    alphabet = f"ab_{separator}"

    def word(most: int) -> str:
        return "".join(rng.choice(alphabet) for _ in range(rng.randint(1, most)))

    for _ in range(50):
        servers = sorted({word(4).replace("/", "") or "s" for _ in range(6)} | {"a" * 64})
        prefixes = Prefixes(servers, separator)
        origins = {(server, word(70 if rng.random() < 0.2 else 5)) for server in servers for _ in range(20)}
        names = {prefixes.public(*origin): origin for origin in origins}
        assert len(names) == len(origins)
        for public, origin in names.items():
            assert len(public) <= LONGEST
            assert prefixes.split(public) in (origin, None)
            assert prefixes.public(*origin, salt=1) != public


@pytest.mark.parametrize(
    ("public", "found"),
    [
        (public_uri("s", "file:///x/y"), ("s", "file:///x/y")),
        (public_uri("a.b", "bridge://s/x"), ("a.b", "bridge://s/x")),
        ("bridge://s/", ("s", "")),
        ("bridge://s", None),
        ("file:///s/x", None),
        ("", None),
    ],
)
def test_a_uri_that_says_whose_it_is(public: str, found: tuple[str, str] | None) -> None:
    assert split_uri(public) == found
