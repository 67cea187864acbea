"""Who a request comes from, as the guards have found."""

from __future__ import annotations

import hashlib

from aiohttp import web

#: Where no token is needed, everyone is the same.
ANONYMOUS = "anonymous"
_KEY = "owner"


def digest(name: str) -> str:
    """What sessions and records know of a principal: not its token, and not its name."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def set_owner(request: web.BaseRequest, owner: str) -> None:
    """Say who a request comes from; ``owner`` is a digest."""
    request[_KEY] = owner


def owner_of(request: web.BaseRequest) -> str:
    """The digest of the principal that a request comes from."""
    owner: str = request.get(_KEY, ANONYMOUS)
    return owner


def is_admin(request: web.BaseRequest) -> bool:
    """Whether it may see and change what others have: everyone may as long as all have the same token."""
    admin: bool = request.get("admin", True)
    return admin
