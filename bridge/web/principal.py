"""Who a request comes from, as the guards have found, and what it therefore may not do."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from bridge.auth.principal import NOBODY, Principal
from bridge.protocol.errors import Fault, Rejection

_PRINCIPAL = web.RequestKey("principal", Principal)


class Challenge(Rejection):
    """A refusal that another token would change (RFC 6750, 3). ``error`` is a code of that, empty where no token came.

    ``metadata`` is the address of what says who gives such tokens (RFC 9728, 5.1).
    """

    def __init__(self, fault: Fault, message: str, error: str = "", scopes: Iterable[str] = ()) -> None:
        super().__init__(fault, message)
        self.error = error
        self.scopes = set(scopes)
        self.metadata = ""

    @property
    def header(self) -> str:
        """The value of ``WWW-Authenticate``."""
        named = {
            "error": self.error,
            "error_description": str(self) if self.error else "",
            "scope": " ".join(sorted(self.scopes)),
            "resource_metadata": self.metadata,
        }
        return f"Bearer {', '.join(f'{name}={_quoted(value)}' for name, value in named.items() if value)}".rstrip()


def set_principal(request: web.BaseRequest, principal: Principal) -> None:
    """Say who a request comes from."""
    request[_PRINCIPAL] = principal


def principal_of(request: web.BaseRequest) -> Principal:
    """Who it comes from."""
    return request[_PRINCIPAL]


def name_of(request: web.BaseRequest) -> str:
    """Its name, also when nobody has looked at its token."""
    principal: Principal = request.get(_PRINCIPAL, NOBODY)
    return principal.name


def owner_of(request: web.BaseRequest) -> str:
    """The digest of the principal that a request comes from."""
    return request[_PRINCIPAL].owner


def is_admin(request: web.BaseRequest) -> bool:
    """Whether it may see and change what others have."""
    return request[_PRINCIPAL].is_admin


def may_use(request: web.BaseRequest, server: str) -> bool:
    """Whether it may call this server, and know that it exists."""
    return request[_PRINCIPAL].may_use(server)


def check_server(request: web.BaseRequest, server: str) -> None:
    """Raise :class:`Challenge` unless it may use this server; whether the server exists is not told."""
    principal = request[_PRINCIPAL]
    if principal.uses_all or principal.may_use(server):
        return
    if not principal.is_for(server):  # whose client has to ask for a token for this one (MCP, audience validation)
        raise _for_something_else()
    raise lacks_scope(f"servers:{server}", f'server "{server[:64]}" is not for this token')


def check_admin(request: web.BaseRequest) -> None:
    """Raise :class:`Challenge` unless it may operate the bridge."""
    if request[_PRINCIPAL].is_admin:
        return
    if not request[_PRINCIPAL].is_for_all:
        raise _for_something_else()
    raise lacks_scope("admin", "this is not for this token")


def check_persist(request: web.BaseRequest) -> None:
    """Raise :class:`Challenge` unless it may make sessions persistent."""
    if not request[_PRINCIPAL].may_persist:
        raise lacks_scope("sessions:persist", "persistent sessions are not for this token")


def lacks_scope(scope: str, message: str) -> Challenge:
    """Return the refusal of a token that has every right but this one."""
    scope = "".join(char for char in scope if char.isalnum() or char in ":._-*")  # a header carries it
    return Challenge(Fault.FORBIDDEN, f"{message}: it needs the scope {scope}", "insufficient_scope", [scope])


def _for_something_else() -> Challenge:
    return Challenge(Fault.UNAUTHORIZED, "this token is for something else (aud)", "invalid_token")


def _quoted(text: str) -> str:
    """Write a text into a header (RFC 9110, 5.6.4), without what RFC 6750, 3 does not want in there."""
    clean = "".join(char if " " <= char <= "~" else "?" for char in text)
    return '"' + clean.replace("\\", "").replace('"', "'") + '"'
