"""The command line of Python: what belongs to the interpreter, and what it is to run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

#: What a Python is called.
_PYTHON = re.compile(r"(python|pypy)(\d(\.\d+)?t?)?")
#: Options of Python that take no value. Left out: -i and -x, which change what is run, and those that only print.
_FLAGS = frozenset("bBdEIOPqRsSuv")
#: Options of Python with a value, in the same word or in the next one.
_VALUED = frozenset("WX")


class NotPython(Exception):
    """A command runs something else than Python, or in a way that is not known here; the text says what."""


@dataclass(frozen=True, slots=True)
class PythonProgram:
    """``interpreter``: a command that runs the Python script that is named behind it. ``run``: what a server's command
    has it run, with arguments: ``-m`` and a module, ``-c`` and code, ``-e`` and the name of a console script in the
    environment of that interpreter, or the path of a script.
    """

    interpreter: tuple[str, ...]
    run: tuple[str, ...]


def is_python(program: str) -> bool:
    """Whether a program is a Python, by its name."""
    return _PYTHON.fullmatch(PurePath(program).name) is not None


def parse_python(interpreter: Sequence[str], arguments: Sequence[str]) -> PythonProgram:
    """Divide the arguments of a Python. Raises :class:`NotPython` when they are not known for certain."""
    options, words = list(interpreter), list(arguments)
    while words and words[0].startswith("-") and words[0] != "-":
        word = words.pop(0)
        end = next((place for place, letter in enumerate(word) if place and letter not in _FLAGS), len(word))
        letter, value = word[end : end + 1], word[end + 1 :]
        if letter in ("m", "c") and (value or words):  # the last option: what follows is the program's
            options += [word[:end]] if end > 1 else []
            return PythonProgram(tuple(options), (f"-{letter}", value or words.pop(0), *words))
        options.append(word)
        if letter in _VALUED:
            options += [words.pop(0)] if not value and words else []
        elif letter:
            raise NotPython(f"the option {word} of Python is not known here")
    if not words or words[0] == "-":
        raise NotPython("Python is given nothing to run")
    return PythonProgram(tuple(options), tuple(words))
