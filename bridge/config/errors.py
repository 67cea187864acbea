"""A mistake in the configuration, as one line that names file, key, value seen and value wanted."""

from __future__ import annotations


class ConfigError(Exception):
    """The configuration cannot be used. The command line ends with exit code 2 and prints only this text."""


class NoServersFile(ConfigError):
    """There is no file of servers."""
