"""What of a command line is shown to whoever reads the log."""

from __future__ import annotations

import pytest

from bridge.observe.secrets import masked


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        ("npx -y server", "npx -y server"),
        ("s --token hush x", "s --token *** x"),
        ("s --API_KEY=hush", "s --API_KEY=***"),
        ("s --auth --verbose", "s --auth --verbose"),
        ("s postgres://me:hush@db/x", "s postgres://***@db/x"),
        ("s --db postgres://me:hush@db/x?sslkey=hush", "s --db postgres://***@db/x?***"),
        ("env PASSWORD=hush s", "env PASSWORD=*** s"),
        ("mcp-remote https://x.y/mcp?key=hush&a=b", "mcp-remote https://x.y/mcp?***"),
        ("mcp-remote https://auth.x.y:8080/mcp", "mcp-remote https://auth.x.y:8080/mcp"),
        ("s --url=https://x.y/?key=hush", "s --url=https://x.y/?***"),
        ("s --header X-Api-Key:hush", "s --header ***"),
        ("s --header=X-Me:hush y", "s --header=*** y"),
        ("s -H X-Me:hush", "s -H ***"),
        ("s -HX-Me:hush", "s -H***"),
        ("s --key hush", "s --key ***"),
        ("s sk-hush", "s ***"),
        ("s 0123456789abcdefghijABCDEFGHIJ0123", "s ***"),
        ("s /home/me/projects-2026/some/where/deep", "s /home/me/projects-2026/some/where/deep"),
        ('s {"apiKey":"hush"}', 's {"apiKey":***'),
        ("/home/me/venv-3-11/of/some/thing/bin/server x", "/home/me/venv-3-11/of/some/thing/bin/server x"),
    ],
)
def test_a_command_line_is_shown_without_what_may_be_a_secret(argv: str, shown: str) -> None:
    assert masked(argv.split(" ")) == shown.split(" ")


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        ("Authorization: Bearer hush", "Authorization:***"),
        ("cd /srv && exec server --token hush -v", "cd /srv && exec server --token ***"),
        ("export A=b KEY=hush; server", "export A=b KEY=***"),
        ("server ghp_hush https://me:hush@x.y/ --port 3", "server *** https://***@x.y/ --port 3"),
        ("import time\ntime.sleep(3)", "import time\ntime.sleep(3)"),
    ],
)
def test_so_is_a_script(argument: str, shown: str) -> None:
    assert masked(["sh", "-c", argument]) == ["sh", "-c", shown]
