"""``mcp-bridge token``: rows come and go, and the token is shown once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.auth.keyring import Keyring
from bridge.cli.main import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOKENS_FILE", raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["token", *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_a_token_is_added_listed_and_removed(run: Run, tmp_path: Path) -> None:
    code, out, err = run("add", "ci", "--scope", "servers:build-*", "--expires", "90d")
    assert code == 0
    secret = out.strip()
    assert secret.startswith("mcpb_")
    assert "TOKENS_FILE=tokens.json" in err
    found = Keyring(None, tmp_path / "tokens.json").find(secret.encode())
    assert found is not None
    assert found.may_use("build-1")
    assert run("add", "other")[0] == 0
    code, out, _ = run("ls")
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [["ci", "servers:build-*"], ["other", "servers:*"]]
    assert "89d 23h" in out
    assert secret not in out
    rows = json.loads(run("ls", "--json")[1])
    assert [row["name"] for row in rows] == ["ci", "other"]
    assert run("rm", "ci")[0] == 0
    assert [row["name"] for row in json.loads(run("ls", "--json")[1])] == ["other"]


def test_what_makes_no_sense_changes_nothing(run: Run, tmp_path: Path) -> None:
    run("add", "ci")
    before = (tmp_path / "tokens.json").read_bytes()
    for arguments, code, words in (
        (["add", "ci"], 1, "already"),
        (["add", "x", "--scope", "root"], 1, "no scope 'root'"),
        (["add", "a/b"], 1, "name must be"),
        (["add", "x", "--expires", "tomorrow"], 2, "--expires"),
        (["rm", "ci", "absent"], 1, 'no token "absent"'),
    ):
        found, _, err = run(*arguments)
        assert (found, words in err) == (code, True), (arguments, err)
        assert err.startswith("mcp-bridge: ")
    assert (tmp_path / "tokens.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["tokens.json"]


def test_a_file_that_is_named_behind_the_action_is_used_and_named_again(run: Run, tmp_path: Path) -> None:
    assert run("add", "ci", "--file", "mine.json")[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["mine.json"]
    code, _, err = run("add", "ci", "--file", "mine.json")
    assert (code, err.endswith("remove it first: mcp-bridge token rm ci --file mine.json\n")) == (1, True)


def test_a_damaged_file_is_not_overwritten(run: Run, tmp_path: Path) -> None:
    (tmp_path / "tokens.json").write_text("{")
    code, _, err = run("add", "ci")
    assert code == 1
    assert "is no JSON" in err
    assert (tmp_path / "tokens.json").read_text() == "{"
