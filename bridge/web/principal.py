"""Who a request comes from, as the guards have found."""

from __future__ import annotations

import hashlib

from aiohttp import web

#: Where no token is needed, everyone is the same.
ANONYMOUS = "anonymous"
_OWNER = web.RequestKey("owner", str)
_ADMIN = web.RequestKey("admin", bool)


def digest(name: str) -> str:
    """What sessions and records know of a principal: not its token, and not its name."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def set_owner(request: web.BaseRequest, owner: str) -> None:
    """Say who a request comes from; ``owner`` is a digest."""
    request[_OWNER] = owner


def owner_of(request: web.BaseRequest) -> str:
    """The digest of the principal that a request comes from."""
    return request[_OWNER]


def is_admin(request: web.BaseRequest) -> bool:
    """Whether it may see and change what others have: everyone may as long as all have the same token."""
    return bool(request.get(_ADMIN, True))
