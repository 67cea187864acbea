"""``mcp-bridge`` whose lease as a node is as short as ``LEASE`` says, so that tests need not wait for seconds."""

from __future__ import annotations

import os
import sys

from bridge.cli import serve  # noqa: F401 - as mcp-bridge does: what is imported before aiohttp matters
from bridge.cli.main import main
from bridge.cluster.lease import Lease
from bridge.web import peers

if __name__ == "__main__":
    defaults = Lease.__init__.__kwdefaults__
    assert defaults is not None
    defaults["seconds"] = float(os.environ.pop("LEASE"))
    peers.FINDS_ITSELF = 1.0
    sys.exit(main())
