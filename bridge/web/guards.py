"""Who may come in: Host, Origin, token.

A page on the web can make a browser call ``http://localhost:3000`` and, by DNS rebinding, read the answer. The browser
cannot forge Host and Origin, so both are compared with a list (users' scar 27; specification, Streamable HTTP, security
warning). Each refusal names the setting to change (users' scar 26).
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.http import RawRequestMessage
from multidict import CIMultiDictProxy, istr

from bridge.auth.grant import UNKNOWN
from bridge.auth.keyring import Keyring
from bridge.auth.principal import ANYONE, NOBODY, Principal
from bridge.config.settings import Settings
from bridge.observe import audit
from bridge.protocol.errors import Fault, Rejection
from bridge.web.address import below, port_of, without_port
from bridge.web.limits import Guesses, too_many_guesses
from bridge.web.oauth import PUBLIC, Door
from bridge.web.principal import Challenge, check_server, set_principal
from bridge.web.proxy import Proxies, origin_of

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
API_KEY = istr("X-API-Key")  # as all names that are looked up often: an istr is folded once
#: Probes, which never need a token and never tell names.
OPEN_PATHS = frozenset({"/health", "/livez", "/readyz"})

#: Spellings of allowed hosts and of allowed origins that are remembered.
MOST_SEEN = 100


class FirstSight(Exception):
    """A token that is not known yet, and may be good: somebody else has to be asked."""

    def __init__(self, token: bytes) -> None:
        super().__init__("a token that was not seen before")
        self.token = token


class Guards:
    """The checks that stand before every route. ``public`` are paths that need no token, beside those of probes;
    ``open_paths`` are all of these.
    """

    def __init__(
        self, settings: Settings, keyring: Keyring, door: Door | None = None, public: frozenset[str] = frozenset()
    ) -> None:
        self._keyring = keyring
        self._door = door
        self._has_keys = keyring.is_needed
        self._is_open = door is None and not self._has_keys
        self._origins = frozenset(origin.rstrip("/").lower() for origin in settings.allowed_origins)
        self._port = str(settings.port)
        self._guesses = Guesses()
        self._base = settings.base_path
        self._is_audited = audit.is_on()
        audit.introduce(ANYONE.owner, ANYONE.name)
        public |= OPEN_PATHS
        self.open_paths = public | {settings.base_path + path for path in public}
        self._probes = OPEN_PATHS | {settings.base_path + path for path in OPEN_PATHS}
        self._proxies = Proxies(settings.trust_proxy) if settings.trust_proxy else None
        # Allowed ones as they are sent, so that most requests need one look.
        self._seen: set[str] = set()
        self._seen_origins: set[str] = set()
        self._hosts = frozenset(host.lower() for host in settings.allowed_hosts)

    @property
    def is_open(self) -> bool:
        """Whether nobody needs a token."""
        return self._is_open

    def check(self, request: web.BaseRequest, server: str | None = None) -> None:
        """Raise :class:`Rejection` unless this request may come in, and may use ``server`` where it names one.

        Raises :class:`FirstSight` when that cannot be said at once: then :meth:`meet` says it.
        """
        try:
            self.check_page(request)
        except Rejection:
            if not self._is_probe(request):
                raise
            set_principal(request, NOBODY)
            return
        if self._is_open:
            set_principal(request, ANYONE)
            return
        sent = _sent(request.headers)
        principal, wait = self._keyring.recall(sent), 0.0
        if self._guesses.have_begun and (principal is None or self._keyring.is_guessable(principal)):
            wait = self._guesses.wait(request)
            principal = None if wait else principal
        if principal is not None:
            self._let_in(request, principal, server)
        elif (token := _token_in(sent)) is None:
            self._admit(request, None, server, None)
        else:
            self._admit(request, self._find(token, sent, request, wait), server, token, wait)

    def recall(self, message: RawRequestMessage, peer: Callable[[], str], server: str) -> Principal | None:
        """Return who asks, where each thing that :meth:`check` looks at has been found good before; None where that
        cannot be said without a further look. ``peer`` is asked for an address.
        """
        headers = message.headers
        if headers.get(hdrs.HOST, "") not in self._seen:
            return None
        if self._proxies is not None and (host := self._proxies.host(headers, peer())) and host not in self._seen:
            return None
        origin = headers.get(hdrs.ORIGIN)
        if origin is not None and origin not in self._seen_origins:
            return None
        if self._is_open:
            return ANYONE
        principal = self._keyring.recall(_sent(headers))
        if principal is None or not principal.may_use(server):
            return None
        if self._guesses.have_begun and self._keyring.is_guessable(principal) and self._guesses.anybody_waits():
            return None  # it may be the one who asks
        return principal

    async def admit(self, request: web.BaseRequest) -> None:
        """Raise :class:`Rejection` unless this request may come in, or, later, may still be here."""
        try:
            self.check(request)
        except FirstSight as unknown:
            await self.meet(request, None, unknown.token)

    async def meet(self, request: web.BaseRequest, server: str | None, token: bytes) -> None:
        """Raise :class:`Rejection` unless a request with a token that was not seen before may come in."""
        assert self._door is not None
        try:
            principal = await self._door.verify(token, request)
        except Rejection as refused:
            if refused.fault is Fault.UNAUTHORIZED:
                self._guesses.count(request)
            if not self._is_open_path(request.path):
                raise
            set_principal(request, NOBODY)
        else:
            self._admit(request, principal, server, token)

    def challenge(self, challenge: Challenge, request: web.BaseRequest) -> Challenge:
        """Complete a refusal: say where tokens are to be had, where there is such a place."""
        if self._door is not None:
            self._door.point(challenge, request)
        return challenge

    def _find(self, token: bytes, sent: str, request: web.BaseRequest, wait: float) -> Principal | None:
        """Return whose token it is. Where its address has to wait, one that would cost us work is not known, and one
        that may have been guessed is not good; any other is: its neighbours behind a proxy have one address with it.
        """
        principal = self._keyring.find(token, sent) if self._has_keys else None
        if principal is not None and wait and self._keyring.is_guessable(principal):
            return None
        if principal is not None or self._door is None:
            return principal
        try:
            principal = self._door.find(token, request)
        except Challenge:
            if not self._is_open_path(request.path):
                raise
            return None
        if principal is None and not wait:
            raise FirstSight(token)
        return principal

    def _admit(
        self,
        request: web.BaseRequest,
        principal: Principal | None,
        server: str | None,
        token: bytes | None,
        wait: float = 0.0,
    ) -> None:
        if principal is None:
            if token is not None and not wait:
                self._guesses.count(request)
            if not self._is_open_path(request.path):
                raise too_many_guesses(wait) if wait else _unknown(token)
            principal = NOBODY
        self._let_in(request, principal, server)

    def _let_in(self, request: web.BaseRequest, principal: Principal, server: str | None) -> None:
        set_principal(request, principal)
        if self._is_audited:
            audit.introduce(principal.owner, principal.name)
        if server is not None and not principal.uses_all:
            check_server(request, server)

    def _is_probe(self, request: web.BaseRequest) -> bool:
        """Whether it is a probe, which may come under any name, as those of orchestrators do: nobody's, so that it is
        told nothing but a status.
        """
        return request.path in self._probes and request.method in ("GET", "HEAD") and hdrs.ORIGIN not in request.headers

    def _is_open_path(self, path: str) -> bool:
        return path in self.open_paths or below(path, self._base).startswith(PUBLIC)

    def check_page(self, request: web.BaseRequest) -> None:
        """Raise :class:`Rejection` unless its Host is ours and its page, if it comes from one, may ask us anything."""
        headers = request.headers
        if (named := headers.get(hdrs.HOST, "")) not in self._seen:
            self._check_host(named)
        if self._proxies is not None and (host := self._proxies.read(request)):
            self._check_host(host)  # and not instead of Host: some proxies pass on what a page has sent
        origin = headers.get(hdrs.ORIGIN)
        if origin is not None and not self.lets_in(request, origin) and not self._is_ours(request, origin):
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
        name = without_port(host.lower())
        if name in LOOPBACK_NAMES or host.lower() in self._hosts or name in self._hosts or "*" in self._hosts:
            if len(self._seen) < MOST_SEEN:
                self._seen.add(host)
            return
        raise Rejection(
            Fault.FORBIDDEN,
            f"Host {host[:100]!r} is not allowed; add it to ALLOWED_HOSTS if it is a name of this bridge",
        )

    def _is_ours(self, request: web.BaseRequest, origin: str) -> bool:
        """Whether this page came from the bridge itself, under a name that is known to be one of its own."""
        return "*" not in self._hosts and origin.lower() == origin_of(request).lower()

    def lets_in(self, request: web.BaseRequest, origin: str) -> bool:
        """Whether pages of this origin may come in: what ``ALLOWED_ORIGINS`` lists, and those that came from this port
        under any name of this machine. Whatever else serves pages here, as a program under development, is not us.
        """
        if origin in self._seen_origins:
            return True
        name = origin.rstrip("/").lower()
        if name not in self._origins and "*" not in self._origins:
            scheme, separator, host = name.partition("://")
            if not separator or scheme not in ("http", "https") or without_port(host) not in LOOPBACK_NAMES:
                return False
            # The port that a client knows us by, where ours is mapped to another one.
            return port_of(scheme, host) in (self._port, port_of(request.scheme, request.host))
        if len(self._seen_origins) < MOST_SEEN:
            self._seen_origins.add(origin)
        return True


def _sent(headers: CIMultiDictProxy[str]) -> str:
    """What a request sends as ``Authorization``, or would send, where it has ``X-API-Key``."""
    key = headers.get(API_KEY)
    return headers.get(hdrs.AUTHORIZATION, "") if key is None else f"Bearer {key}"


def _token_in(sent: str) -> bytes | None:
    kind, _, token = sent.partition(" ")
    return token.strip().encode(errors="surrogateescape") if kind.lower() == "bearer" else None


def _unknown(token: bytes | None) -> Challenge:
    if token is None:
        kinds = "ACCESS_TOKEN, or one of TOKENS_FILE or OAUTH_ISSUER"
        why = f"a token is needed: send it as Authorization: Bearer, or X-API-Key ({kinds})"
        return Challenge(Fault.UNAUTHORIZED, why)
    return Challenge(Fault.UNAUTHORIZED, UNKNOWN, "invalid_token")


def _host_of(url: str) -> str:
    """Host and port of an URL, empty for one that is none."""
    try:
        return urlsplit(url).netloc
    except ValueError:  # half of an IPv6 address
        return ""
