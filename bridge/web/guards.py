"""Who may come in: Host, Origin, token.

A page on the web can make a browser call ``http://localhost:3000`` and, by DNS rebinding, read the answer. The browser
cannot forge Host and Origin, so both are compared with a list (users' scar 27; specification, Streamable HTTP, security
warning). Each refusal names the setting to change (users' scar 26).
"""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from aiohttp import web

from bridge.config.settings import Settings
from bridge.protocol.errors import Fault, Rejection
from bridge.web.principal import ANONYMOUS, digest, set_owner

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
#: Probes, which never need a token and never tell names.
OPEN_PATHS = frozenset({"/health", "/livez", "/readyz"})

#: Spellings of allowed hosts that are remembered.
SEEN_HOSTS = 100


class Guards:
    """The checks that stand before every route."""

    def __init__(self, settings: Settings) -> None:
        # Everyone who may come in has the same token, or none: they are one user.
        self._owner = digest(ANONYMOUS if settings.access_token is None else "ACCESS_TOKEN")
        self._token = settings.access_token.encode() if settings.access_token else None
        self._origins = frozenset(origin.rstrip("/").lower() for origin in settings.allowed_origins)
        self._seen: set[str] = set()  # allowed ones as they are sent, so that most requests need one look
        self._hosts = frozenset(host.lower() for host in settings.allowed_hosts)

    def check(self, request: web.BaseRequest) -> None:
        """Raise :class:`Rejection` unless this request may come in."""
        self.check_page(request)
        set_owner(request, self._owner)
        if self._token is not None and not self.knows(request) and request.path not in OPEN_PATHS:
            raise Rejection(
                Fault.UNAUTHORIZED,
                "a token is needed: send the value of ACCESS_TOKEN as Authorization: Bearer, or X-API-Key",
            )

    def check_page(self, request: web.BaseRequest) -> None:
        """Raise :class:`Rejection` unless its Host is ours and its page, if it comes from one, may ask us anything."""
        headers = request.headers
        self._check_host(headers.get("Host", ""))
        origin = headers.get("Origin")
        if origin is not None and not self.lets_in(origin):
            raise Rejection(
                Fault.FORBIDDEN,
                f"Origin {origin[:100]!r} is not allowed; add it to ALLOWED_ORIGINS if you trust its pages",
            )

    def check_target(self, request: web.BaseRequest) -> None:
        """Raise :class:`Rejection` for a target with a host of its own, which counts more than Host (RFC 9112, 3.2.2)
        and is for proxies, unless that may come in too.
        """
        if not request.raw_path.startswith("/"):
            self._check_host(_host_of(request.raw_path))

    def knows(self, request: web.BaseRequest) -> bool:
        """Whether the caller may see names: there is no token, or it brings the right one."""
        if self._token is None:
            return True
        headers = request.headers
        key = headers.get("X-API-Key")
        return self._is_token(headers.get("Authorization", "") if key is None else f"Bearer {key}")

    def _check_host(self, host: str) -> None:
        if host in self._seen:
            return
        name = _without_port(host.lower())
        if name in LOOPBACK_NAMES or host.lower() in self._hosts or name in self._hosts or "*" in self._hosts:
            if len(self._seen) < SEEN_HOSTS:
                self._seen.add(host)
            return
        raise Rejection(
            Fault.FORBIDDEN,
            f"Host {host[:100]!r} is not allowed; add it to ALLOWED_HOSTS if it is a name of this bridge",
        )

    def lets_in(self, origin: str) -> bool:
        """Whether pages of this origin may come in: those of this machine, and what ``ALLOWED_ORIGINS`` lists."""
        origin = origin.rstrip("/").lower()
        if origin in self._origins or "*" in self._origins:
            return True
        return origin.startswith(("http://", "https://")) and _without_port(_host_of(origin)) in LOOPBACK_NAMES

    def _is_token(self, authorization: str) -> bool:
        kind, _, token = authorization.partition(" ")
        given = token.strip().encode(errors="surrogateescape")
        return kind.lower() == "bearer" and self._token is not None and hmac.compare_digest(given, self._token)


def _host_of(url: str) -> str:
    """Host and port of an URL, empty for one that is none."""
    try:
        return urlsplit(url).netloc
    except ValueError:  # half of an IPv6 address
        return ""


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
