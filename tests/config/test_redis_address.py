"""REDIS_URL: every form that is read, and refusals that do not quote it."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.config.errors import ConfigError
from bridge.config.redis_address import LOCAL, RedisAddress, redis_address
from bridge.config.settings import read_settings
from bridge.config.values import Wanted


def address(*hosts: tuple[str, int], **fields: Any) -> RedisAddress:
    return RedisAddress(**{"hosts": hosts, **fields})


#: What is written, what it means, how it is shown.
GOOD: list[tuple[str, RedisAddress, str]] = [
    ("redis://localhost", address(("localhost", 6379)), "redis://localhost:6379/0"),
    ("redis://localhost/", address(("localhost", 6379)), "redis://localhost:6379/0"),
    (" REDIS://r.example:6380/12 ", address(("r.example", 6380), database=12), "redis://r.example:6380/12"),
    ("redis://r?db=4", address(("r", 6379), database=4), "redis://r:6379/4"),
    ("redis://[::1]:7/1", address(("::1", 7), database=1), "redis://[::1]:7/1"),
    ("redis://[fe80::1%eth0]", address(("fe80::1%eth0", 6379)), "redis://[fe80::1%eth0]:6379/0"),
    ("rediss://r", address(("r", 6379), tls=True), "rediss://r:6379/0"),
    ("redis://:pw@r", address(("r", 6379), password="pw"), "redis://r:6379/0"),
    ("redis://u:pw@r", address(("r", 6379), username="u", password="pw"), "redis://r:6379/0"),
    ("redis://u%40x:p%2F%25@r", address(("r", 6379), username="u@x", password="p/%"), "redis://r:6379/0"),
    ("redis://:a@b:c#d@r", address(("r", 6379), password="a@b:c#d"), "redis://r:6379/0"),
    ("unix:///run/r.sock", address(socket="/run/r.sock"), "unix:///run/r.sock"),
    (
        "unix://:pw@/run/r%20s.sock?db=2",
        address(socket="/run/r s.sock", password="pw", database=2),
        "unix:///run/r s.sock",
    ),
    (
        "redis+sentinel://s1/bridge",
        address(("s1", 26379), service="bridge"),
        "redis+sentinel://s1:26379/bridge/0",
    ),
    (
        "rediss+sentinel://u:pw@s1:1,[::2]:2, s3/bridge/5?sentinel_username=su&sentinel_password=s%26p",
        address(
            *(("s1", 1), ("::2", 2), ("s3", 26379)),
            service="bridge",
            database=5,
            tls=True,
            username="u",
            password="pw",
            sentinel_username="su",
            sentinel_password="s&p",
        ),
        "rediss+sentinel://s1:1,[::2]:2,s3:26379/bridge/5",
    ),
    (
        "rediss://r?ssl_ca_certs=/ca.pem&ssl_password=true&ssl_check_hostname=False",
        address(
            ("r", 6379),
            tls=True,
            ssl=(
                *(("ssl_ca_certs", "/ca.pem"), ("ssl_password", "true")),
                *(("ssl_check_hostname", False), ("ssl_cert_reqs", "required")),
            ),
        ),
        "rediss://r:6379/0",
    ),
    (
        "rediss://r?ssl_cert_reqs=none",
        address(("r", 6379), tls=True, ssl=(("ssl_cert_reqs", "none"), ("ssl_check_hostname", False))),
        "rediss://r:6379/0",
    ),
]
#: What is written, what the refusal says behind the forms that are read.
BAD = [
    ("localhost:6379", ""),
    ("http://localhost", ""),
    ("redis+cluster://localhost", ""),
    ("redis:/localhost", ""),
    ("unix://", ""),
    ("unix://host/run/r.sock", ""),
    ("redis://", "its host or port cannot be read"),
    ("redis://:6379", "its host or port cannot be read"),
    ("redis://r:0", "its host or port cannot be read"),
    ("redis://r:65536", "its host or port cannot be read"),
    ("redis://r:http", "its host or port cannot be read"),
    ("redis://a b", "its host or port cannot be read"),
    ("redis://::1", "its host or port cannot be read"),
    ("redis://:SECRET/SECRET@r", "are /, ? and % of the password percent-encoded?"),
    ("redis://:SECRET?SECRET@r", "(which is %3F in a password)"),
    ("redis://SECRET@r", "it has a user without a password (a password alone is written :password@)"),
    ("redis://r/SECRET", "its database is not a number"),
    ("redis://r/-1", "its database is not a number"),
    ("redis://r/1/2", "its database is not a number"),
    ("redis://s1,s2/bridge", "its host or port cannot be read"),
    ("redis+sentinel://s1,s2", "the name of the service that the sentinels watch is missing"),
    ("redis+sentinel://s1,/bridge", "its host or port cannot be read"),
    ("redis+sentinel://s1/bridge/x", "its database is not a number"),
    ("redis://r?SECRET=1", "only these are known: db, sentinel_password, "),
    ("rediss://r?ssl_cert_reqs=SECRET", "ssl_cert_reqs is none, optional or required"),
    ("rediss://r?ssl_check_hostname=SECRET", "ssl_check_hostname is true or false"),
    ("rediss://r?ssl_check_hostname=true&ssl_cert_reqs=none", "and false when ssl_cert_reqs is none"),
]


@pytest.mark.parametrize(("written", "means", "shown"), GOOD)
def test_an_address_is_read_and_shown_without_credentials(written: str, means: RedisAddress, shown: str) -> None:
    assert redis_address(written) == means
    assert str(means) == shown
    for secret in means.secrets():
        assert secret == "true" or secret not in f"{means!r}{means}"


@pytest.mark.parametrize(("written", "why"), BAD)
def test_what_cannot_be_read_is_refused_and_not_quoted(written: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_settings({"REDIS_URL": written})
    said = str(caught.value)
    assert said.startswith(
        "environment: REDIS_URL: is (hidden), must be redis://[user:password@]host[:port][/database]"
    )
    assert why in said
    assert "SECRET" not in said


@given(user=st.text(max_size=9), password=st.text(min_size=1, max_size=9))
def test_every_password_can_be_written(user: str, password: str) -> None:
    def quoted(text: str) -> str:
        return "".join(f"%{byte:02X}" for byte in text.encode())

    read = redis_address(f"redis://{quoted(user)}:{quoted(password)}@r")
    assert (read.username, read.password) == (user or None, password)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    for scheme in ("", "redis://", "rediss://", "unix://", "redis+sentinel://"):
        with contextlib.suppress(Wanted):
            assert str(redis_address(scheme + text))


def test_the_default_is_the_address_of_the_contract() -> None:
    default = redis_address("redis://localhost:6379/0")
    assert (default.hosts, default.database, str(default)) == (LOCAL.hosts, LOCAL.database, str(LOCAL))
