"""Who may come in: Host, Origin, token.

A page on the web can make a browser call ``http://localhost:3000`` and, by DNS rebinding, read the answer. The browser
cannot forge Host and Origin, so both are compared with a list (users' scar 27; specification, Streamable HTTP, security
warning). Each refusal names the setting to change (users' scar 26).
"""

from __future__ import annotations

from urllib.parse import urlsplit

from aiohttp import web

from bridge.auth.keyring import Keyring
from bridge.auth.principal import ANYONE, NOBODY
from bridge.config.settings import Settings
from bridge.protocol.errors import Fault, Rejection
from bridge.web.principal import Challenge, check_server, principal_of, set_principal

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
#: Probes, which never need a token and never tell names.
OPEN_PATHS = frozenset({"/health", "/livez", "/readyz"})

#: Spellings of allowed hosts and of allowed origins that are remembered.
MOST_SEEN = 100


class Guards:
    """The checks that stand before every route."""

    def __init__(self, settings: Settings, keyring: Keyring) -> None:
        self._keyring = keyring
        self._is_open = not keyring.is_needed
        self._origins = frozenset(origin.rstrip("/").lower() for origin in settings.allowed_origins)
        # Allowed ones as they are sent, so that most requests need one look.
        self._seen: set[str] = set()
        self._seen_origins: set[str] = set()
        self._hosts = frozenset(host.lower() for host in settings.allowed_hosts)

    def check(self, request: web.BaseRequest, server: str | None = None) -> None:
        """Raise :class:`Rejection` unless this request may come in, and may use ``server`` where it names one."""
        self.check_page(request)
        if self._is_open:
            set_principal(request, ANYONE)
            return
        token = _token_of(request)
        principal = None if token is None else self._keyring.find(token)
        if principal is None:
            if request.path not in OPEN_PATHS:
                raise _unknown(token)
            principal = NOBODY
        set_principal(request, principal)
        if server is not None:
            check_server(request, server)

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

    def _check_host(self, host: str) -> None:
        if host in self._seen:
            return
        name = _without_port(host.lower())
        if name in LOOPBACK_NAMES or host.lower() in self._hosts or name in self._hosts or "*" in self._hosts:
            if len(self._seen) < MOST_SEEN:
                self._seen.add(host)
            return
        raise Rejection(
            Fault.FORBIDDEN,
            f"Host {host[:100]!r} is not allowed; add it to ALLOWED_HOSTS if it is a name of this bridge",
        )

    def lets_in(self, origin: str) -> bool:
        """Whether pages of this origin may come in: those of this machine, and what ``ALLOWED_ORIGINS`` lists."""
        if origin in self._seen_origins:
            return True
        name = origin.rstrip("/").lower()
        listed = name in self._origins or "*" in self._origins
        if not listed and not name.startswith(("http://", "https://")):
            return False
        if not listed and _without_port(_host_of(name)) not in LOOPBACK_NAMES:
            return False
        if len(self._seen_origins) < MOST_SEEN:
            self._seen_origins.add(origin)
        return True


def knows(request: web.BaseRequest) -> bool:
    """Whether the caller may see more than a probe needs."""
    return principal_of(request) is not NOBODY


def _token_of(request: web.BaseRequest) -> bytes | None:
    """The token that a request brings, None when it brings none."""
    token = request.headers.get("X-API-Key")
    if token is None:
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer":
            return None
    return token.strip().encode(errors="surrogateescape")


def _unknown(token: bytes | None) -> Challenge:
    if token is None:
        why = "a token is needed: send it as Authorization: Bearer, or X-API-Key (ACCESS_TOKEN, or one of TOKENS_FILE)"
        return Challenge(Fault.UNAUTHORIZED, why, "Bearer")
    why = "this token is not known, or has expired"
    return Challenge(Fault.UNAUTHORIZED, why, f'Bearer error="invalid_token", error_description="{why}"')


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
