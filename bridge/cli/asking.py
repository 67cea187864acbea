"""What a server asks its user (elicitation), at the terminal: a line per field of the form, with what it may be."""

from __future__ import annotations

import math
import sys
from typing import Any

from bridge.cli.table import text

Message = dict[str, Any]
#: Questions to one field before the answer is given up.
TRIES = 5


def decline(params: Message) -> Message:
    """Answer where nobody can be asked."""
    asked = text(params.get("message"))
    print(f"mcp-bridge: stdin is no terminal, so what the server asks is declined: {asked}", file=sys.stderr)
    return {"action": "decline"}


def ask(params: Message) -> Message:
    """Ask at the terminal. An empty line leaves out what may be left out; Ctrl-D declines, Ctrl-C ends the command."""
    _say(f"The server asks: {text(params.get('message'))}")
    if params.get("mode") == "url":
        _say(f"It wants you to open {text(params.get('url'))}")
        agreed = _line("Done? [y/N] ")
        return {"action": "accept" if agreed is not None and agreed.lower() in ("y", "yes") else "decline"}
    schema = params.get("requestedSchema") or {}
    fields = schema.get("properties") or {}
    required = schema.get("required") or []
    if not fields:
        agreed = _line("Answer yes? [y/N] ")
        return {"action": "accept", "content": {}} if agreed in ("y", "yes", "Y") else {"action": "decline"}
    content: Message = {}
    for name, field in fields.items():
        found = _field(name, field if isinstance(field, dict) else {}, required=name in required)
        if found is _NOTHING:
            return {"action": "decline"}
        if found is not None:
            content[name] = found
    return {"action": "accept", "content": content}


_NOTHING = object()


def _field(name: str, field: Message, *, required: bool) -> Any:
    """A value, None for one that is left out, or ``_NOTHING`` where the user gives up."""
    about = text(field.get("title") or field.get("description") or name)
    choices = _choices(field)
    hint = ", ".join(text(choice) for choice in choices) if choices else text(field.get("type", "string"))
    default = field.get("default")
    more = f", default {text(default)}" if default is not None else "" if required else ", may be empty"
    for _ in range(TRIES):
        answer = _line(f"{about} ({hint}{more}): ")
        if answer is None:
            return _NOTHING
        if not answer:
            if default is not None or not required:
                return default
            continue
        try:
            return _read(answer, field, choices)
        except ValueError as error:
            _say(str(error))
    return _NOTHING


def _read(answer: str, field: Message, choices: list[Any]) -> Any:
    """Raises ValueError with what is wanted."""
    match field.get("type"):
        case "integer":
            return _number(int, answer, "a whole number")
        case "number":
            return _number(float, answer, "a number")
        case "boolean":
            if answer.lower() not in ("y", "yes", "true", "n", "no", "false"):
                raise ValueError("please answer yes or no")
            return answer.lower() in ("y", "yes", "true")
        case "array":
            words = [word.strip() for word in answer.split(",") if word.strip()]
            if choices and (wrong := [word for word in words if word not in choices]):
                raise ValueError(f"{wrong[0]!r} is none of them")
            return words
    if choices and answer not in choices:
        raise ValueError("please answer one of them")
    return answer


def _number(read: Any, answer: str, wanted: str) -> Any:
    try:
        found = read(answer)
    except ValueError:
        found = math.nan
    if isinstance(found, float) and not math.isfinite(found):  # which no JSON can hold
        raise ValueError(f"please answer {wanted}")
    return found


def _choices(field: Message) -> list[Any]:
    items = field.get("items")
    of = items if isinstance(items, dict) else field
    if isinstance(of.get("enum"), list):
        return list(of["enum"])
    named = of.get("oneOf") or of.get("anyOf") or []
    return [each["const"] for each in named if isinstance(each, dict) and "const" in each]


def _line(prompt: str) -> str | None:
    """One line of the user, None at its end. The prompt goes to stderr: stdout is for the result."""
    print(prompt, end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    return line.strip() if line else None


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)
