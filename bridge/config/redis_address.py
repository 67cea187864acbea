"""Where Redis is: ``REDIS_URL`` as a value that is checked once and never shows a password.

Taken apart here and not by the client library, because what is wrong with an address must be known at the start and
must not be said by quoting it: a password with ``/`` in it makes its second half look like a path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from bridge.config.values import Wanted, text

REDIS_PORT = 6379
SENTINEL_PORT = 26379
#: What may follow a ``?``, in the spelling of the client library, and how sentinels are logged in to.
OPTIONS = frozenset(
    (
        *("db", "ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_password"),
        *("ssl_cert_reqs", "ssl_check_hostname", "sentinel_username", "sentinel_password"),
    )
)

_FORM = (
    "redis://[user:password@]host[:port][/database], rediss:// for TLS, unix:///path/of/socket, or "
    "redis+sentinel://host[:port],host[:port]/service[/database]"
)
_HOST = re.compile(r"(\[[0-9A-Za-z:.%_-]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?")


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A Redis server, or the sentinels that know where it is."""

    hosts: tuple[tuple[str, int], ...]
    service: str | None = None  # what the sentinels call it; None when ``hosts`` is the server
    socket: str | None = None  # path of a Unix socket, instead of hosts
    database: int = 0
    tls: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    ssl: tuple[tuple[str, str | bool], ...] = field(default=(), repr=False)  # the options that begin with ``ssl_``

    def __str__(self) -> str:
        """Without credentials and options."""
        if self.socket is not None:
            return f"unix://{self.socket}"
        kind = f"redis{'s' if self.tls else ''}{'+sentinel' if self.service else ''}"
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        return f"{kind}://{hosts}/{f'{self.service}/' if self.service else ''}{self.database}"

    def secrets(self) -> tuple[str, ...]:
        """What no message may contain."""
        options = (value for name, value in self.ssl if name == "ssl_password" and isinstance(value, str))
        return tuple(secret for secret in (self.password, self.sentinel_password, *options) if secret)


LOCAL = RedisAddress(hosts=(("localhost", REDIS_PORT),))


def redis_address(value: Any) -> RedisAddress:
    """Read a URL. Raises :class:`Wanted`, which never quotes it."""
    scheme, _, rest = text(value).strip().partition("://")
    rest, _, query = rest.partition("?")
    authority, slash, path = rest.partition("/")
    credentials, _, hosts = authority.rpartition("@")
    username, _, password = credentials.partition(":")
    if username and not password:
        raise Wanted(f"{_FORM}; it has a user without a password (a password alone is written :password@)")
    options = _options(query)
    common: dict[str, Any] = {
        "username": unquote(username) or None,
        "password": unquote(password) or None,
        "sentinel_username": options.pop("sentinel_username", None),
        "sentinel_password": options.pop("sentinel_password", None),
    }
    database = options.pop("db", "")
    common["ssl"] = _tls(options)
    match scheme.lower():
        case "unix" if path and not hosts:
            return RedisAddress(hosts=(), socket=unquote(f"{slash}{path}"), database=_database(database), **common)
        case "redis" | "rediss" as kind:
            where = (_host(hosts, REDIS_PORT),)
            return RedisAddress(hosts=where, database=_database(path or database), tls=kind == "rediss", **common)
        case "redis+sentinel" | "rediss+sentinel" as kind:
            service, _, number = path.partition("/")
            if not service:
                raise Wanted(f"{_FORM}; the name of the service that the sentinels watch is missing")
            return RedisAddress(
                hosts=tuple(_host(each, SENTINEL_PORT) for each in hosts.split(",")),
                service=unquote(service),
                database=_database(number or database),
                tls=kind.startswith("rediss"),
                **common,
            )
    raise Wanted(_FORM)


def _host(written: str, port: int) -> tuple[str, int]:
    match = _HOST.fullmatch(written.strip())
    number = int(match[2] or port) if match else 0
    if match is None or not 0 < number < 65536:
        raise Wanted(f"{_FORM}; its host or port cannot be read: are /, ? and % of the password percent-encoded?")
    return match[1].strip("[]"), number


def _database(written: str) -> int:
    if written and not (written.isascii() and written.isdecimal() and len(written) < 6):
        raise Wanted(f"{_FORM}; its database is not a number: are /, ? and % of the password percent-encoded?")
    return int(written or 0)


def _options(query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    if not options.keys() <= OPTIONS:
        known = ", ".join(sorted(OPTIONS))
        raise Wanted(f"{_FORM}; of the options behind ? (which is %3F in a password) only these are known: {known}")
    return options


def _tls(options: dict[str, str]) -> tuple[tuple[str, str | bool], ...]:
    """What the client library is told about certificates. By itself it checks them and the names in them."""
    if not options:
        return ()
    told: dict[str, str | bool] = dict(options)
    required = options.get("ssl_cert_reqs", "required").lower()
    if required not in ("none", "optional", "required"):
        raise Wanted(f"{_FORM}; ssl_cert_reqs is none, optional or required")
    checked = options.get("ssl_check_hostname", "false" if required == "none" else "true").lower()
    if checked not in ("true", "false") or (checked == "true" and required == "none"):
        raise Wanted(f"{_FORM}; ssl_check_hostname is true or false, and false when ssl_cert_reqs is none")
    return tuple({**told, "ssl_cert_reqs": required, "ssl_check_hostname": checked == "true"}.items())
