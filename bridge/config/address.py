"""What an entry says of a remote server: its address, and what requests to it carry."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from bridge.config.keys import BadEntry, kind_of

_ADDRESS = re.compile(r"https?://[!-~]+", re.IGNORECASE)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, token


def address(raw: Mapping[str, Any], *, disabled: bool) -> str:
    """Return the address of a remote server. It may hold a key, so no message repeats it. Raises :class:`BadEntry`."""
    url = raw["url"]
    if "command" in raw:
        raise BadEntry('"command" and "url" are both given; keep one of them')
    if not isinstance(url, str):
        raise BadEntry(f'"url" must be a string, not {kind_of(url)}')
    if disabled:  # an example, whose variables nobody need have set
        return url
    if not _is_address(url):
        raise BadEntry('"url" must be an address that begins with http:// or https://')
    if "@" in urlsplit(url).netloc:
        raise BadEntry('"url" holds a user name or a password; put them into "headers" as "Authorization"')
    return url


def headers(given: Any) -> dict[str, str]:
    """Return what requests carry. Messages name headers, and never repeat their values. Raises :class:`BadEntry`."""
    given = given or {}
    if not isinstance(given, dict):
        raise BadEntry(f'"headers" must be an object of name -> text, not {kind_of(given)}')
    found: dict[str, str] = {}
    for name, value in given.items():
        if not _HEADER_NAME.fullmatch(name):
            raise BadEntry(f'"headers": {json.dumps(name)} is no name of a header')
        if not isinstance(value, bool | int | float | str):
            raise BadEntry(f'"headers": {name} must be a string, not {kind_of(value)}')
        text = str(value).lower() if isinstance(value, bool) else str(value).strip()
        if not text.isprintable():
            raise BadEntry(f'"headers": {name} must be one line of text')
        found[name] = text
    return found


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return _ADDRESS.fullmatch(url) is not None and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port, or an IPv6 address, that is none
        return False
