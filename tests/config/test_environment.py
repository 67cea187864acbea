"""What a child inherits from our environment."""

from __future__ import annotations

from dataclasses import fields

import pytest

from bridge.config.environment import OUR_SECRETS, SAFE_NAMES, Inherit, inherited
from bridge.config.settings import Settings

OURS = {
    "PATH": "/bin",
    "HOME": "/home/me",
    "LC_ALL": "C.UTF-8",
    "LC_TIME": "C",
    "https_proxy": "http://proxy",
    "SSL_CERT_FILE": "/ca.pem",
    "GITHUB_TOKEN": "someone else's secret",
    "PYTHONPATH": "/ours",
    "PORT": "3000",
    "ACCESS_TOKEN": "ours",
    "AUTH_TOKEN": "ours",
    "REDIS_URL": "redis://:ours@localhost",
}
HARMLESS = {"PATH", "HOME", "LC_ALL", "LC_TIME", "https_proxy", "SSL_CERT_FILE"}


@pytest.mark.parametrize(
    ("inherit", "names"),
    [
        ("safe", HARMLESS),
        ((), HARMLESS),
        (("GITHUB_TOKEN",), HARMLESS | {"GITHUB_TOKEN"}),
        (("NOT_SET", "PORT"), HARMLESS | {"PORT"}),
        ("all", HARMLESS | {"GITHUB_TOKEN", "PYTHONPATH", "PORT"}),
    ],
)
def test_a_child_inherits_what_was_asked_for_with_its_values(inherit: Inherit, names: set[str]) -> None:
    assert inherited(inherit, OURS) == {name: OURS[name] for name in names}


@pytest.mark.parametrize("inherit", ["safe", "all", tuple(OUR_SECRETS)])
def test_no_child_inherits_our_secrets(inherit: Inherit) -> None:
    assert inherited(inherit, dict.fromkeys(OUR_SECRETS, "ours")) == {}


@pytest.mark.parametrize(
    "name",
    [
        *("HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR"),
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"),
    ],
)
def test_what_a_program_needs_to_work_is_safe(name: str) -> None:
    # The list of the settings reference: locale, home, temporary files, proxies and certificates.
    assert inherited("safe", {name: "value"}) == {name: "value"}


def test_nothing_that_names_a_secret_is_safe() -> None:
    assert not [name for name in SAFE_NAMES if any(word in name for word in ("TOKEN", "KEY", "SECRET", "PASSWORD"))]
    assert not SAFE_NAMES & OUR_SECRETS


def test_our_environment_is_not_changed() -> None:
    ours = dict(OURS)
    inherited("all", ours).clear()
    assert ours == OURS


def test_every_setting_that_is_a_secret_is_one() -> None:
    secret = [each.metadata for each in fields(Settings) if each.metadata.get("secret")]
    names = {name for each in secret for name in (each["name"], each.get("alias")) if name}
    assert names >= {"ACCESS_TOKEN", "AUTH_TOKEN", "REDIS_URL"}
    assert names <= OUR_SECRETS
