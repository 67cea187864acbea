"""The command lines of uv that run Python: ``uvx tool``, ``uv tool run tool``, ``uv run ...``.

They become others, which run a Python in the same environment. Where that is, uv alone knows, and makes it when it is
not there yet. An option that is not known here may have a value, which would then be taken for the name of a tool and
be installed: so it is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from bridge.process.python import NotPython, PythonProgram, is_python, parse_python

#: A tool as uvx is told it: name, extras, version. Not an address, nor a path.
_TOOL = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(\[[A-Za-z0-9._,-]+\])?(@[A-Za-z0-9.!+]+)?")
#: How inline metadata of a script begin (Python Packaging User Guide, inline script metadata): they name an environment
#: of its own, in which another script cannot be run.
_METADATA = re.compile(rb"^# /// script\s*$", re.MULTILINE)

#: Options without a value.
FLAGS = frozenset(
    (
        *("-n", "--no-cache", "--offline", "-q", "--quiet", "-v", "--verbose", "--no-progress", "--no-config"),
        *("--native-tls", "--managed-python", "--no-managed-python", "--no-python-downloads", "--isolated", "--lfs"),
        *("-U", "--upgrade", "--refresh", "--reinstall", "--compile-bytecode", "--no-index", "--no-sources"),
        *("--no-build", "--no-binary", "--no-build-isolation", "--no-env-file", "--active", "--exact", "--no-sync"),
        *("--locked", "--frozen", "--no-project", "--all-packages", "--all-extras", "--all-groups", "--no-dev"),
        *("--only-dev", "--no-default-groups", "--no-editable", "--system-certs", "--require-build-hashes"),
        "--no-require-build-hashes",
    )
)
#: Options with a value, in the next word or behind ``=``.
VALUED = frozenset(
    (
        *("--from", "-w", "--with", "--with-editable", "--with-requirements", "-c", "--constraints", "--overrides"),
        *("-b", "--build-constraints", "--env-file", "--python-platform", "--torch-backend", "-p", "--python"),
        *("--index", "--default-index", "-i", "--index-url", "--extra-index-url", "-f", "--find-links"),
        *("--index-strategy", "--keyring-provider", "-P", "--upgrade-package", "--resolution", "--prerelease"),
        *("--fork-strategy", "--exclude-newer", "--exclude-newer-package", "--no-sources-package", "--link-mode"),
        *("--reinstall-package", "-C", "--config-setting", "--config-settings-package", "--no-build-package"),
        *("--no-build-isolation-package", "--no-binary-package", "--cache-dir", "--refresh-package", "--color"),
        *("--allow-insecure-host", "--directory", "--project", "--config-file", "--package", "--extra"),
        *("--no-extra", "--group", "--no-group", "--only-group", "--upgrade-group", "--prerelease-package"),
        "--no-editable-package",
    )
)


def parse_uvx(uvx: Sequence[str], arguments: Sequence[str]) -> PythonProgram:
    """Return what ``uvx`` has Python run. Raises :class:`NotPython`."""
    options, words = _options(arguments)
    if not words:
        raise NotPython("uvx is given nothing to run")
    if is_python(words[0]):
        return parse_python((*uvx, *options, words[0]), words[1:])
    tool = _TOOL.fullmatch(words[0])
    is_named = any(option.partition("=")[0] == "--from" for option in options)
    if tool is None or (is_named and tool[0] != tool[1]):
        raise NotPython(f"{words[0]!r} is not known here as a tool of uvx")
    named = [] if is_named else ["--from", words[0]]
    return PythonProgram((*uvx, *options, *named, "python"), ("-e", tool[1], *words[1:]))


def parse_uv(uv: str, arguments: Sequence[str], cwd: Path) -> PythonProgram:
    """Return what ``uv`` has Python run, in the working directory ``cwd``. Raises :class:`NotPython`."""
    options, words = _options(arguments)
    if words[:2] == ["tool", "run"]:
        return parse_uvx((uv, *options, "tool", "run"), words[2:])
    if words[:1] != ["run"]:
        raise NotPython(f"uv {' '.join(words[:1])} runs no server")
    is_module = words[1:2] in (["-m"], ["--module"])
    more, words = _options(words[1 + is_module :])
    if not words:
        raise NotPython("uv run is given nothing to run")
    for_python = (uv, *options, "run", *more, "python")
    if is_module:
        return PythonProgram(for_python, ("-m", *words))
    if is_python(words[0]):
        return parse_python((uv, *options, "run", *more, words[0]), words[1:])
    if words[0].endswith(".py"):
        _refuse_metadata(cwd / _directory([*options, *more]) / words[0])
        return PythonProgram(for_python, tuple(words))
    if "/" in words[0]:
        raise NotPython(f"{words[0]!r} is not known here as something that uv runs by Python")
    return PythonProgram(for_python, ("-e", *words))


def _options(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Cut off the options in front."""
    words, options = list(arguments), []
    while words and words[0].startswith("-"):
        option = words.pop(0)
        if option == "--":
            break
        options.append(option)
        name, has_value = _name(option)
        if name not in FLAGS | VALUED:
            raise NotPython(f"the option {name} of uv is not known here")
        if name in VALUED and not has_value and words:
            options.append(words.pop(0))
    return options, words


def _name(option: str) -> tuple[str, bool]:
    """Return the name of an option, and whether its value is in the same word: ``--python=3.12``, ``-p3.12``."""
    if option[:2] in VALUED:
        return option[:2], len(option) > 2
    name, equals, _ = option.partition("=")
    return name, bool(equals)


def _directory(options: list[str]) -> str:
    for place, option in enumerate(options):
        name, equals, value = option.partition("=")
        if name == "--directory":
            return value if equals else "".join(options[place + 1 : place + 2])
    return ""


def _refuse_metadata(script: Path) -> None:
    try:
        text = script.read_bytes()
    except OSError as error:
        raise NotPython(f"{script} cannot be read: {error.strerror}") from None
    if _METADATA.search(text):
        raise NotPython(f"{script.name} has inline metadata, so that uv gives it an environment of its own")
