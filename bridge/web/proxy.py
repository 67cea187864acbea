"""Requests that come through a reverse proxy: who asked it, under which name, over which scheme (``TRUST_PROXY``).

Anybody can send ``X-Forwarded-*``, so it counts only where the connection comes from a proxy that is trusted. A proxy
puts what it knows behind what it was sent, and many pass on what they do not know: of each list the last value counts,
and of the addresses the last one that is not a proxy itself.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web
from multidict import CIMultiDictProxy, istr

from bridge.config.values import Network

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Addresses of peers that are remembered with the verdict on them.
MOST_KNOWN = 1000
#: Addresses in ``X-Forwarded-For`` that are looked at, from its end: more proxies than anybody has.
MOST_HOPS = 20


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What a trusted proxy says of a request; empty for what it does not say."""

    client: str
    scheme: str
    host: str


FORWARDED_FOR = istr("X-Forwarded-For")
FORWARDED_HOST = istr("X-Forwarded-Host")
_FORWARDED = web.RequestKey("forwarded", Forwarded)


class Proxies:
    """The proxies that are believed: those in ``networks``."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = networks
        self._known: dict[str, bool] = {}

    def read(self, request: web.BaseRequest) -> str:
        """Keep what a trusted peer says of this request; return the host that it names, empty for none."""
        peer = request.remote or ""
        if not self._trusts(peer):
            return ""
        scheme = _last(request.headers, "X-Forwarded-Proto").lower()
        host = _last(request.headers, FORWARDED_HOST)
        if scheme not in ("http", "https"):
            scheme = ""
        request[_FORWARDED] = Forwarded(self._client(request, peer), scheme, host)
        return host

    def host(self, headers: CIMultiDictProxy[str], peer: str) -> str:
        """Return the host that a trusted peer names, empty for none."""
        return _last(headers, FORWARDED_HOST) if self._trusts(peer) else ""

    def _client(self, request: web.BaseRequest, peer: str) -> str:
        hops = ",".join(request.headers.getall(FORWARDED_FOR, ())).split(",")
        client = peer
        for hop in reversed(hops[-MOST_HOPS:]):
            address = address_of(hop.strip())
            if address is None:  # nobody who is trusted has written this
                break
            client = str(address)
            if not self._trusts(client):
                break
        return client

    def _trusts(self, peer: str) -> bool:
        known = self._known.get(peer)
        if known is None:
            address = address_of(peer)
            known = address is not None and any(address in network for network in self._networks)
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[peer] = known
        return known


def set_forwarded(request: web.BaseRequest, forwarded: Forwarded) -> None:
    """Keep what another node says of a request; its ``X-Forwarded-For`` makes us look."""
    request[_FORWARDED] = forwarded


def client_of(request: web.BaseRequest) -> str:
    """The address that a request comes from: of the client of the proxy, where one is trusted."""
    if FORWARDED_FOR not in request.headers:  # so it is most often, and a look at what is kept costs more
        return request.remote or ""
    forwarded = request.get(_FORWARDED)
    return request.remote or "" if forwarded is None else forwarded.client


def origin_of(request: web.BaseRequest) -> str:
    """Scheme and host that the client has used: ``https://bridge.example.com``."""
    forwarded = request.get(_FORWARDED)
    if forwarded is None:
        return f"{request.scheme}://{request.host}"
    return f"{forwarded.scheme or request.scheme}://{forwarded.host or request.host}"


def is_forwarded(request: web.BaseRequest) -> bool:
    """Whether a trusted proxy says which scheme or host the client has used."""
    forwarded = request.get(_FORWARDED)
    return forwarded is not None and bool(forwarded.scheme or forwarded.host)


def address_of(text: str) -> Address | None:
    """Read an address, with or without port and brackets; None for what is none."""
    host = text.partition("]")[0][1:] if text.startswith("[") else text
    if host.count(":") == 1:  # a port behind an IPv4 address
        host = host.partition(":")[0]
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _last(headers: CIMultiDictProxy[str], header: str) -> str:
    values = headers.getall(header, None)
    return "" if values is None else values[-1].rpartition(",")[2].strip()
