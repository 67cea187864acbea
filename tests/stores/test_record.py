"""The record as JSON, and what a version that is older or newer makes of it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import msgspec
import pytest

from bridge.stores.record import Append, Damaged, from_json
from tests.stores.conftest import events, record

FIELDS = json.loads(record().to_json())


def stored(**changed: Any) -> bytes:
    return json.dumps({**FIELDS, **changed}, separators=(",", ":")).encode()


def test_a_record_is_a_plain_json_object() -> None:
    assert FIELDS == {
        "id": "a",
        "server": "files",
        "config": "c0ffee",
        "version": "2025-11-25",
        "initialize": {"protocolVersion": "2025-11-25", "capabilities": {}},
        "initialized": True,
        "level": "debug",
        "subscriptions": ["file:///a", "file:///\u00e9"],
        "owner": "0wn3r",
        "created": 900.0,
        "touched": 1000.0,
        "ttl": None,
        "metadata": {"name": "caf\u00e9", "n": 1, "deep": {"list": [1, None, True]}},
        "last_event": 3,
    }


def test_fields_of_a_newer_version_are_ignored_and_those_that_came_later_may_be_missing() -> None:
    older = {name: value for name, value in FIELDS.items() if name != "last_event"}
    assert from_json(stored(node="n1", deep={"er": [1]})) == record()
    assert from_json(json.dumps(older, separators=(",", ":")).encode()) == record(last_event=0)
    assert from_json(stored(touched=1000)) == record()  # a whole number is a number of seconds too


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "truncated"),
        (b'{"id":"a"', "truncated"),
        (b"[]", "array"),
        (b"null", "null"),
        (b'{"id":"a"}', "missing required field"),
        (stored(ttl="never"), r"at `\$.ttl`"),
        (stored(metadata=[]), r"at `\$.metadata`"),
        (stored(id=7), r"at `\$.id`"),
        (stored(touched=None), r"at `\$.touched`"),
        (stored(id="a\u00e9").replace(rb"\u00e9", b"\xe9"), "utf-8"),
        (stored()[:-1] + b',"x":NaN}', "malformed"),
        (stored()[:-1] + b',"metadata":' + b"[" * 100_000, "deep|malformed|array"),
        (stored(initialize=0).replace(b'"initialize":0', b'"initialize":' + b"[" * 100_000), "deep"),
    ],
)
def test_what_is_no_record_is_damaged_and_not_quoted(data: bytes, why: str) -> None:
    with pytest.raises(Damaged, match=why) as caught:
        from_json(data)
    assert "c0ffee" not in str(caught.value)
    assert "[[[" not in str(caught.value)


def test_a_record_does_not_hold_on_to_what_it_was_read_from() -> None:
    data = stored(metadata={"large": "x" * 100_000})
    before = sys.getrefcount(data)
    kept = from_json(data)
    assert sys.getrefcount(data) == before
    assert kept.initialize is not None
    assert bytes(kept.initialize) == b'{"protocolVersion":"2025-11-25","capabilities":{}}'


def test_a_record_knows_when_it_ends() -> None:
    never, soon = record(ttl=None), record(touched=100.0, ttl=60.0)
    assert (never.expires(), soon.expires()) == (None, 160.0)
    assert not never.expired(1e12)
    assert not soon.expired(159.9)
    assert soon.expired(160.0)


def test_a_record_shows_neither_its_id_nor_what_clients_sent() -> None:
    shown = repr(record("5d7be0c1-93a4", initialize=msgspec.Raw(b'{"secret":1}'), metadata={"secret": 2}))
    assert "5d7be0c1" not in shown
    assert "secret" not in shown
    assert "files" in shown


def test_the_newest_of_some_events_stay_within_both_bounds() -> None:
    some = events(1, 1, 5, b"1234")
    assert Append("a", some).newest(5, 20) == (False, some)
    assert Append("a", some).newest(3, 20) == (True, some[2:])
    assert Append("a", some).newest(5, 19) == (True, some[1:])
    assert Append("a", some).newest(5, 3) == (True, ())
    assert Append("a", ()).newest(5, 3) == (False, ())


def test_a_bridge_without_redis_and_file_store_imports_neither_of_their_libraries() -> None:
    code = (
        "import sys, bridge.cli.main, bridge.web.app, bridge.stores.factory, bridge.stores.memory; "
        "print({'redis', 'sqlite3'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], env={}, text=True).strip() == "set()"
