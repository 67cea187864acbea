"""``mcp-bridge completion`` in real shells: what they offer at Tab."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.cli.main import VERBS
from tests.cli.conftest import environment, run

#: Prints what bash offers for the words of its arguments; the last one is being typed.
BASH = """
source <(mcp-bridge completion bash)
COMP_WORDS=(mcp-bridge "$@"); COMP_CWORD=$#
_mcp_bridge
printf '%s\\n' "${COMPREPLY[@]}"
"""
#: The same by fish itself; zsh has no such question, so it is asked through a terminal.
FISH = "mcp-bridge completion fish | source; complete -C (string join ' ' -- mcp-bridge $argv)"
ZSH = """
import os, pty, re, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execvp("zsh", ["zsh", "-f", "-i"])
def until(mark):
    text = b""
    while mark not in text:
        text += os.read(terminal, 65536)
    return text
os.write(terminal, b"PS1=''; autoload -Uz compinit; compinit -u; source <(mcp-bridge completion zsh); stty cols 200\\n")
os.write(terminal, b"offer() { zle list-choices; zle -R; print -n li''sted }; zle -N offer; bindkey '^I' offer\\n")
os.write(terminal, b"print read''y\\n")
until(b"ready\\r\\n")
os.write(terminal, ("mcp-bridge " + " ".join(sys.argv[1:]) + "\\t").encode())
text = until(b"listed").decode()
print("\\n".join(re.findall(r"[\\w.-]+", re.sub(r"\\x1b\\[[0-9;?]*[a-zA-Z]", " ", text))))
os.kill(pid, 9)
"""


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """An environment with the command, and a servers file with comments where it is used."""
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin/mcp-bridge"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bridge "$@"\n')
    command.chmod(0o755)
    entries = json.dumps({"mcpServers": {"files": {"command": "x"}, "file-two": {"command": 7}}})
    (tmp_path / "servers.json").write_text(f"// mine\n{entries}")
    return environment(PATH=f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}", TERM="xterm")


def offered(name: str, words: list[str], folder: Path, env: dict[str, str]) -> set[str]:
    commands = {
        "bash": ["bash", "--norc", "-c", BASH, "bash", *words],
        "fish": ["fish", "--no-config", "-c", FISH, *words],
        "zsh": [sys.executable, "-c", ZSH, *words],
    }
    done = subprocess.run(commands[name], cwd=folder, env=env, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    return {line.split("\t")[0] for line in done.stdout.splitlines()}


@pytest.mark.parametrize("name", ["bash", "fish", "zsh"])
def test_a_shell_offers_verbs_flags_words_and_server_ids(name: str, tmp_path: Path, shell: dict[str, str]) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"there is no {name} here")

    def tab(*words: str) -> set[str]:
        return offered(name, list(words), tmp_path, shell)

    assert set(VERBS) <= tab("")
    assert {"--tail", "--follow"} <= tab("logs", "--")
    assert {"files", "file-two"} <= tab("logs", "f")
    assert {"start", "stop", "restart"} <= tab("servers", "")
    assert {"files", "file-two"} <= tab("servers", "stop", "f")
    assert "add" in tab("token", "")
    assert "files" not in tab("sessions", "")


def test_every_script_knows_every_verb_and_flag(tmp_path: Path, shell: dict[str, str]) -> None:
    for name in ("bash", "zsh", "fish"):
        script = subprocess.run(
            ["mcp-bridge", "completion", name], cwd=tmp_path, env=shell, capture_output=True, text=True, check=True
        ).stdout
        for verb in VERBS:
            assert verb in script
        assert "session-timeout" in script


async def test_help_shows_lines_to_copy(tmp_path: Path) -> None:
    code, out, _ = await run(tmp_path, "completion", "--help")
    assert code == 0
    place = "~/.local/share/bash-completion/completions/mcp-bridge"
    assert f"  bash  mcp-bridge completion bash > {place}\n" in out


@pytest.mark.parametrize("name", ["bash", "fish", "zsh"])
def test_a_name_that_is_no_id_is_neither_offered_nor_run(name: str, tmp_path: Path, shell: dict[str, str]) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"there is no {name} here")
    odd = ["$(touch${IFS}ran)", "`touch\tran`", "(touch ran)", "a;touch${IFS}ran", "it's", "a\nb"]
    entries = {key: {"command": "true"} for key in (*odd, "good.one")}
    (tmp_path / "servers.json").write_text(json.dumps({"mcpServers": entries}))
    before = sorted(path.name for path in tmp_path.iterdir())
    assert "good.one" in offered(name, ["servers", "stop", "g"], tmp_path, shell)
    assert not {*odd} & offered(name, ["servers", "stop", ""], tmp_path, shell)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_bash_itself_offers_files_with_spaces_in_their_names(tmp_path: Path, shell: dict[str, str]) -> None:
    (tmp_path / "my servers.json").touch()
    for flag in ("-c", "--env-file", "--ssl-certfile"):
        assert offered("bash", ["doctor", flag, "my"], tmp_path, shell) == {""}, "its own way, complete -o default"


@pytest.mark.parametrize("text", ["{", "[]", "7", '{"mcpServers": []}', "\udcff"])
def test_a_file_that_is_no_configuration_has_no_ids_and_no_errors(
    tmp_path: Path, shell: dict[str, str], text: str
) -> None:
    (tmp_path / "servers.json").write_bytes(text.encode(errors="surrogateescape"))
    done = subprocess.run(["mcp-bridge", "completion", "ids"], cwd=tmp_path, env=shell, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
