"""Which commands are Python, and what they have it run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.process.program import python_program
from bridge.process.python import NotPython, PythonProgram
from bridge.process.spawn import Command
from bridge.process.uv import FLAGS, VALUED

#: A console script as pip writes it when the path of its interpreter is too long for the first line, or has a space.
SH_TRICK = "#!/bin/sh\n'''exec' \"/a path/python3\" \"$0\" \"$@\"\n' '''\nimport sys\n"


def of(line: str, cwd: Path | None = None, path: str = "") -> PythonProgram:
    return python_program(Command(tuple(line.split()), {"PATH": path}, cwd))


@pytest.mark.parametrize(
    ("line", "interpreter", "run"),
    [
        ("python -m x", "python", "-m x"),
        ("/venv/bin/python3.12 -m x.y -a --b c", "/venv/bin/python3.12", "-m x.y -a --b c"),
        ("python3.13t -mx -m", "python3.13t", "-m x -m"),
        ("pypy3 s.py", "pypy3", "s.py"),
        ("python -u -I -m x", "python -u -I", "-m x"),
        ("python -uIm x -u", "python -uI", "-m x -u"),
        ("python -u s.py -m x", "python -u", "s.py -m x"),
        ("python -X utf8 -Wdefault -OO s.py", "python -X utf8 -Wdefault -OO", "s.py"),
        ("python -uX dev s", "python -uX dev", "s"),
        ("python -c pass a", "python", "-c pass a"),
        ("uvx tool", "uvx --from tool python", "-e tool"),
        ("/bin/uvx tool@1.2 a --b", "/bin/uvx --from tool@1.2 python", "-e tool a --b"),
        ("uvx tool[x,y]@latest", "uvx --from tool[x,y]@latest python", "-e tool"),
        ("uvx -q -p 3.12 --with=y --from z tool a", "uvx -q -p 3.12 --with=y --from z python", "-e tool a"),
        ("uvx -p3.12 tool", "uvx -p3.12 --from tool python", "-e tool"),
        ("uvx --with mcp python -u s.py", "uvx --with mcp python -u", "s.py"),
        ("uv tool run tool a", "uv tool run --from tool python", "-e tool a"),
        ("uv -q tool run --from z tool", "uv -q tool run --from z python", "-e tool"),
        ("uv run -m x a", "uv run python", "-m x a"),
        ("uv run --frozen python -m x", "uv run --frozen python", "-m x"),
        ("uv run --with mcp[cli] mcp run s.py", "uv run --with mcp[cli] python", "-e mcp run s.py"),
        ("uv --directory=d run -- tool -a", "uv --directory=d run python", "-e tool -a"),
    ],
)
def test_a_command_line_of_python_is_divided(line: str, interpreter: str, run: str) -> None:
    assert of(line) == PythonProgram(tuple(interpreter.split()), tuple(run.split()))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("python", "given nothing to run"),
        ("python -u", "given nothing to run"),
        ("python -", "given nothing to run"),
        ("python -m", "option -m"),
        ("python -i s.py", "option -i"),
        ("python -ui s.py", "option -ui"),
        ("python --version", "option --version"),
        ("python --check-hash-based-pycs always s.py", "option --check-hash-based-pycs"),
        ("pythonista s.py", "not found"),
        ("no-such-command", "command 'no-such-command' not found"),
        ("uvx", "given nothing to run"),
        # Whatever follows an unknown option may be its value; taken for a tool it would be installed.
        ("uvx --new-option tool other", "option --new-option of uv"),
        ("uvx git+https://example.com/tool", "is not known here as a tool"),
        ("uvx ./tool", "is not known here as a tool"),
        ("uvx --from z tool@2", "is not known here as a tool"),
        ("uv sync", "uv sync runs no server"),
        ("uv", "runs no server"),
        ("uv run", "given nothing to run"),
        ("uv run --script s.py", "option --script of uv"),
        ("uv run no-such-file.py", "cannot be read: No such file"),
        ("uv run ./tool", "is not known here"),
    ],
)
def test_what_is_not_known_for_certain_is_refused(line: str, words: str) -> None:
    with pytest.raises(NotPython, match=words):
        of(line)


@pytest.mark.parametrize(
    ("head", "interpreter"),
    [
        ("#!/usr/bin/python3\n", "/usr/bin/python3"),
        ("#! /usr/bin/python3 -sE \n", "/usr/bin/python3 -sE"),
        ("#!/usr/bin/env python3\n", "python3"),
        ("#!/usr/bin/env -S python3 -u -X utf8\n", "python3 -u -X utf8"),
        (SH_TRICK, "/a path/python3"),
    ],
)
def test_a_script_is_run_by_the_python_that_its_first_line_names(head: str, interpreter: str, tmp_path: Path) -> None:
    script = tmp_path / "tool"
    script.write_text(head)
    script.chmod(0o755)
    expected = (interpreter,) if " path" in interpreter else tuple(interpreter.split())
    for line, cwd in ((f"{script} a", None), ("./tool a", tmp_path), ("tool a", None)):
        found = of(line, cwd, path=str(tmp_path))
        assert found.interpreter == expected
        assert Path(cwd or "/", found.run[0]).samefile(script)
        assert found.run[1:] == ("a",)


@pytest.mark.parametrize("head", [b"#!/usr/bin/env node\n", b"#!/bin/sh\n", b"#!\n", b"\x7fELF\0", b"", b"import sys"])
def test_other_programs_are_no_python(head: bytes, tmp_path: Path) -> None:
    (tmp_path / "tool").write_bytes(head)
    with pytest.raises(NotPython, match="'tool' is no Python script"):
        of(f"{tmp_path}/tool")


def test_a_folder_is_no_script(tmp_path: Path) -> None:
    with pytest.raises(NotPython, match="Is a directory"):
        of(str(tmp_path))


def test_uv_runs_a_script_in_the_environment_of_its_project(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text("import mcp\n")
    expected = PythonProgram(("uv", "--directory", str(tmp_path), "run", "python"), ("s.py", "a"))
    assert of(f"uv --directory {tmp_path} run s.py a") == expected
    assert of("uv run s.py", cwd=tmp_path).run == ("s.py",)


def test_a_script_with_inline_metadata_has_an_environment_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text('#!/usr/bin/env python\n# /// script\n# dependencies = ["mcp"]\n# ///\n')
    with pytest.raises(NotPython, match="has inline metadata"):
        of("uv run s.py", cwd=tmp_path)


@pytest.mark.parametrize("verb", [["tool", "run"], ["run"]])
def test_the_options_of_uv_are_known_as_what_they_are(verb: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "uv", *verb, "--help"], capture_output=True, text=True, check=True)
    found = re.findall(r"^ +(?:(-\w), )?(--[a-z-]+)(?:\.\.\.)?( <)?", done.stdout, re.MULTILINE)
    assert len(found) > 50
    for short, long, value in found:
        for name in filter(None, (short, long)):
            assert name not in (FLAGS if value else VALUED), name
