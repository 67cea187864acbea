"""What is installed only where it is wanted."""

from __future__ import annotations

from importlib.util import find_spec

from bridge.config.errors import ConfigError
from bridge.config.settings import Settings


def check_extras(settings: Settings) -> None:
    """Raise :class:`ConfigError` when a setting wants something that is not installed, saying how to get it."""
    if settings.oauth_issuer is not None and not (find_spec("jwt") and find_spec("cryptography")):
        raise ConfigError(
            "OAUTH_ISSUER: needs PyJWT and cryptography; install them with: pip install 'mcp-stdio-bridge[oauth]'"
        )
