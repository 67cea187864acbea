"""Who a request comes from, as the guards have found, and what it therefore may not do."""

from __future__ import annotations

from aiohttp import web

from bridge.auth.principal import Principal
from bridge.protocol.errors import Fault, Rejection

_PRINCIPAL = web.RequestKey("principal", Principal)


class Challenge(Rejection):
    """A refusal that another token would change: ``challenge`` says which, as ``WWW-Authenticate`` (RFC 6750, 3)."""

    def __init__(self, fault: Fault, message: str, challenge: str) -> None:
        super().__init__(fault, message)
        self.challenge = challenge


def set_principal(request: web.BaseRequest, principal: Principal) -> None:
    """Say who a request comes from."""
    request[_PRINCIPAL] = principal


def principal_of(request: web.BaseRequest) -> Principal:
    """Who it comes from."""
    return request[_PRINCIPAL]


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
    if not principal.uses_all and not principal.may_use(server):
        raise lacks_scope(f"servers:{server}", f'server "{server[:64]}" is not for this token')


def check_admin(request: web.BaseRequest) -> None:
    """Raise :class:`Challenge` unless it may operate the bridge."""
    if not request[_PRINCIPAL].is_admin:
        raise lacks_scope("admin", "this is not for this token")


def check_persist(request: web.BaseRequest) -> None:
    """Raise :class:`Challenge` unless it may make sessions persistent."""
    if not request[_PRINCIPAL].may_persist:
        raise lacks_scope("sessions:persist", "persistent sessions are not for this token")


def lacks_scope(scope: str, message: str) -> Challenge:
    """Return the refusal of a token that has every right but this one."""
    scope = "".join(char for char in scope if char.isalnum() or char in ":._-*")  # a header carries it
    challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
    return Challenge(Fault.FORBIDDEN, f"{message}: it needs the scope {scope}", challenge)
