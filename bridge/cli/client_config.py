"""``mcp-bridge client-config``: what to put into an MCP client so that it finds the servers here.

Each client spells the same three facts - name, URL, header - in its own way. The token is a placeholder unless it is
asked for: what is printed gets pasted into chats and repositories.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from bridge.cli.errors import CommandError, NotRunning, UsageError
from bridge.cli.options import add_configuration, servers_of, settings_of, unusable
from bridge.config.errors import NoServersFile
from bridge.config.settings import Environ, Settings

PLACEHOLDER = "YOUR_TOKEN"
#: What the endpoint of all servers is called in a client.
ALL = "mcp-bridge"
#: The variable in which clients that read one find the token.
VARIABLE = "MCP_BRIDGE_TOKEN"
#: States of servers that no client can use.
_UNUSABLE = frozenset({"disabled", "invalid"})


@dataclass(frozen=True, slots=True)
class Target:
    """One server as a client sees it; ``token`` None where none is needed."""

    name: str
    url: str
    token: str | None

    @property
    def headers(self) -> dict[str, Any]:
        """The member that brings the token, none where none is needed."""
        return {} if self.token is None else {"headers": {"Authorization": f"Bearer {self.token}"}}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words after ``client-config``."""
    parser.usage = "mcp-bridge client-config [options] CLIENT [SERVER...] [-- COMMAND ARG...]"
    add_configuration(parser)
    parser.add_argument("client", choices=tuple(CLIENTS), metavar="CLIENT", help=f"one of {', '.join(CLIENTS)}")
    parser.add_argument(
        "servers", nargs="*", default=[], metavar="SERVER", help="only these (default: all that are enabled)"
    )
    parser.add_argument(
        "--url", metavar="URL", help="how the client reaches the bridge, such as https://mcp.example.com"
    )
    parser.add_argument("--one-url", action="store_true", help=f"one entry called {ALL}, with all of them at /mcp")
    parser.add_argument("--show-token", action="store_true", help=f"print the token, and not {PLACEHOLDER}")


def run(options: argparse.Namespace) -> int:
    """Print the snippet to stdout, and where it goes to stderr; return the exit code."""
    targets = _targets(options)
    where, write = CLIENTS[options.client]
    print(f"mcp-bridge: {where}", file=sys.stderr)
    print(write(targets))
    return 0


def _targets(options: argparse.Namespace) -> list[Target]:
    settings, environ = settings_of(options)
    names = _names(options, settings, environ)
    token = None
    if settings.needs_token or environ.get(VARIABLE):  # which is for a bridge elsewhere, whose settings are not here
        token = (environ.get(VARIABLE) or settings.access_token) if options.show_token else PLACEHOLDER
        if token is None:
            raise CommandError(
                "there is no token to show: the tokens file holds hashes; make one: mcp-bridge token add"
            )
    if options.url is not None and not re.fullmatch(r"https?://[^/?#\s][^?#\s]*", options.url):
        raise UsageError(f"--url is {options.url!r}, must begin with http:// or https://, and have no ? and no #")
    anywhere = {"0.0.0.0": "localhost", "::": "localhost"}  # noqa: S104 - it is shown, not bound
    host = anywhere.get(settings.host, settings.host)
    scheme = "http" if settings.ssl_certfile is None else "https"
    base = options.url or f"{scheme}://{f'[{host}]' if ':' in host else host}:{settings.port}{settings.base_path}"
    url = f"{base.rstrip('/')}/mcp"
    if options.one_url:
        chosen = f"?servers={','.join(options.servers)}" if options.servers else ""
        return [Target(ALL, url + chosen, token)]
    return [Target(name, f"{url}/{name}", token) for name in names]


def _names(options: argparse.Namespace, settings: Settings, environ: Environ) -> list[str]:
    """The servers that were asked for, else all that there are."""
    try:
        servers = servers_of(options, settings, environ)
    except NoServersFile as missing:
        return _running(options, missing)
    for name in options.servers:
        if why := unusable(name, servers):
            raise UsageError(why)
    return options.servers or [server.id for server in servers.entries.values() if not server.disabled]


def _running(options: argparse.Namespace, missing: NoServersFile) -> list[str]:
    """The same of a bridge that runs without a file: it serves a command."""
    from bridge.cli.client import Client  # most have a file

    try:
        rows = Client(options).ask("GET", "/api/v1/servers")
    except NotRunning:
        raise missing from None
    names = [row["id"] for row in rows if row["state"] not in _UNUSABLE]
    if unknown := [name for name in options.servers if name not in names]:
        raise UsageError(f'the bridge that runs has no server "{unknown[0]}"; there are: {", ".join(names)}')
    return options.servers or names


def _json(document: Any) -> str:
    return json.dumps(document, indent=2)


def _under(key: str, entry: Callable[[Target], dict[str, Any]]) -> Callable[[list[Target]], str]:
    return lambda targets: _json({key: {target.name: entry(target) for target in targets}})


def _claude_desktop(target: Target) -> dict[str, Any]:
    """Its file knows programs only, so a program connects them."""
    args = ["-y", "mcp-remote", target.url]
    if target.url.startswith("http://") and not re.match(r"http://(localhost|127\.0\.0\.1|\[::1\])[:/]", target.url):
        args.append("--allow-http")
    if target.token is None:
        return {"command": "npx", "args": args}
    # No space in the argument: Claude Desktop on Windows and Cursor cut it there (README of mcp-remote).
    return {
        "command": "npx",
        "args": [*args, "--header", "Authorization:${AUTH_HEADER}"],
        "env": {"AUTH_HEADER": f"Bearer {target.token}"},
    }


def _plain(targets: list[Target]) -> list[Target]:
    """The same under names that Claude Code and Codex take, which refuse dots; none gets the name of another one."""
    taken = {target.name for target in targets}
    found = []
    for target in targets:
        name = target.name.replace(".", "-")
        while name != target.name and name in taken:
            name += "_"
        taken.add(name)
        found.append(replace(target, name=name))
    return found


def _claude_code(targets: list[Target]) -> str:
    return "\n".join(
        shlex.join(["claude", "mcp", "add", "--transport", "http", target.name, target.url, *_flags(target)])
        for target in _plain(targets)
    )


def _flags(target: Target) -> list[str]:
    return [] if target.token is None else ["--header", f"Authorization: Bearer {target.token}"]


def _vscode(targets: list[Target]) -> str:
    """VS Code asks for secrets itself and keeps them, unless the real one is to be shown."""
    asks = any(target.token == PLACEHOLDER for target in targets)
    if asks:
        targets = [Target(target.name, target.url, "${input:mcp-bridge-token}") for target in targets]
    document: dict[str, Any] = {
        "servers": {target.name: {"type": "http", "url": target.url, **target.headers} for target in targets}
    }
    if asks:
        about = "Token of mcp-bridge"
        document["inputs"] = [
            {"type": "promptString", "id": "mcp-bridge-token", "description": about, "password": True}
        ]
    return _json(document)


def _codex(targets: list[Target]) -> str:
    """Codex takes no token in its file, only the name of the variable that holds it."""
    blocks = []
    for target in _plain(targets):
        lines = [f"[mcp_servers.{target.name}]", f"url = {json.dumps(target.url)}"]
        if target.token is not None:
            lines.append(f'bearer_token_env_var = "{VARIABLE}"')
        blocks.append("\n".join(lines))
    if targets and targets[0].token not in (None, PLACEHOLDER):
        blocks.insert(0, f"# export {VARIABLE}={shlex.quote(str(targets[0].token))}")
    return "\n\n".join(blocks)


def _opencode(target: Target) -> dict[str, Any]:
    return {"type": "remote", "url": target.url, "enabled": True, **target.headers}


#: Client to where its configuration lies, and how it is written.
CLIENTS: dict[str, tuple[str, Callable[[list[Target]], str]]] = {
    "claude-desktop": (
        "goes into claude_desktop_config.json (Settings, Developer, Edit Config); needs Node.js for npx",
        _under("mcpServers", _claude_desktop),
    ),
    "claude-code": ("run this in a shell; --scope user adds it for all projects", _claude_code),
    "cursor": (
        "goes into ~/.cursor/mcp.json, or .cursor/mcp.json of a project",
        _under("mcpServers", lambda target: {"url": target.url, **target.headers}),
    ),
    "vscode": ("goes into .vscode/mcp.json, or what MCP: Open User Configuration opens", _vscode),
    "windsurf": (
        "goes into ~/.codeium/windsurf/mcp_config.json",
        _under("mcpServers", lambda target: {"serverUrl": target.url, **target.headers}),
    ),
    "cline": (
        "goes into cline_mcp_settings.json (MCP Servers, Configure)",
        _under("mcpServers", lambda target: {"type": "streamableHttp", "url": target.url, **target.headers}),
    ),
    "gemini": (
        "goes into ~/.gemini/settings.json, or .gemini/settings.json of a project",
        _under("mcpServers", lambda target: {"httpUrl": target.url, **target.headers}),
    ),
    "codex": (f"goes into ~/.codex/config.toml; Codex reads a token from {VARIABLE}", _codex),
    "zed": (
        "goes into settings.json of Zed",
        _under("context_servers", lambda target: {"url": target.url, **target.headers}),
    ),
    "opencode": ("goes into opencode.json", _under("mcp", _opencode)),
}
