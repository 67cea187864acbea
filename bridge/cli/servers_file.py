"""The servers file as verbs change it: read, changed as text, checked as the bridge would, replaced at once."""

from __future__ import annotations

import argparse
import codecs
from collections.abc import Callable, Collection

from bridge.cli.errors import CommandError, UsageError
from bridge.cli.options import settings_of
from bridge.config.files import locked, replace_file
from bridge.config.servers import Servers, parse_servers
from bridge.config.text import printable

EMPTY = '{\n  "mcpServers": {}\n}\n'


def change(options: argparse.Namespace, edit: Callable[[str, str], str], added: Collection[str] = ()) -> Servers:
    """Write what ``edit`` makes of text and source; return what the bridge makes of that.

    Raises :class:`bridge.config.errors.ConfigError` of ``edit``, and :class:`UsageError` where the bridge could not use
    one of ``added``; nothing is written then.
    """
    settings, environ = settings_of(options)
    if settings.servers_inline is not None and options.config is None:
        raise UsageError("MCP_SERVERS holds the servers, and no file; name one by --config, or unset MCP_SERVERS")
    path = settings.servers_file
    try:
        with locked(path):
            data = path.read_bytes() if path.exists() else EMPTY.encode()
            bom = codecs.BOM_UTF8 if data.startswith(codecs.BOM_UTF8) else b""
            text = edit(data[len(bom) :].decode(), str(path))
            servers = parse_servers(text, str(path), environ, base=path.parent)
            names = {printable(name) for name in added}
            if problem := next((each for each in servers.problems if each.fatal and each.server in names), None):
                raise UsageError(f"{problem.text}; nothing was written")
            replace_file(path, bom + text.encode())
    except UnicodeDecodeError as error:
        raise CommandError(f"{path}: is not UTF-8: {error.reason}") from None
    except OSError as error:
        raise CommandError(f"{path}: cannot be changed: {error.strerror}") from None
    return servers
