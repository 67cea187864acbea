"""Session ids that name who holds the session."""

from __future__ import annotations

import re

import pytest

from bridge.cluster.ids import Birth, SessionIds
from bridge.observe.ids import shorten

IDS = SessionIds(Birth("w1", 7), b"key")


def test_an_id_names_its_node_and_can_stand_in_an_url() -> None:
    minted = {IDS.mint() for _ in range(100)}
    assert len(minted) == 100
    for each in minted:
        assert re.fullmatch(r"w1\.7\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{22}", each)
        assert SessionIds(Birth("other", 1), b"key").birth_of(each) == Birth("w1", 7)


def changed(session_id: str, part: int, text: str) -> str:
    parts = session_id.split(".")
    parts[part] = text
    return ".".join(parts)


@pytest.mark.parametrize(
    "forged",
    [
        changed(IDS.mint(), 0, "w2"),
        changed(IDS.mint(), 1, "8"),
        changed(IDS.mint(), 2, "A" * 22),
        changed(IDS.mint(), 3, "A" * 22),
        SessionIds(Birth("w1", 7), b"another key").mint(),
        IDS.mint() + "\n",
        "0f8fad5b-d9cb-469f-a165-70867728950e",
        "w1.7..",
        "",
        "é" * 22,
    ],
    ids=[
        *("another node", "another epoch", "other random bits", "another signature", "another key", "a line end"),
        *("a plain id", "nothing but points", "empty", "not ASCII"),
    ],
)
def test_a_forged_or_foreign_id_is_nobodys(forged: str) -> None:
    assert IDS.birth_of(forged) is None


def test_logs_show_the_node_and_no_more_of_the_id_than_of_any() -> None:
    minted = IDS.mint()
    assert shorten(minted) == f"w1.{minted.split('.')[2][:8]}..."
    assert shorten("0f8fad5b-d9cb-469f-a165-70867728950e") == "0f8fad5b..."
