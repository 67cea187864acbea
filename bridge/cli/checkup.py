"""One server, started as the bridge would start it, greeted, asked for its tools, and stopped."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shlex
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from bridge.children.babble import NO_MESSAGE
from bridge.children.launcher import command_of
from bridge.children.owner import ChildLimits
from bridge.children.policy import Need
from bridge.children.registry import Registry
from bridge.children.startable import not_found
from bridge.cli.findings import Finding
from bridge.config.environment import SAFE_NAMES
from bridge.config.server import ServerConfig
from bridge.config.settings import Settings
from bridge.observe.secrets import masked
from bridge.process.spawn import program_file, whole_line
from bridge.protocol import jsontext
from bridge.protocol.errors import BridgeError, Fault, Rejection
from bridge.protocol.tools import LIST
from bridge.protocol.transport import LAST_WORDS
from bridge.sessions.listing import Refused, pages

#: Longest name of a tool that every model takes (Anthropic, OpenAI: 64), and what it may be made of.
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
#: Values that somebody meant to replace.
_PLACEHOLDER = re.compile(r"(?i)\s*|<.*>|\[.*\]|your[-_ ].*|.*[-_ ]here|changeme|x{3,}|\.\.\.|todo")
#: Where programs come from that a system may not have.
_INSTALL = {
    **dict.fromkeys(("npx", "npm", "node"), "install Node.js: https://nodejs.org"),
    **dict.fromkeys(("uvx", "uv"), "install uv: https://docs.astral.sh/uv"),
    **dict.fromkeys(("docker", "podman"), "install it, and let this user use it"),
    **dict.fromkeys(("python", "python3"), 'install Python, or write "${BRIDGE_PYTHON}", the one that runs the bridge'),
    **dict.fromkeys(("bun", "bunx"), "install Bun: https://bun.sh"),
    "deno": "install Deno: https://deno.com",
}
_LOOKS = 'it looks for what is not there: see "args", "env" and "cwd"'
#: What servers say when they fail, and what that means.
_MEANINGS = (
    (r"E404|404 Not Found.*npm|No solution found|not found in the package registry", "the package has another name"),
    (
        r"ENOTFOUND|EAI_AGAIN|name resolution|dns error",
        "its packages are downloaded; look at the network and its proxy",
    ),
    (r"Cannot find module '(/|[A-Z]:)", _LOOKS),
    (r"ModuleNotFoundError|Cannot find (module|package)|No module named", "install what it imports, where it runs"),
    (
        r"(?i:api[_ -]?key|access[_ -]?token|credential|unauthorized|environment variable)|KeyError: '[A-Z][A-Z0-9_]+'"
        r"|\b[A-Z]+(_[A-Z0-9]+)+\b.*(required|missing|not set|not defined|must be)",
        'set what it asks for in "env"',
    ),
    (r"(?i)cannot connect to the docker daemon", "start Docker, and let the user of the bridge use it"),
    (r"(?i)permission denied|EACCES", "let this user read and run it"),
    (r"No such file or directory|ENOENT", _LOOKS),
    (
        "no JSON-RPC",
        'look at "command" and "args": an MCP server writes nothing but messages to stdout, and logs to stderr',
    ),
    (r"(?i)did not answer|within .* s", 'it may be installing: run it once by hand, or raise "startTimeout"'),
    (r"(?i)cannot be reached|connection refused|refused the connection", "look whether it runs there, and at the URL"),
)


async def examine(
    servers: Mapping[str, ServerConfig], settings: Settings, seconds: float, say: Callable[[list[Finding]], None]
) -> None:
    """Start each server once and tell what was found, as it is found. ``seconds``: for one of them."""
    said = {server: _Said() for server in servers}
    logging.getLogger("bridge").setLevel(logging.CRITICAL)  # the findings tell it
    limits = ChildLimits(settings.max_message_bytes, settings.start_timeout)
    registry = Registry(servers, limits, settings.max_children, lambda server: said[server].hear)
    try:
        async with asyncio.TaskGroup() as group:
            for server in servers:
                group.create_task(_one(registry, server, seconds, said[server], say))
    finally:
        await registry.close()


class _Said:
    """What a server has written: the last ``words`` on stderr, and the first line on stdout that was no message."""

    def __init__(self) -> None:
        self.words: deque[str] = deque(maxlen=20)
        self.printed = ""

    def hear(self, line: bytes) -> None:
        """A line for its log."""
        if line.startswith(NO_MESSAGE):
            self.printed = self.printed or ascii(line.removeprefix(NO_MESSAGE).decode(errors="replace"))
        else:
            self.words.append(line.decode(errors="replace"))


async def _one(
    registry: Registry,
    server: str,
    seconds: float,
    said: _Said,
    say: Callable[[list[Finding]], None],
) -> None:
    config = registry.entries[server]
    findings = _before(config)
    if not any(finding.level == "error" for finding in findings):
        why: str | None = None
        try:
            async with asyncio.timeout(seconds):
                findings += _tools(server, await _ask(registry, server), registry)
        except TimeoutError:
            why = f"it did not answer within {seconds:g} s"
        except BridgeError as error:
            why = getattr(error, "why", str(error))
        printed = f"it writes to stdout what is no JSON-RPC: {said.printed}" if said.printed else ""
        if why is not None:
            more = f"; {printed}" if printed and "no JSON-RPC" not in why else ""
            findings.append(_failure(config, f"{why}{more}", said.words))
        elif printed:
            fix = "have it log to stderr; the bridge skips such lines, but many clients end the connection there"
            findings.append(Finding("warning", server, printed, fix))
    say(findings)


def _before(config: ServerConfig) -> list[Finding]:
    """What can be seen without starting it."""
    findings = [
        Finding("warning", config.id, f"{name} looks like a placeholder", f'set {name} in "env", or in .env')
        for name, value in {**config.env, **config.headers}.items()
        if name not in SAFE_NAMES and os.environ.get(name) != value and _PLACEHOLDER.fullmatch(value)
    ]
    if config.url is not None:
        return findings
    program = config.argv[0]
    found = program_file(command_of(config))
    if config.cwd is not None and not config.cwd.is_dir():
        return [*findings, Finding("error", config.id, f'"cwd" {config.cwd} is no directory', "make it, or change it")]
    if found is None:
        other = 'correct "command"' if "/" in program else 'write its whole path as "command"'
        fix = whole_line(program).removeprefix("; ") or _INSTALL.get(program, f"install it, or {other}")
        return [*findings, Finding("error", config.id, not_found(program), fix)]
    return [*findings, Finding("ok", config.id, f"command is {found}")]


async def _ask(registry: Registry, server: str) -> list[Any]:
    """Return the tools. Raises :class:`BridgeError`."""
    seat = await registry.seat(server, Need.IMPLICIT)
    try:
        tools: list[Any] = []
        async for page in pages(seat, None, lambda params: params):
            tools += map(jsontext.decode, jsontext.objects(jsontext.member(page, "tools")))
        return tools
    except Refused as refused:
        if refused.failure is not None:
            raise refused.failure from None
        if not refused.has_none:
            raise Rejection(Fault.CHILD_FAILED, f"it answered {LIST} with an error: {refused}") from None
        return []
    finally:
        seat.release()


def _tools(server: str, tools: list[Any], registry: Registry) -> list[Finding]:
    era = "handshake" if registry.speaks_handshake(server) else "modern"
    names = [str(tool.get("name")) for tool in tools if isinstance(tool, dict)]
    findings = [Finding("ok", server, f"starts and answers; {era} era, {len(names)} tool(s)")]
    for name in names:
        if not _TOOL_NAME.fullmatch(name):
            what = f"tool {name[:100]!r} has a name that models refuse"
            findings.append(Finding("warning", server, what, "names are 1 to 64 of A-Z a-z 0-9 _ -; ask its author"))
    if twice := sorted({name for name in names if names.count(name) > 1}):
        findings.append(Finding("warning", server, f"tool {twice[0]!r} is there twice", "ask its author"))
    return findings


def _failure(config: ServerConfig, why: str, words: deque[str]) -> Finding:
    said = " | ".join(line.strip() for line in list(words)[-3:] if line.strip())
    fix = next((fix for pattern, fix in _MEANINGS if re.search(pattern, f"{why} {' '.join(words)}")), "")
    if not fix:
        fix = (
            "look at the URL and its headers"
            if config.url
            else f"run it by hand: {shlex.join(masked(config.argv))[:200]}"
        )
    more = f"; stderr: {said[:500]}" if said and LAST_WORDS not in why else ""
    return Finding("error", config.id, f"{why}{more}", fix)
