"""The address of this bridge, as the client of a request sees it. Every absolute URL of ours begins with it."""

from __future__ import annotations

from collections.abc import Container

from aiohttp import web

from bridge.web.proxy import is_forwarded, origin_of


def base_url(request: web.BaseRequest, base: str) -> str:
    """Return scheme, host and ``BASE_PATH``, without a slash at the end."""
    return f"{origin_of(request).lower()}{base}"


def below(path: str, base: str) -> str:
    """Return a path without the ``BASE_PATH`` that may stand before it: ``/mcp`` does not stand below ``/m``."""
    return path[len(base) :] if path.startswith(f"{base}/") else path


def is_known(request: web.BaseRequest, hosts: Container[str]) -> bool:
    """Whether the address that the client has used is this bridge's: one of ``hosts``, or one with the port on which
    the request came in; or with the port of its scheme, where a trusted proxy names it.

    Under a name of this machine guards let in any port, for one that is mapped to ours; any other program has one too.
    """
    scheme, _, host = origin_of(request).lower().partition("://")
    if host in hosts or without_port(host) in hosts:
        return True
    port = port_of(scheme, host)
    return port == _own_port(request) or (is_forwarded(request) and port == port_of(scheme, ""))


def without_port(host: str) -> str:
    """The name of a host; with what is behind it, where that is no port."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() and port.isascii() else host


def port_of(scheme: str, host: str) -> str:
    """The port of a host, where it has none that of its scheme."""
    name = without_port(host)
    return host[len(name) + 1 :] or ("443" if scheme == "https" else "80")


def _own_port(request: web.BaseRequest) -> str:
    """The port on which a request came in, empty for none."""
    transport = request.transport
    name = None if transport is None else transport.get_extra_info("sockname")
    return str(name[1]) if isinstance(name, tuple) else ""
