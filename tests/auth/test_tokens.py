"""The tokens file, and when it is read again."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge.auth import tokens
from bridge.auth.keyring import LOOK, MOST_MET, Keyring
from bridge.auth.principal import BadScope, Principal, check_scope
from bridge.auth.tokens import BadTokens

NOW = datetime(2026, 11, 21, 10, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOW.timestamp()

    def __call__(self) -> float:
        return self.now


def fill(path: Path, *rows: tuple[str, list[str]], expires: datetime | None = None) -> list[bytes]:
    """Write a file with these names and scopes; return the tokens."""
    made = [tokens.mint(name, scopes, expires, NOW) for name, scopes in rows]
    tokens.write(path, [row for _, row in made])
    return [secret.encode() for secret, _ in made]


def test_a_token_is_found_by_its_hash_and_never_stands_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    [secret] = fill(path, ("ci", ["servers:a-*"]))
    assert secret not in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = Keyring(None, path).find(secret)
    assert found is not None
    assert (found.name, found.is_admin, found.may_persist) == ("token:ci", False, False)
    assert found.may_use("a-1")
    assert not found.may_use("b")
    assert Keyring(None, path).find(secret + b"x") is None


@pytest.mark.parametrize(
    ("scopes", "uses", "persists", "is_admin"),
    [
        ([], False, False, False),
        (["servers:*"], True, False, False),
        (["servers:other", "sessions:persist"], False, True, False),
        (["servers:ti?e"], True, False, False),
        (["admin"], True, True, True),
    ],
)
def test_what_scopes_allow(scopes: list[str], uses: bool, persists: bool, is_admin: bool) -> None:
    who = Principal("x", scopes)
    assert (who.may_use("time"), who.may_persist, who.is_admin) == (uses, persists, is_admin)


@pytest.mark.parametrize("scope", ["", "Admin", "servers:", "servers", "servers:a b", "servers:*\n", "sessions:*"])
def test_a_scope_that_does_not_exist_is_refused(scope: str) -> None:
    with pytest.raises(BadScope, match="there are servers:<glob"):
        check_scope(scope)


def test_one_principal_for_each_name_whatever_the_token() -> None:
    assert Principal("token:ci", []).owner == Principal("token:ci", ["admin"]).owner
    assert Principal("token:ci", []).owner != Principal("token:cd", []).owner


def test_a_token_ends_at_its_time(tmp_path: Path) -> None:
    path, wall = tmp_path / "tokens.json", Clock()
    [secret] = fill(path, ("ci", ["admin"]), expires=NOW + timedelta(seconds=10))
    keyring = Keyring(None, path, wall=wall)
    wall.now += 9.9
    assert keyring.find(secret) is not None
    wall.now += 0.1
    assert keyring.find(secret) is None


def test_a_text_is_remembered_until_its_token_ends_or_the_file_changes(tmp_path: Path) -> None:
    path, clock, wall = tmp_path / "tokens.json", Clock(), Clock()
    [secret] = fill(path, ("ci", ["admin"]), expires=NOW + timedelta(seconds=10))
    keyring = Keyring("static", path, clock, wall)
    assert keyring.find(b"wrong", "Bearer wrong") is None
    assert keyring.recall("Bearer wrong") is keyring.recall("") is None
    found = keyring.find(secret, "Bearer ...")
    assert found is not None
    assert keyring.recall("Bearer ...") is found
    clock.now += LOOK
    assert keyring.recall("Bearer ...") is found
    wall.now += 10
    assert keyring.recall("Bearer ...") is None
    wall.now -= 10
    fill(path, ("other", ["admin"]))
    clock.now += LOOK
    assert keyring.recall("Bearer ...") is None
    for number in range(MOST_MET + 5):
        assert keyring.find(b"static", f"Bearer {number}") is keyring.recall(f"Bearer {number}") is not None
    assert keyring.recall("Bearer 0") is None  # only so many


def test_a_changed_file_is_read_again_within_a_second(tmp_path: Path) -> None:
    path, clock = tmp_path / "tokens.json", Clock()
    [first] = fill(path, ("first", ["admin"]))
    keyring = Keyring("static", path, clock)
    [second] = fill(path, ("second", ["admin"]))
    assert keyring.find(second) is None
    clock.now += LOOK
    assert keyring.find(second) is not None
    assert keyring.find(first) is None
    assert keyring.find(b"static") is not None


def test_a_broken_file_leaves_the_tokens_of_before_and_a_deleted_one_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, clock = tmp_path / "tokens.json", Clock()
    [secret] = fill(path, ("ci", ["admin"]))
    keyring = Keyring("static", path, clock)
    path.write_text('{"tokens": [')
    clock.now += LOOK
    assert keyring.find(secret) is not None
    assert "is no JSON" in caplog.text
    path.unlink()
    clock.now += LOOK
    assert keyring.find(secret) is None
    assert keyring.find(b"static") is not None
    assert keyring.is_needed


def row(**more: Any) -> dict[str, Any]:
    return {"name": "ci", "hash": "sha256:" + "0" * 64, "scopes": ["admin"], "created": None, "expires": None, **more}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([], 'must be {"tokens"'),
        ({"tokens": {}}, 'must be {"tokens"'),
        ({"tokens": ["x"]}, "token 1: must be an object"),
        ({"tokens": [row(token="x")]}, "token 1: must be an object"),
        ({"tokens": [row(name="a b")]}, "name must be"),
        ({"tokens": [row(hash="plain")]}, 'token 1 "ci": hash must be'),
        ({"tokens": [row(scopes="admin")]}, "scopes must be a list"),
        ({"tokens": [row(scopes=["root"])]}, "no scope 'root'"),
        ({"tokens": [row(expires="tomorrow")]}, "expires must be a time"),
        ({"tokens": [row(expires="2026-11-21T10:00:00")]}, "expires must be a time"),
        ({"tokens": [row(), row()]}, 'two tokens "ci"'),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, found: Any, words: str) -> None:
    path = tmp_path / "tokens.json"
    path.write_text(json.dumps(found))
    with pytest.raises(BadTokens) as error:
        tokens.read(path)
    assert words in str(error.value)
    assert str(path) in str(error.value)


def test_a_file_that_is_not_there_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(BadTokens, match="mcp-bridge token add"):
        Keyring(None, tmp_path / "absent.json")
