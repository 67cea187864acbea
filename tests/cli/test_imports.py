"""What is loaded before the bridge listens: nothing that only some need, because everyone waits and pays for it."""

from __future__ import annotations

import json
import subprocess
import sys

#: What the bridge is made of, and what aiohttp is made of.
PACKAGES = {
    *("aiohttp", "aiohappyeyeballs", "aiosignal", "attr", "frozenlist", "idna", "multidict", "propcache", "yarl"),
    *("dotenv", "msgspec", "psutil", "typing_extensions", "uvloop"),
    *("brotli", "brotlicffi", "aiodns", "pycares"),  # aiohttp takes these where they are installed
}
#: Parts of the standard library that take long to load, or much memory.
HEAVY = {
    *("multiprocessing", "concurrent.futures.process", "sqlite3", "ctypes", "unittest", "pydoc", "pdb", "doctest"),
    *("xml.etree.ElementTree", "xml.sax", "http.server", "xmlrpc", "tkinter", "importlib.metadata", "zoneinfo"),
}
LIST = """
import json, sys
before = set(sys.modules)
import bridge.cli.main, bridge.cli.serve
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def test_only_what_everyone_needs_is_imported_at_the_start() -> None:
    done = subprocess.run([sys.executable, "-c", LIST], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    packages = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names - {"bridge"}
    ours = {name for name in packages if "cython" not in name}
    assert ours <= PACKAGES, "import them where they are used"
    assert not loaded & HEAVY
    assert "bridge.web.app" in loaded
