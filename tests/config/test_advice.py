"""What ``check`` and the start of the bridge say about settings that do not count."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.config.advice import advice
from bridge.config.servers import parse_servers
from bridge.config.settings import read_settings


def said(settings: dict[str, str], **keys: Any) -> list[str]:
    text = json.dumps({"mail": {"command": "x", **keys}})
    return advice(read_settings(settings), parse_servers(text, "servers.json", {}).entries)


@pytest.mark.parametrize(
    ("settings", "keys", "words"),
    [
        ({"SESSION_TTL_HOURS": "1", "STREAM_SESSION_TTL_MS": "5000"}, {}, "STREAM_SESSION_TTL_MS wins"),
        ({"SESSION_TTL_HOURS": "1", "BRIDGE_SESSION_TTL_MS": "never"}, {}, "BRIDGE_SESSION_TTL_MS wins"),
        ({"SESSION_STORE": "file", "REDIS_ENABLED": "true"}, {"persistent": True}, "REDIS_ENABLED=true wins"),
        ({}, {"persistent": True}, "mail: persistent, but SESSION_STORE is memory"),
        ({"PERSISTENCE_REQUIRED": "true"}, {}, "persistent sessions get 503"),
        ({"SESSION_STORE": "file"}, {}, 'no server has "persistent": true'),
        ({}, {"restore": "refuse", "idleStopMs": 5000}, '"idleStopMs" is not used'),
        ({"REQUEST_TIMEOUT_MS": "30"}, {}, "REQUEST_TIMEOUT_MS is 30 milliseconds; did you mean 30000?"),
        ({"START_TIMEOUT_MS": "999"}, {}, "START_TIMEOUT_MS is 999 milliseconds; did you mean 999000?"),
        ({"BRIDGE_SESSION_TTL_MS": "0.5"}, {}, "BRIDGE_SESSION_TTL_MS is 0.5 milliseconds; did you mean 500?"),
        ({}, {"requestTimeout": 30}, 'mail: "requestTimeout" is 30 milliseconds; did you mean 30000?'),
        ({}, {"startTimeout": 30}, 'mail: "startTimeout" is 30 milliseconds; did you mean 30000?'),
        ({}, {"sessionTtlMs": 30}, 'mail: "sessionTtlMs" is 30 milliseconds; did you mean 30000?'),
        ({"OAUTH_SCOPES": "mcp"}, {}, "OAUTH_SCOPES does nothing without OAUTH_ISSUER"),
        (
            {"OAUTH_ISSUER": "https://as.example", "HOST": "0.0.0.0", "ALLOWED_HOSTS": "b.example"},
            {},
            "OAUTH_AUDIENCE is unset",
        ),
        ({}, {"persistent": True, "disabled": True}, "no server is enabled"),
        ({"HOST": "0.0.0.0", "ACCESS_TOKEN": "x"}, {}, "HOST is 0.0.0.0 and ALLOWED_HOSTS is unset"),
    ],
)
def test_what_does_not_count_is_told(settings: dict[str, str], keys: dict[str, Any], words: str) -> None:
    [line] = said(settings, **keys)
    assert words in line


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        ({}, {}),
        ({"REQUEST_TIMEOUT_MS": "1000", "STREAM_SESSION_TTL_MS": "never"}, {"timeout": 30, "sessionTtlMs": None}),
        ({"SESSION_TTL_HOURS": "1"}, {}),
        ({"SESSION_STORE": "file"}, {"persistent": True, "idleStopMs": 5000}),
        ({"OAUTH_ISSUER": "https://as.example"}, {}),
        (
            {
                "OAUTH_ISSUER": "https://as.example",
                "HOST": "0.0.0.0",
                "ALLOWED_HOSTS": "b.example",
                "OAUTH_AUDIENCE": "https://b.example",
            },
            {},
        ),
        ({"HOST": "0.0.0.0", "ACCESS_TOKEN": "x", "ALLOWED_HOSTS": "*"}, {}),
        ({"HOST": "::1"}, {}),
    ],
)
def test_what_is_fine_is_not_talked_about(settings: dict[str, str], keys: dict[str, Any]) -> None:
    assert said(settings, **keys) == []


@pytest.mark.parametrize(
    ("url", "settings", "is_told"),
    [
        ("http://127.0.0.1:3000/mcp", {}, True),
        ("http://localhost:3000/mcp?servers=a", {}, True),
        ("http://[::1]:4000/sse/a", {"PORT": "4000"}, True),
        ("https://bridge.example/tools/mcp/a", {"HOST": "bridge.example", "PORT": "443", "BASE_PATH": "/tools"}, True),
        ("http://localhost:3000/tools/mcp/", {"BASE_PATH": "/tools"}, True),
        ("http://localhost:3001/mcp", {}, False),
        ("http://localhost:3000/mcpx", {}, False),
        ("http://localhost:3000/other/mcp", {}, False),
        ("http://other.example:3000/mcp", {}, False),
    ],
)
def test_a_server_that_is_the_bridge_itself_is_told(url: str, settings: dict[str, str], is_told: bool) -> None:
    entries = {"mail": {"command": "x"}, "me": {"url": url}}
    parsed = parse_servers(json.dumps(entries), "servers.json", {}).entries
    lines = advice(read_settings({"ACCESS_TOKEN": "t", "ALLOWED_HOSTS": "*", **settings}), parsed)
    assert [line.partition(":")[0] for line in lines if "is this bridge itself" in line] == ["me"] * is_told
