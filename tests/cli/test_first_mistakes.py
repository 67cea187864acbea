"""What a stranger types wrong in the first hour, and what the command says to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import run
from tests.conftest import peer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "servers.json").write_text(
        json.dumps({"mcpServers": {"peer": peer(env={"OAUTH_TOKEN": "${OAUTH_TOKEN:-}"})}})
    )
    return tmp_path


async def test_names_of_the_settings_file_that_are_almost_settings_are_told(folder: Path) -> None:
    (folder / ".env").write_text("ACESS_TOKEN=a\nPROT=4000\nOAUTH_TOKEN=theirs\nGITHUB_TOKEN=theirs\nLOG_LEVEL=INFO\n")
    code, out, err = await run(folder, "check")
    assert (code, err) == (0, "")
    assert [line for line in out.splitlines() if "no setting" in line] == [
        'warning: .env: ACESS_TOKEN is no setting; did you mean "ACCESS_TOKEN"?',
        'warning: .env: PROT is no setting; did you mean "PORT"?',
    ]


async def test_an_origin_without_a_scheme_is_refused_with_an_example(folder: Path) -> None:
    code, _, err = await run(folder, "check", ALLOWED_ORIGINS="https://b.example,app.example")
    assert code == 2
    assert "ALLOWED_ORIGINS: is 'https://b.example,app.example', must be origins with their scheme" in err
    assert "such as https://app.example" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "mcp-bridge: .env: PORT: is 'many', must be a whole number"),
        (["--session-timeout", "5m"], "--session-timeout: is '5m', must be a number of seconds above 0, or \"never\""),
        (["--session-timeout", "0"], "--session-timeout: is '0', must be a number of seconds above 0, or \"never\""),
    ],
)
async def test_a_bad_value_is_told_where_it_was_written(folder: Path, arguments: list[str], words: str) -> None:
    (folder / ".env").write_text("PORT=many\n")
    code, _, err = await run(folder, "check", *arguments)
    assert code == 2
    assert words in err
