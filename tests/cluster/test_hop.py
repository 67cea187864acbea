"""The header by which one node believes another."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.cluster.hop import LIFE, Hop, HopSeals
from bridge.cluster.keys import Sealer

HOP = Hop("w2", "w1", "POST", "/mcp/peer?x=1", ["ann", ["servers:*"], None, None], "10.0.0.9", "https", "tools.example")
RIGHT: dict[str, Any] = {"to": "w2", "method": "POST", "target": "/mcp/peer?x=1", "now": 1000.0}


def test_a_header_says_what_was_written() -> None:
    header = HopSeals(b"key").write(HOP, 1000.0)
    assert HopSeals(b"key").read(header, **RIGHT) == HOP
    assert header.isascii()
    assert header.isprintable()


@pytest.mark.parametrize(
    "wrong",
    [
        {"to": "w3"},
        {"method": "DELETE"},
        {"target": "/mcp/other"},
        {"now": 1000.0 + LIFE + 1},
        {"now": 1000.0 - LIFE - 1},
    ],
)
def test_a_header_is_good_for_one_node_and_request_and_not_for_long(wrong: dict[str, Any]) -> None:
    assert HopSeals(b"key").read(HopSeals(b"key").write(HOP, 1000.0), **{**RIGHT, **wrong}) is None


@pytest.mark.parametrize(
    "header", ["", ".", "x.y", "é.é", "\udcff.abc", "abc.\udcff", HopSeals(b"other").write(HOP, 1000.0)]
)
def test_a_forged_header_says_nothing(header: str) -> None:
    assert HopSeals(b"key").read(header, **RIGHT) is None


def test_what_is_sealed_for_one_purpose_is_worth_nothing_for_another() -> None:
    assert not Sealer(b"key", "hop").is_good("text", Sealer(b"key", "session id").seal("text"))
