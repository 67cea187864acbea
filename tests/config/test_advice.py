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
        ({"SESSION_TTL_HOURS": "1", "STREAM_SESSION_TTL_MS": "5"}, {}, "STREAM_SESSION_TTL_MS wins"),
        ({"SESSION_TTL_HOURS": "1", "BRIDGE_SESSION_TTL_MS": "never"}, {}, "BRIDGE_SESSION_TTL_MS wins"),
        ({"SESSION_STORE": "file", "REDIS_ENABLED": "true"}, {"persistent": True}, "REDIS_ENABLED=true wins"),
        ({}, {"persistent": True}, "mail: persistent, but SESSION_STORE is memory"),
        ({"PERSISTENCE_REQUIRED": "true"}, {}, "persistent sessions get 503"),
        ({"SESSION_STORE": "file"}, {}, 'no server has "persistent": true'),
        ({}, {"restore": "refuse", "idleStopMs": 5}, '"idleStopMs" is not used'),
        ({"OAUTH_SCOPES": "mcp"}, {}, "OAUTH_SCOPES does nothing without OAUTH_ISSUER"),
        (
            {"OAUTH_ISSUER": "https://as.example", "HOST": "0.0.0.0", "ALLOWED_HOSTS": "b.example"},
            {},
            "OAUTH_AUDIENCE is unset",
        ),
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
        ({"SESSION_TTL_HOURS": "1"}, {}),
        ({"SESSION_STORE": "file"}, {"persistent": True, "idleStopMs": 5}),
        ({}, {"persistent": True, "disabled": True}),
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
