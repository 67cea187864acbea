"""``headerEnv``: which headers of a client may become which variables of its own child.

What a variable means is not up to who sends the header: those that change what a program runs or whom it trusts, and
our own, can be none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bridge.config.environment import OUR_SECRETS, SAFE_NAMES
from bridge.config.settings import setting_names

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")  # RFC 9110, token
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,99}")

#: Headers with which a client comes in here, and those that HTTP and MCP have a use for; in lower case.
_TAKEN_HEADERS = re.compile(
    r"authorization|proxy-.*|cookie|x-api-key|host|origin|referer|user-agent|connection|upgrade|te|trailer|expect"
    r"|transfer-encoding|accept(-.*)?|content-.*|sec-.*|mcp-.*|last-event-id|forwarded|x-forwarded-.*|via|keep-alive"
)
#: Variables that programs, their loaders, interpreters and tools obey.
_TAKEN_VARIABLES = re.compile(
    r"(LD|DYLD|PYTHON|NODE|NPM|YARN|PIP|UV|GIT|PERL|PERL5|RUBY|GEM|BUNDLE|JAVA|JDK|DOTNET|COMPLUS|CORECLR|LUA|PHP|GO"
    r"|CARGO|RUST|SSL|OPENSSL|CURL|MALLOC|GLIBC|GCONV|XDG|BASH|DENO|BUN|MCP_BRIDGE)(_.*|[A-Z0-9]*)"
    r"|.*_(PROXY|OPTIONS|PRELOAD|CA_BUNDLE)|ENV|IFS|CDPATH|SHELLOPTS|PS[0-9]|PROMPT_COMMAND|PATHEXT|CLASSPATH|LOCPATH"
    r"|NLSPATH|HOSTALIASES|RES_OPTIONS|TERMINFO|TZDIR|EDITOR|VISUAL|PAGER|BROWSER|PWD|OLDPWD|LC_.*|LANGUAGE"
)
_OURS = frozenset(setting_names()) | OUR_SECRETS | SAFE_NAMES


def header_env(given: Any) -> dict[str, str]:
    """Return variable by header. Raises :class:`ValueError` that says which name cannot be one, and why."""
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given.values()):
        raise ValueError('must be an object of header -> variable, such as {"X-User-Token": "API_TOKEN"}')
    for header, variable in given.items():
        if not _HEADER.fullmatch(header):
            raise ValueError(f"{header!a} is no name of a header")
        if _TAKEN_HEADERS.fullmatch(header.lower()):
            raise ValueError(f"{header} has a meaning of its own here; let clients send another, such as X-User-Token")
        if not _VARIABLE.fullmatch(variable):
            raise ValueError(f"{variable!a} is no name of a variable: A-Z, 0-9 and _, no digit first")
        if variable in _OURS or _TAKEN_VARIABLES.fullmatch(variable):
            raise ValueError(f"{variable} may not come from a client: programs obey it, or it is the bridge's own")
    for what, names in (("header", [header.lower() for header in given]), ("variable", list(given.values()))):
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"the {what} {twice} is there twice")
    return dict(given)
