"""What was meant, perhaps, by a word that the command line does not know. Nobody waits for it who makes no mistake."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence

#: Verbs that people try, and ours.
_VERBS = {
    "start": "serve",
    "run": "serve",
    "status": "ps",
    "health": "doctor",
    "list": "servers",
    "ls": "servers",
    "validate": "check",
    "init": "add",
    "rm": "remove",
}
#: Flags of supergateway, mcp-proxy and mcpo, without dashes and in small letters, and what stands for them here:
#: docs/how-to/switching.md has more.
_FLAGS = {
    "stdio": "put the command behind --",
    **dict.fromkeys(("apikey", "token"), "set ACCESS_TOKEN"),
    **dict.fromkeys(("cors", "alloworigin", "corsalloworigins"), "set ALLOWED_ORIGINS"),
    **dict.fromkeys(("baseurl", "rootpath", "pathprefix"), "set BASE_PATH"),
    **dict.fromkeys(("outputtransport", "transport"), "/mcp and /sse are both served"),
    **dict.fromkeys(("stateless", "stateful"), "nothing has to be said: a request without a session gets one"),
    **dict.fromkeys(("env", "passenvironment"), 'write "env" or "inheritEnv" in servers.json'),
    **dict.fromkeys(("sse", "streamablehttp"), "for a remote server: mcp-bridge add ID --url URL"),
    "namedserver": "mcp-bridge add NAME -- COMMAND",
    "namedserverconfig": "write --config",
    "healthendpoint": "/health, /livez and /readyz are there",
    "hotreload": "write --watch",
    "debug": "write --log-level DEBUG",
    "sseport": "write --port",
    "ssehost": "write --host",
}


def about_verb(word: str, typed: Sequence[str], verbs: Sequence[str]) -> str:
    """What to say where ``word`` stands in the place of a verb."""
    if typed[0].startswith("-"):
        return f"{typed[0]} stands before the verb; write it behind: mcp-bridge serve {typed[0]} ..."
    near = [_VERBS[word]] if word in _VERBS else difflib.get_close_matches(word, verbs, n=1)
    if near:
        return f"there is no verb {word!r}; did you mean {near[0]}? mcp-bridge --help lists all verbs"
    serve = f"mcp-bridge serve -- {word} ..."
    return f"there is no verb {word!r}; mcp-bridge --help lists all verbs, and a command is served by: {serve}"


def about_argument(word: str, parser: argparse.ArgumentParser, *, takes_command: bool) -> str:
    """What to say behind the first word that a verb does not know; empty where nothing is near."""
    if not word.startswith("-"):
        return "; put the command behind --" if takes_command else ""
    name = word.partition("=")[0].lstrip("-")
    known = {option.lstrip("-"): option for action in parser._actions for option in action.option_strings}
    elsewhere = _FLAGS.get(name.replace("-", "").lower()) if parser.prog.endswith(" serve") else None
    if elsewhere is not None:
        return f"; {elsewhere}"
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {known[near[0]]}?" if near else ""
