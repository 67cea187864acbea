"""TLS of a bridge as users run it: flags, verbs, and the event loop of production."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest

from tests.cli.conftest import Serve, run
from tests.conftest import peer, tool
from tests.web.test_tls import Pair


async def test_verbs_trust_the_certificate_that_the_bridge_shows(
    tmp_path: Path, serve: Serve, http: aiohttp.ClientSession
) -> None:
    pair = Pair(tmp_path, "bridge.example")
    flags = ["--ssl-certfile", str(pair.cert), "--ssl-keyfile", str(pair.key)]
    served = await serve(*flags, servers={"peer": peer()})
    assert served.url.startswith("https://")
    body = tool("echo", 1, text="x" * 900_000)
    async with http.post(
        f"{served.url}/bridge/peer", json=body, ssl=pair.trusting(), server_hostname="bridge.example"
    ) as response:
        assert (await response.json())["result"] == {"text": "x" * 900_000}
    where = ["--port", served.url.rpartition(":")[2]]
    tls = {"SSL_CERTFILE": str(pair.cert), "SSL_KEYFILE": str(pair.key)}
    code, out, err = await run(tmp_path, "servers", "--json", *where, **tls)
    assert (code, err) == (0, "")
    assert json.loads(out)[0]["id"] == "peer"
    pair.renew()  # another certificate than the one that it shows until it has looked
    code, _, err = await run(tmp_path, "servers", *where, **tls)
    assert (code, "CERTIFICATE_VERIFY_FAILED" in err) == (3, True)
    assert "; set SSL_CERTFILE to the certificate that it shows, or to that of its authority\n" in err
    code, _, err = await run(tmp_path, "servers", *where)
    assert (code, "; if it speaks https, set SSL_CERTFILE to its certificate; else start one" in err) == (3, True)
    assert await served.stop() == 0
    served = await serve()
    code, _, err = await run(tmp_path, "servers", "--port", served.url.rpartition(":")[2], **tls)
    assert (code, "; if it speaks http, leave SSL_CERTFILE unset\n" in err) == (3, True)


async def test_a_certificate_that_does_not_name_the_host_is_told_as_that(tmp_path: Path, serve: Serve) -> None:
    pair = Pair(tmp_path, "bridge.example")
    settings = {"SSL_CERTFILE": str(pair.cert), "SSL_KEYFILE": str(pair.key), "ACCESS_TOKEN": "sesame"}
    served = await serve(servers={"peer": peer()}, **settings)
    port = served.url.rpartition(":")[2]
    where = ["--host", "127.1", "--port", port]  # this machine by an address that the certificate has to name
    for verb in ("ps", "restart", "logs"):
        code, out, err = await run(tmp_path, verb, *where, **settings)
        assert (code, out) == (1, ""), err
        assert err.startswith(
            f"mcp-bridge: the certificate of the bridge at https://127.1:{port} does not name 127.1; "
        )
    code, out, err = await run(tmp_path, "doctor", "--no-start", *where, **settings)
    assert (code, err) == (0, "")
    assert f"warning  bridge: a bridge runs at 127.1:{port}, and its certificate does not name 127.1\n" in out
    assert "another program" not in out


async def test_the_bridge_stops_in_time_although_a_client_says_no_farewell(tmp_path: Path, serve: Serve) -> None:
    pair = Pair(tmp_path)
    served = await serve(servers={"peer": peer()}, SSL_CERTFILE=str(pair.cert), SSL_KEYFILE=str(pair.key))
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", int(served.url.rpartition(":")[2]), ssl=pair.trusting(), server_hostname="localhost"
    )
    writer.write(b"GET /sse/peer HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b"200" in await reader.readline()
    writer.transport.pause_reading()  # neither reads nor answers what ends the connection
    async with asyncio.timeout(15):
        assert await served.stop() == 0
    writer.transport.abort()


@pytest.mark.parametrize("verb", ["serve", "check"])
async def test_half_of_the_setting_is_refused(tmp_path: Path, verb: str) -> None:
    code, _, err = await run(tmp_path, verb, SSL_CERTFILE="cert.pem")
    assert code == 2
    assert err == "mcp-bridge: SSL_KEYFILE: is not set; TLS needs both SSL_CERTFILE and SSL_KEYFILE\n"


async def test_what_is_wrong_with_a_certificate_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "servers.json").write_text("{}")
    pair = Pair(tmp_path)
    tls = {"SSL_CERTFILE": str(pair.cert), "SSL_KEYFILE": str(pair.cert)}
    code, out, _ = await run(tmp_path, "check", **tls)
    assert code == 2
    assert f"error: SSL_KEYFILE: {pair.cert} holds no private key" in out
    code, _, err = await run(tmp_path, "serve", "--port", "0", **tls)
    assert code == 1
    assert f"mcp-bridge: SSL_KEYFILE: {pair.cert} holds no private key in the PEM format" in err.splitlines()[-1]
    assert "Traceback" not in err
