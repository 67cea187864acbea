"""What a server's command runs, if it is Python: ``python ...``, uv, and scripts whose first line names a Python.

Among the scripts are the console scripts that pip and uv write. What is not known for certain is refused.
"""

from __future__ import annotations

import re
from pathlib import Path

from bridge.process.python import NotPython, PythonProgram, is_python, parse_python
from bridge.process.spawn import Command, program_file
from bridge.process.uv import parse_uv, parse_uvx

#: The second line of a console script whose interpreter has too long a path for ``#!``: a trick of pip and uv for sh.
_SH_TRICK = re.compile(r"""'''exec' ("[^"]+"|\S+) "\$0" "\$@\"""")
#: How ``env`` is told to divide the rest of a first line, which the system gives it as one argument.
_ENV = re.compile(r"^(-S|--split-string=)")
#: Bytes in which a script has to say what runs it.
_HEAD = 4096


def python_program(command: Command) -> PythonProgram:
    """Return what a command has Python run. Reads the first lines of scripts. Raises :class:`NotPython`."""
    program, *arguments = command.argv
    cwd = command.cwd or Path()
    match Path(program).name:
        case "uvx":
            return parse_uvx((program,), arguments)
        case "uv":
            return parse_uv(program, arguments, cwd)
        case name if is_python(name):
            return parse_python((program,), arguments)
    file = program_file(command)
    if file is None:
        raise NotPython(f"command {program!r} not found")
    return parse_python(*_first_line(file, [program if "/" in program else str(file), *arguments]))


def _first_line(script: Path, words: list[str]) -> tuple[tuple[str, ...], list[str]]:
    """Return the interpreter that a script names, and the arguments that the system would give it."""
    try:
        with script.open("rb") as file:
            head = file.read(_HEAD).decode(errors="replace")
    except OSError as error:
        raise NotPython(f"{str(script)!r} cannot be read: {error.strerror}") from None
    first, _, rest = head.partition("\n")
    interpreter, *options = (first.removeprefix("#!").split(maxsplit=1) if first.startswith("#!") else []) or [""]
    trick = _SH_TRICK.match(rest)
    if trick is not None and Path(interpreter).name == "sh":
        interpreter, options = trick[1].strip('"'), []
    elif Path(interpreter).name == "env" and options:
        interpreter, *options = _ENV.sub("", options[0]).split() or [""]
    if not is_python(interpreter):
        raise NotPython(f"{script.name!r} is no Python script")
    return (interpreter,), [*(option.rstrip() for option in options), *words]
