"""When certificates are read, and what is trusted then."""

from __future__ import annotations

import ssl
import subprocess
import sys

from bridge.remote.certificates import trusted

LOOK = """
import ssl
import bridge.cli.serve
import aiohttp.connector as connector
contexts = [each for each in vars(connector).values() if isinstance(each, ssl.SSLContext)]
print([context.cert_store_stats()["x509"] for context in contexts])
print("set_default_verify_paths" in vars(ssl.SSLContext))
"""


def test_a_start_reads_none() -> None:
    said = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.split("\n")[:2] == ["[0, 0]", "False"]


def test_remote_servers_are_checked_against_the_authorities_of_this_system() -> None:
    usual = ssl.create_default_context()
    assert trusted() is trusted()
    assert trusted().cert_store_stats() == usual.cert_store_stats()
    assert (trusted().verify_mode, trusted().check_hostname) == (ssl.CERT_REQUIRED, True)
