"""Every setting: its default, what it takes, what it refuses and in which words; and which source wins."""

from __future__ import annotations

import os
import sys
from dataclasses import fields
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from bridge.config.environment import OUR_SECRETS
from bridge.config.errors import ConfigError
from bridge.config.redis_address import RedisAddress
from bridge.config.settings import MIB, Settings, load_environment, read_settings, setting_names
from bridge.config.values import LOOPBACK, UNSET, Rate

URL_WISH = "an https:// address (http:// on loopback) without user, password and #"
CENTURY = 'at most 3153600000000 milliseconds (100 years), or "never"'
NEVER_WISH = 'a number of milliseconds above 0, or "never"'
TOKEN = "a-token-that-must-not-be-seen-by-anyone"


def refusal(environ: dict[str, str], overrides: dict[str, Any] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        read_settings(environ, overrides)
    return str(caught.value)


def whole(low: int, high: int) -> str:
    return f"a whole number from {low} to {high}"


#: Setting, field, default.
DEFAULTS: list[tuple[str, str, Any]] = [
    ("HOST", "host", "127.0.0.1"),
    ("PORT", "port", 3000),
    ("ACCESS_TOKEN", "access_token", None),
    ("TOKENS_FILE", "tokens_file", None),
    ("SSL_CERTFILE", "ssl_certfile", None),
    ("SSL_KEYFILE", "ssl_keyfile", None),
    ("OAUTH_ISSUER", "oauth_issuer", None),
    ("OAUTH_AUDIENCE", "oauth_audience", ()),
    ("OAUTH_JWKS_URL", "oauth_jwks_url", None),
    ("OAUTH_SCOPES", "oauth_scopes", ()),
    ("OAUTH_INTROSPECTION_URL", "oauth_introspection_url", None),
    ("OAUTH_CLIENT_ID", "oauth_client_id", None),
    ("OAUTH_CLIENT_SECRET", "oauth_client_secret", None),
    ("ALLOW_UNAUTHENTICATED", "allow_unauthenticated", False),
    ("ALLOWED_ORIGINS", "allowed_origins", ()),
    ("ALLOWED_HOSTS", "allowed_hosts", ()),
    ("RATE_LIMIT", "rate_limit", None),
    ("TRUST_PROXY", "trust_proxy", ()),
    ("BASE_PATH", "base_path", ""),
    ("LOG_LEVEL", "log_level", "INFO"),
    ("LOG_DIR", "log_dir", Path("logs")),
    ("LOG_FORMAT", "log_format", "text"),
    ("AUDIT_LOG", "audit_log", False),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "otlp_endpoint", None),
    ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "otlp_protocol", "http/protobuf"),
    ("OTEL_TRACES_EXPORTER", "traces_exporter", "otlp"),
    ("OTEL_SDK_DISABLED", "otel_disabled", False),
    ("SERVERS_FILE", "servers_file", Path("servers.json")),
    ("MCP_SERVERS", "servers_inline", None),
    ("STREAM_SESSION_TTL_MS", "stream_ttl", UNSET),
    ("BRIDGE_SESSION_TTL_MS", "bridge_ttl", UNSET),
    ("SESSION_TTL_HOURS", "ttl_hours", UNSET),
    ("DISABLE_STREAM_CLEANUP", "disable_stream_cleanup", False),
    ("DISABLE_BRIDGE_CLEANUP", "disable_bridge_cleanup", False),
    ("SESSION_CLEANUP_INTERVAL_SECONDS", "cleanup_interval", None),
    ("PERSISTENCE_REQUIRED", "persistence_required", False),
    ("SESSION_STORE", "session_store", "memory"),
    ("SESSION_DIR", "session_dir", Path(".sessions")),
    ("PINS_FILE", "pins_file", None),
    ("REDIS_ENABLED", "redis_enabled", False),
    ("REDIS_URL", "redis_url", RedisAddress(hosts=(("localhost", 6379),))),
    ("REDIS_PREFIX", "redis_prefix", "persistent_session:"),
    ("MAX_SESSIONS", "max_sessions", 10_000),
    ("MAX_SESSIONS_PER_USER", "max_sessions_per_user", 1000),
    ("MAX_CHILDREN", "max_children", 200),
    ("MAX_REQUEST_BYTES", "max_request_bytes", 4 * MIB),
    ("MAX_MESSAGE_BYTES", "max_message_bytes", 64 * MIB),
    ("REQUEST_TIMEOUT_MS", "request_timeout", None),
    ("START_TIMEOUT_MS", "start_timeout", 60.0),
    ("SHUTDOWN_TIMEOUT_MS", "shutdown_timeout", 10.0),
    ("WORKERS", "workers", 1),
    ("CLUSTER", "cluster", None),
    ("CLUSTER_KEY", "cluster_key", None),
    ("NODE_ID", "node_id", None),
    ("NODE_URL", "node_url", None),
    ("WATCH", "watch", False),
    ("AGGREGATE_SEPARATOR", "aggregate_separator", "__"),
    ("AGGREGATE_PATIENCE_MS", "aggregate_patience", 10.0),
    ("IMPLICIT_INITIALIZE", "implicit_initialize", True),
]
#: One of them alone is refused.
TLS = {"SSL_CERTFILE": "c", "SSL_KEYFILE": "k"}
NODES = {
    "CLUSTER": "redis",
    "CLUSTER_KEY": "k" * 32,
    "NODE_ID": "bridge-0",
    "NODE_URL": "http://10.0.0.7:3000/",
    "REDIS_URL": "redis://localhost",
}
NODE_WISH = "1 to 63 of A-Z a-z 0-9 _ -, because it becomes part of session ids"
ADDRESS_WISH = "an address without a path at which the other nodes reach this one, such as http://10.0.0.7:3000"
RATE_WISH = "a number of requests per minute from 1, or 10/second, 600/minute, 36000/hour"
PROXIES_WISH = "true (proxies on this machine), false, or a list of addresses and networks: 127.0.0.1,10.0.0.0/8"
FIELDS = {name: field for name, field, _ in DEFAULTS}

#: Setting, text that is good, what it becomes.
GOOD: list[tuple[str, str, Any]] = [
    ("HOST", "localhost", "localhost"),
    ("HOST", "::1", "::1"),
    ("PORT", "0", 0),
    ("PORT", " 65535 ", 65535),
    ("ACCESS_TOKEN", "s3cret", "s3cret"),
    ("ACCESS_TOKEN", " with blanks ", " with blanks "),
    ("TOKENS_FILE", "tokens.json", Path("tokens.json")),
    ("OAUTH_ISSUER", "https://as.example/realms/a", "https://as.example/realms/a"),
    ("OAUTH_ISSUER", "https://as.example/", "https://as.example/"),
    ("OAUTH_AUDIENCE", "https://b.example, api://b", ("https://b.example", "api://b")),
    ("OAUTH_JWKS_URL", "http://127.0.0.1:8080/keys?v=2", "http://127.0.0.1:8080/keys?v=2"),
    ("OAUTH_JWKS_URL", "http://[::1]/keys", "http://[::1]/keys"),
    ("OAUTH_SCOPES", "mcp:use offline", ("mcp:use", "offline")),
    ("OAUTH_SCOPES", "mcp:use,offline", ("mcp:use", "offline")),
    ("OAUTH_INTROSPECTION_URL", "http://localhost/introspect", "http://localhost/introspect"),
    ("OAUTH_CLIENT_ID", "bridge", "bridge"),
    ("OAUTH_CLIENT_SECRET", "s3cret", "s3cret"),
    ("ALLOW_UNAUTHENTICATED", "true", True),
    ("ALLOW_UNAUTHENTICATED", "no", False),
    ("ALLOWED_ORIGINS", "https://a.example", ("https://a.example",)),
    ("ALLOWED_ORIGINS", " https://a.example , https://b.example,", ("https://a.example", "https://b.example")),
    ("ALLOWED_ORIGINS", "*,null,chrome-extension://abc", ("*", "null", "chrome-extension://abc")),
    ("ALLOWED_HOSTS", "a.example,b.example:8080", ("a.example", "b.example:8080")),
    ("SSL_CERTFILE", "cert.pem", Path("cert.pem")),
    ("SSL_KEYFILE", "key.pem", Path("key.pem")),
    ("RATE_LIMIT", "600", Rate(600, 60)),
    ("RATE_LIMIT", " 10 / second ", Rate(10, 1)),
    ("RATE_LIMIT", "36000/hour", Rate(36000, 3600)),
    ("TRUST_PROXY", "true", LOOPBACK),
    ("TRUST_PROXY", "off", ()),
    ("TRUST_PROXY", "10.1.2.3/8, ::1", (ip_network("10.0.0.0/8"), ip_network("::1"))),
    ("BASE_PATH", "/tools/", "/tools"),
    ("BASE_PATH", "/a/b-c", "/a/b-c"),
    ("BASE_PATH", "/", ""),
    ("LOG_LEVEL", "debug", "DEBUG"),
    ("LOG_LEVEL", "Warning", "WARNING"),
    ("LOG_DIR", "var/log", Path("var/log")),
    ("LOG_FORMAT", "JSON", "json"),
    ("AUDIT_LOG", "on", True),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318", "http://collector:4318"),
    ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc", "grpc"),
    ("OTEL_TRACES_EXPORTER", "none", "none"),
    ("OTEL_SDK_DISABLED", "true", True),
    ("SERVERS_FILE", "other.json", Path("other.json")),
    ("MCP_SERVERS", '{"a":{"command":"x"}}', '{"a":{"command":"x"}}'),
    ("STREAM_SESSION_TTL_MS", "1500", 1.5),
    ("STREAM_SESSION_TTL_MS", "0.5", 0.0005),
    ("SESSION_TTL_HOURS", "2", 7200.0),
    ("SESSION_TTL_HOURS", "0.5", 1800.0),
    ("SESSION_TTL_HOURS", "never", None),
    ("PERSISTENCE_REQUIRED", "yes", True),
    ("MAX_SESSIONS_PER_USER", "7", 7),
    ("BRIDGE_SESSION_TTL_MS", "3600000", 3600.0),
    ("SESSION_CLEANUP_INTERVAL_SECONDS", "2.5", 2.5),
    ("SESSION_STORE", "File", "file"),
    ("SESSION_STORE", "redis", "redis"),
    ("SESSION_DIR", "var/sessions", Path("var/sessions")),
    ("PINS_FILE", "var/pins.json", Path("var/pins.json")),
    ("REDIS_ENABLED", "true", True),
    ("REDIS_URL", "redis://r.example/3", RedisAddress(hosts=(("r.example", 6379),), database=3)),
    ("REDIS_PREFIX", "bridge:", "bridge:"),
    ("WORKERS", "4", 4),
    ("CLUSTER", " Redis ", "redis"),
    ("CLUSTER_KEY", "k" * 32, "k" * 32),
    ("NODE_ID", "A_b-9", "A_b-9"),
    ("NODE_URL", "https://[::1]:3000/", "https://[::1]:3000"),
    ("MAX_SESSIONS", "1", 1),
    ("MAX_CHILDREN", "1000000", 1_000_000),
    ("MAX_REQUEST_BYTES", "1024", 1024),
    ("MAX_MESSAGE_BYTES", "1048576", MIB),
    ("REQUEST_TIMEOUT_MS", "30000", 30.0),
    ("START_TIMEOUT_MS", "250", 0.25),
    ("SHUTDOWN_TIMEOUT_MS", "1", 0.001),
    ("WORKERS", "4", 4),
    ("CLUSTER_KEY", "k" * 32, "k" * 32),
    ("WATCH", "on", True),
    ("AGGREGATE_SEPARATOR", "-", "-"),
    ("AGGREGATE_PATIENCE_MS", "500", 0.5),
    ("IMPLICIT_INITIALIZE", "off", False),
    *(
        (name, word, None)
        for name in ("STREAM_SESSION_TTL_MS", "BRIDGE_SESSION_TTL_MS", "REQUEST_TIMEOUT_MS")
        for word in ("never", "none", "null", "Never", " NULL ")
    ),
    *(
        (name, word, value)
        for name in ("DISABLE_STREAM_CLEANUP", "DISABLE_BRIDGE_CLEANUP")
        for words, value in ((("true", "1", "yes", "on", "TRUE", " On "), True), (("false", "0", "no", "off"), False))
        for word in words
    ),
]

#: Setting, text that is bad, what is wanted instead.
BAD: list[tuple[str, str, str]] = [
    ("HOST", "  ", "a text that is not empty"),
    *(
        ("HOST", text, "a name or an address, without scheme and port, such as localhost, 192.0.2.5 or 0.0.0.0")
        for text in (
            "http://localhost",
            "localhost:3000",
            "[::1]",
            "a b",
            "a..b",
            "*",
            "\u65e5.example",
            "a" * 64,
            "a." * 127,
        )
    ),
    ("PORT", "http", whole(0, 65535)),
    ("PORT", "-1", whole(0, 65535)),
    ("PORT", "65536", whole(0, 65535)),
    ("PORT", "3000.5", whole(0, 65535)),
    ("TOKENS_FILE", " ", "a text that is not empty"),
    ("ALLOWED_HOSTS", "a,https://b.example:1/x", "hosts without scheme and path, such as b.example:1"),
    ("ALLOWED_HOSTS", "b.example/", "hosts without scheme and path, such as b.example"),
    ("OAUTH_ISSUER", "https://as.example?x=1", "the https:// address that the server calls itself, which has no ?"),
    *(
        (name, text, URL_WISH)
        for name in ("OAUTH_ISSUER", "OAUTH_JWKS_URL", "OAUTH_INTROSPECTION_URL")
        for text in (
            "as.example",
            "http://as.example",
            "https://",
            "https://u:p@as.example",
            "https://a/#b",
            "https://[",
        )
    ),
    ("OAUTH_CLIENT_ID", " ", "a text that is not empty"),
    ("ALLOW_UNAUTHENTICATED", "maybe", "true or false"),
    ("SSL_CERTFILE", " ", "a text that is not empty"),
    ("SSL_KEYFILE", " ", "a text that is not empty"),
    *(("RATE_LIMIT", text, RATE_WISH) for text in ("0", "-1", "many", "10/day", "1.5", "10/second/2")),
    ("TRUST_PROXY", "nginx", PROXIES_WISH),
    ("TRUST_PROXY", "10.0.0.0/40", PROXIES_WISH),
    ("BASE_PATH", "tools", "a path such as /tools"),
    ("BASE_PATH", "/a//b", "a path such as /tools"),
    ("BASE_PATH", "/a/../b", "a path such as /tools"),
    ("BASE_PATH", "/a{b}", "a path such as /tools"),
    ("LOG_LEVEL", "chatty", "one of DEBUG, INFO, WARNING, ERROR"),
    ("LOG_DIR", " ", "a text that is not empty"),
    ("LOG_FORMAT", "xml", "one of text, json"),
    ("AUDIT_LOG", "some", "true or false"),
    ("OTEL_SDK_DISABLED", "some", "true or false"),
    ("SERVERS_FILE", " ", "a text that is not empty"),
    ("DISABLE_STREAM_CLEANUP", "2", "true or false"),
    ("DISABLE_BRIDGE_CLEANUP", "never", "true or false"),
    ("WORKERS", "0", whole(1, 256)),
    ("WATCH", "maybe", "true or false"),
    ("AGGREGATE_SEPARATOR", "::", "1 to 8 of the characters A-Z a-z 0-9 _ . / -"),
    ("AGGREGATE_SEPARATOR", "_________", "1 to 8 of the characters A-Z a-z 0-9 _ . / -"),
    ("AGGREGATE_PATIENCE_MS", "never", "a number of milliseconds above 0"),
    ("IMPLICIT_INITIALIZE", "maybe", "true or false"),
    ("SESSION_CLEANUP_INTERVAL_SECONDS", "0", "a number of seconds above 0"),
    ("SESSION_CLEANUP_INTERVAL_SECONDS", "-1", "a number of seconds above 0"),
    ("SESSION_CLEANUP_INTERVAL_SECONDS", "never", "a number of seconds above 0"),
    ("PERSISTENCE_REQUIRED", "maybe", "true or false"),
    ("MAX_SESSIONS_PER_USER", "0", whole(1, 10_000_000)),
    ("SESSION_TTL_HOURS", "0", 'a number of hours above 0, or "never"'),
    ("SESSION_TTL_HOURS", "-1", 'a number of hours above 0, or "never"'),
    ("SESSION_STORE", "postgres", "one of memory, file, redis"),
    ("WORKERS", "0", whole(1, 256)),
    ("CLUSTER", "etcd", "redis"),
    *(("NODE_ID", text, NODE_WISH) for text in ("a.b", "n\u00f6de", "n" * 64, "a b")),
    *(("NODE_URL", text, ADDRESS_WISH) for text in ("10.0.0.7:3000", "http://h/p", "http://u:p@h", "http://h:99999")),
    ("SESSION_DIR", " ", "a text that is not empty"),
    ("PINS_FILE", " ", "a text that is not empty"),
    ("REDIS_ENABLED", "redis", "true or false"),
    ("REDIS_PREFIX", " ", "a text that is not empty"),
    ("MAX_SESSIONS", "0", whole(1, 10_000_000)),
    ("MAX_SESSIONS", "many", whole(1, 10_000_000)),
    ("MAX_CHILDREN", "0", whole(1, 1_000_000)),
    ("MAX_REQUEST_BYTES", "1023", whole(1024, 1024 * MIB)),
    ("MAX_REQUEST_BYTES", "4 MiB", whole(1024, 1024 * MIB)),
    ("MAX_MESSAGE_BYTES", "0", whole(1024, 4096 * MIB)),
    *(
        (name, text, NEVER_WISH)
        for name in ("STREAM_SESSION_TTL_MS", "BRIDGE_SESSION_TTL_MS", "REQUEST_TIMEOUT_MS")
        for text in ("0", "0.0", "-1", "-300000", "nan", "5m", "false", "nul")
    ),
    *(("STREAM_SESSION_TTL_MS", text, CENTURY) for text in ("inf", "3153600000001", "1e306", "9" * 400)),
    *(("SESSION_TTL_HOURS", text, 'at most 876000 hours (100 years), or "never"') for text in ("1e306", "1e9", "inf")),
    ("START_TIMEOUT_MS", "1e99", "at most 3153600000000 milliseconds (100 years)"),
    ("SESSION_CLEANUP_INTERVAL_SECONDS", "1e99", "at most 3153600000 seconds (100 years)"),
    *(
        (name, text, "a number of milliseconds above 0")
        for name in ("START_TIMEOUT_MS", "SHUTDOWN_TIMEOUT_MS")
        for text in ("0", "-5", "soon", "never")
    ),
]


def test_the_tables_hold_every_setting() -> None:
    assert setting_names() == tuple(FIELDS)
    assert tuple(FIELDS.values()) == tuple(each.name for each in fields(Settings))
    assert {name for name, _, _ in GOOD} == set(FIELDS)
    # Any list is good, and the secrets have tests of their own (REDIS_URL: test_redis_address).
    assert set(FIELDS) - {name for name, _, _ in BAD} == {
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        "OTEL_TRACES_EXPORTER",
        "ALLOWED_ORIGINS",
        "OAUTH_AUDIENCE",
        "OAUTH_SCOPES",
        "OAUTH_CLIENT_SECRET",
        "CLUSTER_KEY",
        "ACCESS_TOKEN",
        "MCP_SERVERS",
        "REDIS_URL",
    }


@pytest.mark.parametrize(("name", "field", "default"), DEFAULTS)
def test_a_setting_that_is_not_set_has_its_default(name: str, field: str, default: Any) -> None:
    assert getattr(read_settings({}), field) == default
    assert getattr(read_settings({name: ""}), field) == default  # PORT= in a file means: not set


@pytest.mark.parametrize(("name", "text", "value"), GOOD)
def test_a_good_value_is_read(name: str, text: str, value: Any) -> None:
    assert getattr(read_settings({**TLS, **NODES, "CLUSTER": "", name: text}), FIELDS[name]) == value
    assert getattr(read_settings({**TLS, **NODES, "CLUSTER": ""}, {name: text}), FIELDS[name]) == value


@pytest.mark.parametrize("host", ["fe80::1%eth0", "my_service.example", "a" * 63, "x86_64-linux-gnu", "b.example."])
def test_a_name_of_a_host_is_taken_as_it_is(host: str) -> None:
    assert read_settings({"HOST": host, "ACCESS_TOKEN": TOKEN}).host == host


@pytest.mark.parametrize("token", ["s3cret\r", "s3\ncret", "s3cret\udcff"])
def test_a_token_that_no_header_can_bring_is_refused_and_hidden(token: str) -> None:
    wish = "must be a token in one line, of letters that can be written"
    assert refusal({"ACCESS_TOKEN": token}) == f"environment: ACCESS_TOKEN: is (hidden), {wish}"


@pytest.mark.parametrize(("name", "text", "wish"), BAD)
def test_a_bad_value_is_refused_with_its_name_what_was_seen_and_what_is_wanted(name: str, text: str, wish: str) -> None:
    environ = {"ACCESS_TOKEN": TOKEN, name: text}
    assert refusal(environ) == f"environment: {name}: is {text!r}, must be {wish}"
    assert refusal({"ACCESS_TOKEN": TOKEN}, {name: text}) == f"command line: {name}: is {text!r}, must be {wish}"


SECRETS = {"ACCESS_TOKEN", "AUTH_TOKEN", "MCP_SERVERS", "REDIS_URL", "OAUTH_CLIENT_SECRET", "CLUSTER_KEY"}


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_a_refused_secret_is_not_shown(name: str) -> None:
    assert refusal({name: " \t "}) == f"environment: {name}: is (hidden), must be a text that is not empty"


def test_a_token_is_in_no_message_about_another_setting() -> None:
    for name, text, _ in BAD:
        assert TOKEN not in refusal({"ACCESS_TOKEN": TOKEN, "MCP_SERVERS": TOKEN, name: text})


def test_a_secret_is_not_in_the_repr_of_the_settings() -> None:
    redis = f"redis://:{TOKEN}@localhost"
    assert TOKEN not in repr(read_settings({**dict.fromkeys(SECRETS, TOKEN), "REDIS_URL": redis}))


def test_every_secret_setting_is_kept_from_children() -> None:
    secret = [each.metadata for each in fields(Settings) if each.metadata.get("secret")]
    names = {metadata["name"] for metadata in secret} | {each["alias"] for each in secret if "alias" in each}
    assert names == SECRETS
    assert names <= OUR_SECRETS


def test_the_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        read_settings({}).port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"OAUTH_INTROSPECTION_URL": "https://as.example/i"}, "OAUTH_INTROSPECTION_URL: needs OAUTH_CLIENT_ID and"),
        ({"ALLOWED_HOSTS": "a.example,*"}, "OAUTH_AUDIENCE: is unset and ALLOWED_HOSTS is *"),
    ],
)
def test_settings_of_oauth_that_do_not_go_together(environ: dict[str, str], words: str) -> None:
    assert refusal({"OAUTH_ISSUER": "https://as.example", **environ}).startswith(words)


# Where sessions are kept


@pytest.mark.parametrize(
    ("environ", "store"),
    [
        ({}, "memory"),
        ({"SESSION_STORE": "file"}, "file"),
        ({"SESSION_STORE": "redis"}, "redis"),
        ({"SESSION_STORE": "redis", "REDIS_ENABLED": "false"}, "redis"),
        ({"REDIS_ENABLED": "true"}, "redis"),
        ({"SESSION_STORE": "memory", "REDIS_ENABLED": "true"}, "redis"),
        ({"SESSION_STORE": "file", "REDIS_ENABLED": "true"}, "redis"),
        ({"REDIS_URL": "redis://r.example"}, "memory"),
    ],
)
def test_redis_enabled_selects_redis(environ: dict[str, str], store: str) -> None:
    assert read_settings(environ).store == store


# Which source wins


def test_the_command_line_wins_over_the_environment_and_that_over_the_env_file(tmp_path: Path) -> None:
    env_file = tmp_path / "settings.env"
    env_file.write_text("PORT=1\nLOG_LEVEL=ERROR\nMAX_SESSIONS=1\n")
    environ = load_environment({"PORT": "2", "LOG_LEVEL": "WARNING"}, env_file)
    settings = read_settings(environ, {"PORT": "3", "HOST": None, "LOG_FORMAT": ""})
    assert (settings.port, settings.log_level, settings.max_sessions) == (3, "WARNING", 1)
    assert (settings.host, settings.log_format) == ("127.0.0.1", "text")


def test_a_bad_value_that_is_overruled_does_not_matter() -> None:
    assert read_settings({"PORT": "junk"}, {"PORT": "80"}).port == 80


@pytest.mark.parametrize(
    ("environ", "overrides", "token"),
    [
        ({"AUTH_TOKEN": "old"}, {}, "old"),
        ({"ACCESS_TOKEN": "new", "AUTH_TOKEN": "old"}, {}, "new"),
        ({"ACCESS_TOKEN": "", "AUTH_TOKEN": "old"}, {}, "old"),
        ({"ACCESS_TOKEN": "new"}, {"AUTH_TOKEN": "flag"}, "flag"),
        ({"AUTH_TOKEN": ""}, {}, None),
    ],
)
def test_auth_token_is_another_name_of_access_token(
    environ: dict[str, str], overrides: dict[str, str], token: str | None
) -> None:
    assert read_settings(environ, overrides).access_token == token


def test_the_environment_wins_over_the_env_file_by_the_alias_too(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("ACCESS_TOKEN=from-the-file\n")
    settings = read_settings(load_environment({"AUTH_TOKEN": "from-the-environment"}, env_file))
    assert settings.access_token == "from-the-environment"


def test_dot_env_of_the_working_directory_is_read_and_may_be_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "PORT" not in load_environment({}, None)
    (tmp_path / ".env").write_text("# ours\nexport PORT=1\nHOST='::1'\nACCESS_TOKEN=\"a ${b} $c #d\" # e\n")
    environ = load_environment({"HOME": "/home/me"}, None)
    assert environ == {
        "HOME": "/home/me",
        "PORT": "1",
        "HOST": "::1",
        "ACCESS_TOKEN": "a ${b} $c #d",  # a token may hold any character
        "BRIDGE_PYTHON": sys.executable,
    }


def test_an_env_file_that_was_named_must_exist(tmp_path: Path) -> None:
    missing = tmp_path / "missing.env"
    with pytest.raises(ConfigError, match=r"^--env-file: .*missing\.env does not exist$"):
        load_environment({}, missing)


def test_a_dot_env_that_is_there_and_is_no_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    env_file = Path(".env")

    def why(named: Path | None = None) -> str:
        with pytest.raises(ConfigError) as caught:
            load_environment({}, named)
        return str(caught.value)

    env_file.symlink_to("secrets.env")
    assert why() == ".env is a link that leads nowhere"
    assert why(env_file) == "--env-file: .env is a link that leads nowhere"
    Path("secrets.env").write_text("PORT=1\n")
    assert load_environment({}, None)["PORT"] == "1"
    env_file.unlink()
    env_file.symlink_to(env_file)
    assert why() == ".env cannot be read: Too many levels of symbolic links"
    env_file.unlink()
    os.mkfifo(env_file)
    assert why() == ".env is no regular file; it must be a file of settings"
    env_file.unlink()
    env_file.mkdir()
    assert why() == ".env is a directory; it must be a file of settings"
    assert why(env_file) == "--env-file: .env is a directory; it must be a file of settings"
    (env_file / "pyvenv.cfg").touch()  # a virtual environment, as some call it
    assert "PORT" not in load_environment({}, None)
    env_file.rename("venv")
    env_file.symlink_to(os.devnull)
    assert "PORT" not in load_environment({}, None)


def test_an_env_file_with_a_character_that_no_value_can_have_is_refused(tmp_path: Path) -> None:
    env_file = tmp_path / "bad.env"
    for data in (b'PORT=1\nLOG_DIR="a\0b"\n', "PORT=1\nLOG_DIR=a\n".encode("utf-16-le")):
        env_file.write_bytes(data)
        with pytest.raises(ConfigError, match=r"bad\.env: line [12]: holds a NUL character; .* UTF-8$"):
            load_environment({}, env_file)


def test_an_env_file_that_is_no_text_is_an_error_that_names_it(tmp_path: Path) -> None:
    env_file = tmp_path / "bad.env"
    env_file.write_bytes(b"PORT=\xff\n")
    with pytest.raises(ConfigError, match=r"bad\.env: cannot be read: .*utf-8"):
        load_environment({}, env_file)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ('ACCESS_TOKEN="a-secret\nPORT=1\n', "1"),
        ('PORT=1\n\n  \n# more\n\nACCESS_TOKEN="a-secret\n', "6"),
        ("PORT=1\r\nACCESS_TOKEN: a-secret\r\n", "2"),
        ("ACCESS_TOKEN:a-secret", "1"),
        ("PORT=1\nasecret\n", "2"),
        ("ACCESS_TOKEN a-secret\nPORT=1\nset HOST=a-secret\n", "1, 3"),
        ("ACCESS_TOKEN='a-secret' more\n", "1"),
        ('ACCESS_TOKEN="a-secret\nKEY="value"\n', "1"),  # the quote of the second line closes that of the first
        ("=a-secret\n", "1"),
    ],
)
def test_a_line_of_an_env_file_that_is_none_refuses_the_file_and_is_not_shown(
    tmp_path: Path, text: str, lines: str
) -> None:
    env_file = tmp_path / "bad.env"
    env_file.write_bytes(text.encode())
    with pytest.raises(ConfigError) as caught:
        load_environment({}, env_file)
    assert str(caught.value) == (
        f"{env_file}: line {lines}: must be NAME=value, where a quote that opens the value also closes it; "
        "nothing of this file is taken"
    )


def test_an_env_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    env_file = tmp_path / "windows.env"
    env_file.write_bytes(b"\xef\xbb\xbfPORT=1\r\nLOG_LEVEL=DEBUG\r\n")
    environ = load_environment({}, env_file)
    assert (environ.get("PORT"), environ.get("LOG_LEVEL")) == ("1", "DEBUG")


def test_the_python_of_the_bridge_can_be_named_and_overruled(tmp_path: Path) -> None:
    env_file = tmp_path / "settings.env"
    env_file.write_text("")
    assert load_environment({}, env_file)["BRIDGE_PYTHON"] == sys.executable
    assert load_environment({"BRIDGE_PYTHON": "other"}, env_file)["BRIDGE_PYTHON"] == "other"


# Who can reach it

LOOPBACK = ["127.0.0.1", "127.8.9.10", "::1", "localhost"]
REACHABLE = [
    "0.0.0.0",
    "::",
    "192.168.1.2",
    "10.0.0.1",
    "203.0.113.5",
    "fe80::1",
    "bridge.example",
    "localhost.example",
]


@pytest.mark.parametrize("host", LOOPBACK)
def test_a_loopback_host_needs_no_token(host: str) -> None:
    assert read_settings({"HOST": host}).is_loopback


@pytest.mark.parametrize("host", REACHABLE)
@pytest.mark.parametrize("token", [{}, {"ACCESS_TOKEN": ""}, {"ALLOW_UNAUTHENTICATED": "false"}])
def test_a_host_that_others_reach_is_refused_without_a_token(host: str, token: dict[str, str]) -> None:
    expected = f"HOST: {host!r} can be reached from other machines and no token is needed; set ACCESS_TOKEN or "
    assert refusal({"HOST": host, **token}).startswith(expected)
    assert refusal(token, {"HOST": host}).startswith(expected)


@pytest.mark.parametrize("host", REACHABLE)
@pytest.mark.parametrize(
    "permission",
    [
        {"ACCESS_TOKEN": "t"},
        {"AUTH_TOKEN": "t"},
        {"TOKENS_FILE": "t"},
        {"OAUTH_ISSUER": "https://as.example"},
        {"ALLOW_UNAUTHENTICATED": "yes"},
    ],
)
def test_a_host_that_others_reach_is_taken_with_a_token_or_by_express_wish(
    host: str, permission: dict[str, str]
) -> None:
    settings = read_settings({"HOST": host, **permission})
    assert settings.host == host
    assert not settings.is_loopback


# Nodes


def test_a_node_of_several_keeps_its_sessions_in_redis() -> None:
    settings = read_settings(NODES)
    assert (settings.store, settings.node_name, settings.node_url) == ("redis", "bridge-0", "http://10.0.0.7:3000")
    assert NODES["CLUSTER_KEY"] not in repr(settings)


@pytest.mark.parametrize("name", ["bridge-0", "A_b-9"])
def test_a_node_is_called_what_its_host_is_called(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: name)
    assert read_settings({**NODES, "NODE_ID": ""}).node_name == name


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"REDIS_URL": ""}, "REDIS_URL: is unset; CLUSTER=redis needs"),
        ({"CLUSTER_KEY": ""}, "CLUSTER_KEY: is unset; set it to the same secret on all nodes"),
        ({"CLUSTER_KEY": "short"}, "environment: CLUSTER_KEY: is (hidden), must be at least 16 characters"),
        ({"NODE_URL": ""}, "NODE_URL: is unset; set it to the address"),
        ({"NODE_ID": ""}, "NODE_ID: is unset, and the name of this host, 'a.b.example'"),
        ({"WORKERS": "2"}, "WORKERS: is 2, and with CLUSTER=redis each node is one process"),
        ({"SESSION_STORE": "file"}, "SESSION_STORE: is file, which no other node can read"),
    ],
)
def test_nodes_that_could_not_work_together_are_refused(
    changed: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "a.b.example")
    assert refusal({**NODES, **changed}).startswith(said)
