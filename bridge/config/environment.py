"""What a child gets from our environment: enough to work, none of our own secrets.

PATH, proxy and CA variables missing in the child is what users of other bridges stumble over (users' scar 25), and the
whole environment passed on is how tokens leak. So: a list of harmless names by default.
"""

from __future__ import annotations

from collections.abc import Mapping

SAFE_NAMES = frozenset(
    (
        *("HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER", "LANG", "TZ", "TMPDIR", "TMP", "TEMP"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
        *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "PIP_CERT"),
        *("SYSTEMROOT", "COMSPEC", "PATHEXT", "APPDATA", "LOCALAPPDATA", "USERPROFILE", "PROGRAMFILES", "PROGRAMDATA"),
    )
)
#: Settings of ours that no child ever inherits, not even with ``inheritEnv: all``.
OUR_SECRETS = frozenset(
    (
        *("ACCESS_TOKEN", "AUTH_TOKEN", "MCP_BRIDGE_TOKEN", "TOKENS_FILE", "MCP_SERVERS", "REDIS_URL"),
        *("CLUSTER_KEY", "OAUTH_CLIENT_SECRET"),
        *("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"),  # keys of whoever takes the traces
    )
)

Inherit = str | tuple[str, ...]


def is_our_secret(name: str, value: str, ours: Mapping[str, str]) -> bool:
    """Whether a variable is one of our secrets, and not one of the same name that is meant for a server."""
    return name in OUR_SECRETS and ours.get(name) == value


def inherited(inherit: Inherit, ours: Mapping[str, str]) -> dict[str, str]:
    """Return the part of our environment that a child inherits: ``safe``, ``all``, or the safe names and a list."""
    if inherit == "all":
        return {name: value for name, value in ours.items() if name not in OUR_SECRETS}
    extra = () if isinstance(inherit, str) else inherit
    wanted = (SAFE_NAMES | set(extra)) - OUR_SECRETS
    return {name: value for name, value in ours.items() if name in wanted or name.startswith("LC_")}
