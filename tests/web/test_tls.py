"""TLS: on asyncio's own event loop here, on uvloop in tests/cli/test_tls.py."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import ssl
import warnings
from pathlib import Path

import aiohttp
import pytest
import trustme

from bridge.config.errors import ConfigError
from bridge.web import tls
from bridge.web.tls import Certificate
from tests.conftest import Running, StartBridge, in_time, tool


class Pair:
    """A certificate for localhost and its key, in files."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.names = names or ("localhost", "127.0.0.1")
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"
        self.authority = trustme.CA()
        self.renew()

    def renew(self, authority: trustme.CA | None = None) -> None:
        self.authority = authority or self.authority
        issued = self.authority.issue_cert(*self.names)
        self.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        self.key.write_bytes(issued.private_key_pem.bytes())

    def trusting(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


@pytest.fixture
async def bridge(start_bridge: StartBridge, pair: Pair) -> Running:
    return await start_bridge(SSL_CERTFILE=pair.cert, SSL_KEYFILE=pair.key)


async def _health(bridge: Running, context: ssl.SSLContext) -> int:
    async with aiohttp.ClientSession() as http, http.get(f"{bridge.url}/health", ssl=context) as response:
        return response.status


async def test_calls_and_streams_are_served_over_tls(bridge: Running, pair: Pair) -> None:
    assert bridge.url.startswith("https://")
    url = f"{bridge.url}/bridge/peer"
    connector = aiohttp.TCPConnector(ssl=pair.trusting())
    async with aiohttp.ClientSession(connector=connector) as http:
        for size in (10, 900_000):
            async with http.post(url, json=tool("echo", 1, text="x" * size)) as response:
                assert (await response.json())["result"] == {"text": "x" * size}
        async with http.get(f"{bridge.url}/sse/peer") as stream:
            assert await stream.content.readline() == b"event: endpoint\n"
        async with http.post(f"{bridge.url}/api/v1/sessions", json={"server": "peer"}) as made:
            assert (await made.json())["mcp_url"] == f"{bridge.url}/mcp/peer"


async def test_nothing_below_tls_1_2_is_spoken(bridge: Running, pair: Pair) -> None:
    context = pair.trusting()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore"):  # it is that old
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(aiohttp.ClientConnectorError):
        await _health(bridge, context)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert await _health(bridge, context) == 200


async def test_plain_http_gets_no_answer_and_harms_nobody(
    bridge: Running, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(bridge.url.rpartition(":")[2]))
    writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert not (await reader.read()).startswith(b"HTTP")
    writer.close()
    assert await _health(bridge, pair.trusting()) == 200
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def _settled(certificate: Certificate) -> None:
    certificate.look()
    certificate.look()


async def test_a_renewed_certificate_is_used_without_a_restart(
    start_bridge: StartBridge, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "LOOK", 0.01)
    bridge = await start_bridge(SSL_CERTFILE=pair.cert, SSL_KEYFILE=pair.key)
    old = pair.trusting()
    assert await _health(bridge, old) == 200
    pair.renew(trustme.CA())
    async with in_time():
        while True:
            with contextlib.suppress(aiohttp.ClientConnectorCertificateError):
                assert await _health(bridge, pair.trusting()) == 200
                break
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        await _health(bridge, old)


@pytest.mark.parametrize("broken", ["key of another", "certificate of another", "no PEM", "gone"])
async def test_a_broken_pair_leaves_the_one_of_before_and_is_one_error(
    bridge: Running, pair: Pair, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    context = pair.trusting()
    if broken == "key of another":
        pair.key.write_bytes(trustme.CA().issue_cert("localhost").private_key_pem.bytes())
    elif broken == "certificate of another":
        pair.cert.write_bytes(trustme.CA().issue_cert("localhost").cert_chain_pems[0].bytes())
    elif broken == "no PEM":
        pair.cert.write_text("hello")
    else:
        pair.key.unlink()
    assert bridge.service._certificate is not None
    _settled(bridge.service._certificate)
    _settled(bridge.service._certificate)
    [error] = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert "the certificate of before stays in use" in error
    assert await _health(bridge, context) == 200
    pair.renew()
    _settled(bridge.service._certificate)
    assert await _health(bridge, pair.trusting()) == 200


async def test_half_of_a_new_pair_is_not_looked_at(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    certificate = Certificate(pair.cert, pair.key)
    key = pair.key.read_bytes()
    pair.renew()
    new, _ = pair.key.read_bytes(), pair.key.write_bytes(key)
    certificate.look()  # the new certificate beside the old key: it has only just changed
    pair.key.write_bytes(new)
    _settled(certificate)
    assert [record.levelname for record in caplog.records if record.levelno > logging.INFO] == []


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda pair: pair.cert.unlink(), r"SSL_CERTFILE: .*cert.pem cannot be read: No such file"),
        (lambda pair: pair.key.unlink(), r"SSL_KEYFILE: .*key.pem cannot be read: No such file"),
        (lambda pair: (pair.key.unlink(), pair.key.mkdir()), r"SSL_KEYFILE: .*key.pem cannot be read: Is a directory"),
        (lambda pair: pair.cert.write_text("x"), r"SSL_CERTFILE: .*cert.pem holds no certificate"),
        (lambda pair: shutil.copy(pair.cert, pair.key), r"SSL_KEYFILE: .*key.pem holds no private key"),
        (
            lambda pair: pair.key.write_bytes(trustme.CA().issue_cert("localhost").private_key_pem.bytes()),
            r"SSL_KEYFILE: .*key.pem is not the key of the certificate in SSL_CERTFILE, .*cert.pem",
        ),
        (
            lambda pair: pair.cert.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            r"cert.pem and SSL_KEYFILE: .*cannot be used",
        ),
    ],
)
def test_what_cannot_be_used_is_said_with_its_path(pair: Pair, spoil: object, words: str) -> None:
    assert callable(spoil)
    spoil(pair)
    with pytest.raises(ConfigError, match=words):
        Certificate(pair.cert, pair.key)


def test_nobody_is_asked_for_a_password(pair: Pair) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    secret = serialization.BestAvailableEncryption(b"sesame")
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    pair.key.write_bytes(key.private_bytes(*form, secret))
    with pytest.raises(ConfigError, match=r"key\.pem is encrypted"):
        Certificate(pair.cert, pair.key)
