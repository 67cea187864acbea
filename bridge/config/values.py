"""Reading single values: each reader takes what a person wrote and returns what we use, or says what was wanted."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off", ""})
_NEVER = frozenset({"null", "none", "never"})
#: Characters of a key.
SHORTEST_KEY = 16
#: Seconds that anything may be told to take (100 years): dates have an end, and so have numbers of milliseconds.
LONGEST = 100 * 365 * 24 * 3600.0
_BASE_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")
#: What a node may be called: visible ASCII that means nothing in a session id, an URL or a file name.
NODE = re.compile(r"[A-Za-z0-9_-]{1,63}", re.ASCII)
#: Names of hosts, also those of containers, which may have underscores.
_HOST = re.compile(r"(?!.{254})[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


Network = ipaddress.IPv4Network | ipaddress.IPv6Network
LOOPBACK: tuple[Network, ...] = (ipaddress.IPv4Network("127.0.0.0/8"), ipaddress.IPv6Network("::1/128"))


_UNITS = {"second": 1.0, "minute": 60.0, "hour": 3600.0}


@dataclass(frozen=True, slots=True)
class Rate:
    """``count`` in ``seconds``: so many at once, and then one whenever its part of the time has passed."""

    count: int
    seconds: float

    def __str__(self) -> str:
        unit = next((unit for unit, seconds in _UNITS.items() if seconds == self.seconds), f"{self.seconds:g} s")
        return f"{self.count} per {unit}"


class Unset:
    """Nobody has said anything, so the next one in line decides; None would mean never."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET = Unset()


class Wanted(Exception):
    """A value does not fit; the text says what would."""


def flag(value: Any) -> bool:
    """Read true/1/yes/on or false/0/no/off."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise Wanted("true or false")


def whole(low: int, high: int) -> Callable[[Any], int]:
    """Return a reader of whole numbers from ``low`` to ``high``."""

    def read(value: Any) -> int:
        try:
            number = int(str(value).strip()) if not isinstance(value, bool) else None
        except ValueError:
            number = None
        if number is None or not low <= number <= high:
            raise Wanted(f"a whole number from {low} to {high}")
        return number

    return read


def optional(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a reader that takes ``null`` for nothing as well."""
    return lambda value: None if value is None else read(value)


def _duration(value: Any, unit: str, *, times: float = 1.0, per: float = 1.0) -> float:
    """Read a positive number of some unit, of which one is ``times / per`` seconds, as seconds."""
    try:
        found = float(str(value).strip()) * times / per if not isinstance(value, bool) else 0.0
    except ValueError:
        found = 0.0
    if found > LONGEST:
        raise Wanted(f"at most {LONGEST * per / times:.0f} {unit} (100 years)")
    if not found > 0:
        raise Wanted(f"a number of {unit} above 0")
    return found


def _or_never(read: Callable[[], float], value: Any) -> float | None:
    if value is None or str(value).strip().lower() in _NEVER:
        return None
    try:
        return read()
    except Wanted as wanted:
        raise Wanted(f'{wanted}, or "never"') from None


def milliseconds(value: Any) -> float:
    """Read a positive number of milliseconds as seconds."""
    return _duration(value, "milliseconds", per=1000)


def milliseconds_or_never(value: Any) -> float | None:
    """Read milliseconds as seconds; ``null``, ``none`` and ``never`` mean that it never happens."""
    return _or_never(lambda: milliseconds(value), value)


def hours_or_never(value: Any) -> float | None:
    """Read hours as seconds; ``null``, ``none`` and ``never`` mean that it never happens."""
    return _or_never(lambda: _duration(value, "hours", times=3600), value)


def seconds(value: Any) -> float:
    """Read a positive number of seconds."""
    return _duration(value, "seconds")


def choice(*words: str) -> Callable[[Any], str]:
    """Return a reader of one of some words, in any case."""

    def read(value: Any) -> str:
        for word in words:
            if str(value).strip().lower() == word.lower():
                return word
        raise Wanted(f"one of {', '.join(words)}" if len(words) > 1 else words[0])

    return read


def text(value: Any) -> str:
    """Read a string that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise Wanted("a text that is not empty")
    return value


def token(value: Any) -> str:
    """Read a token, as a header can bring it."""
    if not text(value).isprintable():
        raise Wanted("a token in one line, of letters that can be written")
    return text(value)


def host(value: Any) -> str:
    """Read where to listen: an address, or a name."""
    try:
        ipaddress.ip_address(text(value))
    except ValueError:
        if not _HOST.fullmatch(value):
            wanted = "a name or an address, without scheme and port, such as localhost, 192.0.2.5 or 0.0.0.0"
            raise Wanted(wanted) from None
    return text(value)


def path(value: Any) -> Path:
    """Read a path; ``~`` is the home directory."""
    try:
        return Path(text(value)).expanduser()
    except RuntimeError:
        raise Wanted("a path; there is no such home directory") from None


def modules(value: Any) -> tuple[str, ...] | None:
    """Read ``true`` as no names, ``false`` as None, or a list of names of Python modules."""
    if isinstance(value, list) and value and all(isinstance(name, str) and _MODULE.fullmatch(name) for name in value):
        return tuple(value)
    try:
        return () if flag(value) else None
    except Wanted:
        raise Wanted("true, false or a list of names of Python modules") from None


def key(value: Any) -> str:
    """Read something that is signed with."""
    found = text(value)
    if len(found) < SHORTEST_KEY:
        raise Wanted(f"at least {SHORTEST_KEY} characters that nobody can guess, such as openssl rand -hex 32 prints")
    return found


def names(value: Any) -> tuple[str, ...]:
    """Read a comma list, or a JSON list, of names."""
    items = value if isinstance(value, list) else str(value).split(",")
    if not all(isinstance(item, str) for item in items):
        raise Wanted("a list of texts")
    return tuple(item.strip() for item in items if item.strip())


def origins(value: Any) -> tuple[str, ...]:
    """Read a list of origins, as browsers send them, or ``*``."""
    found = names(value)
    if bare := next((each for each in found if "://" not in each and each not in ("*", "null")), None):
        raise Wanted(f"origins with their scheme, such as https://{bare}")
    return found


def hosts(value: Any) -> tuple[str, ...]:
    """Read a list of hosts, as the ``Host`` header has them, or ``*``."""
    found = names(value)
    if url := next((each for each in found if "/" in each), None):
        host = url.partition("://")[2].partition("/")[0] or url.strip("/")
        raise Wanted(f"hosts without scheme and path, such as {host}")
    return found


def globs(value: Any) -> tuple[str, ...]:
    """Read a list of globs of names (``*``, ``?``, ``[abc]``)."""
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise Wanted('a list of names, such as ["read_*", "list_*"]')
    return tuple(value)


def networks(value: Any) -> tuple[Network, ...]:
    """Read ``true`` as loopback, ``false`` as none, or a list of addresses and networks."""
    try:
        return LOOPBACK if flag(value) else ()
    except Wanted:
        pass
    try:
        return tuple(ipaddress.ip_network(item, strict=False) for item in names(value))
    except ValueError:
        wanted = "true (proxies on this machine), false, or a list of addresses and networks: 127.0.0.1,10.0.0.0/8"
        raise Wanted(wanted) from None


def base_path(value: Any) -> str:
    """Read a path that others stand below; ``/`` is none at all."""
    path = text(value).strip().rstrip("/")
    if path and (not _BASE_PATH.fullmatch(path) or {".", ".."} & set(path.split("/"))):
        raise Wanted("a path such as /tools")
    return path


def separator(value: Any) -> str:
    """Read what stands between a server and a name: characters that names of tools may have."""
    if not re.fullmatch(r"[A-Za-z0-9_./-]{1,8}", str(value)):
        raise Wanted("1 to 8 of the characters A-Z a-z 0-9 _ . / -")
    return str(value)


def rate(value: Any) -> Rate:
    """Read ``600``, which is per minute, or ``600/minute``, ``10/second``, ``36000/hour``."""
    count, _, unit = str(value).partition("/")
    try:
        most = whole(1, 10_000_000)("" if isinstance(value, bool) else count)
        return Rate(most, _UNITS[unit.strip() or "minute"])
    except (Wanted, KeyError):
        raise Wanted("a number of requests per minute from 1, or 10/second, 600/minute, 36000/hour") from None


def scopes(value: Any) -> tuple[str, ...]:
    """Read scopes, separated by spaces as in OAuth, or by commas."""
    return tuple(str(value).replace(",", " ").split())


def secure_url(value: Any) -> str:
    """Read an address that nobody can listen in on: https, or http on this machine."""
    address = text(value).strip()
    if is_secure(address):
        return address
    raise Wanted("an https:// address (http:// on loopback) without user, password and #")


def issuer(value: Any) -> str:
    """Read the name of an authorization server, which is an address without a query (RFC 8414, 2)."""
    address = secure_url(value)
    if "?" in address:
        raise Wanted("the https:// address that the server calls itself, which has no ?")
    return address


def node_id(value: Any) -> str:
    """Read the name of a node."""
    name = text(value).strip()
    if not NODE.fullmatch(name):
        raise Wanted("1 to 63 of A-Z a-z 0-9 _ -, because it becomes part of session ids")
    return name


def node_url(value: Any) -> str:
    """Read where a node is reached: an address without a path."""
    address = text(value).strip().rstrip("/")
    try:
        parts = urlsplit(address)
        is_good = bool(parts.hostname) and parts.port != 0 and address == f"{parts.scheme}://{parts.netloc}"
        is_good = is_good and parts.scheme in ("http", "https") and "@" not in address and address.isprintable()
    except ValueError:
        is_good = False
    if not is_good:
        raise Wanted("an address without a path at which the other nodes reach this one, such as http://10.0.0.7:3000")
    return address


def is_secure(address: str) -> bool:
    """Whether what is fetched from there is what is there."""
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or parts.username is not None or "#" in address or not address.isprintable() or " " in address:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))


def is_loopback(host: str) -> bool:
    """Whether a name or an address leads to this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def paths(value: Any) -> tuple[str, ...]:
    """Read one absolute path, or a list of them; ``~`` is the home directory."""
    items = value if isinstance(value, list) else [value]
    try:
        found = [path(item) for item in items]
    except Wanted:
        found = []
    if len(found) != len(items) or not all(each.is_absolute() for each in found):
        raise Wanted("an absolute path, or a list of them")
    return tuple(map(str, found))
