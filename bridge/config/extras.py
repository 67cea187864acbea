"""What is installed only where it is wanted."""

from __future__ import annotations

from importlib.util import find_spec

from bridge.config.errors import ConfigError
from bridge.config.settings import HTTP_PROTOBUF, Settings


def how(extra: str) -> str:
    """Return the command that installs an extra."""
    return f"pip install '.[{extra}]' in the folder of the bridge"


def check_extras(settings: Settings) -> None:
    """Raise :class:`ConfigError` when a setting wants something that is not installed, saying how to get it."""
    if settings.oauth_issuer is not None and not (find_spec("jwt") and find_spec("cryptography")):
        raise ConfigError(f"OAUTH_ISSUER: needs PyJWT and cryptography; install them with: {how('oauth')}")


def untraced(settings: Settings) -> str:
    """Say why there are no traces although they are wanted; empty where there are, or nobody wants any.

    No reason not to start: such variables are often set for all programs of a machine.
    """
    if not settings.wants_traces:
        return ""
    if settings.otlp_protocol != HTTP_PROTOBUF:
        return (
            f"OTEL_EXPORTER_OTLP_PROTOCOL is {settings.otlp_protocol[:40]!r}: no traces, because the bridge sends "
            f"{HTTP_PROTOBUF} only; set it to that, and the endpoint to its port (4318 of most collectors)"
        )
    if not (settings.otlp_endpoint or "").lower().startswith(("http://", "https://")):  # not shown: keys may be in it
        return (
            "OTEL_EXPORTER_OTLP_ENDPOINT has no http:// or https:// in front: no traces; set it to an address such as "
            "http://localhost:4318"
        )
    if not (_is_there("opentelemetry.sdk") and _is_there("opentelemetry.exporter.otlp.proto.http")):
        return (
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed: no traces; install it with: "
            f"{how('otel')}"
        )
    return ""


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a package above it
        return False
