"""Nodes that reach each other by https."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme

from tests.nodes.conftest import SLOW, Nodes

pytestmark = SLOW


async def test_nodes_check_each_others_certificates(nodes: Nodes, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    pair = authority.issue_cert("127.0.0.1")
    pair.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "pair.pem"))
    nodes.trust = ssl.create_default_context(cafile=str(tmp_path / "authority.pem"))
    both = {"SSL_CERTFILE": str(tmp_path / "pair.pem"), "SSL_KEYFILE": str(tmp_path / "pair.pem")}
    a, b = await nodes.start_all("ab", SSL_CERT_FILE=str(tmp_path / "authority.pem"), **both)
    session = await a.session()
    assert (await b.at(session).call("echo", n=1))["result"] == {"n": 1}
