"""The ways to a remote server: TLS, certificates, and proxies of the environment."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme

from tests.conftest import INITIALIZE, Running, Session, StartBridge, last, message
from tests.interop.conftest import NO_PROXY, Bridge
from tests.modern_client import ModernClient

FAR = "far.example"  # a name that only the proxy knows
PASSWORD = "pa55word"
PROXY_SETTINGS = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on to the end of one direction."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except (OSError, NotImplementedError):
        writer.close()


async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, first: bytes = b"") -> None:
    """Connect two sides."""
    far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
    far_writer.write(first)
    await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))
    far_writer.close()


@asynccontextmanager
async def serving(serve: Serve, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Take connections; yield the port."""
    tasks: set[asyncio.Task[None]] = set()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.close()

    def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(run(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(take, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass
class Proxy:
    """A forward proxy to one port, whatever host is asked for. ``answer`` is what it refuses with."""

    to: int
    answer: bytes = b""
    seen: list[str] = field(default_factory=list)
    passwords: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        line, *headers = head.split("\r\n")
        self.seen.append(line)
        given = [header.partition(" Basic ")[2] for header in headers if header.lower().startswith("proxy-auth")]
        self.passwords += [base64.b64decode(each).decode() for each in given]
        if self.answer:
            writer.write(self.answer)
        elif line.startswith("CONNECT"):
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await relay(reader, writer, self.to)
        else:  # a plain request, of which each connection carries one here
            method, target, version = line.split(" ")
            path = "/" + target.split("/", 3)[3]
            kept = [f"{method} {path} {version}", *(each for each in headers if not each.startswith("Proxy-"))]
            await relay(reader, writer, self.to, "\r\n".join(kept).encode())


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set the proxy settings of this process, and no others."""

    def set_(**settings: str) -> None:
        for name in PROXY_SETTINGS:
            for each in (name, name.lower()):
                monkeypatch.delenv(each, raising=False)
        for name, value in settings.items():
            monkeypatch.setenv(name, value)

    return set_


Environment = Callable[..., None]


async def away(start_bridge: StartBridge) -> tuple[Running, int]:
    """A bridge that is called by the name of the far host, and its port."""
    running = await start_bridge(ALLOWED_HOSTS=f"{FAR},localhost,127.0.0.1")
    return running, int(running.url.rpartition(":")[2])


async def error_of(near: Running, server: str = "far") -> str:
    async with near.post(f"/mcp/{server}", message("initialize", 1, **INITIALIZE)) as response:
        assert response.status == 200
        return str((await response.json())["error"]["message"])


# Proxies


async def test_http_goes_through_the_proxy_of_the_environment(
    start_bridge: StartBridge, environment: Environment
) -> None:
    _, port = await away(start_bridge)
    proxy = Proxy(port)
    async with serving(proxy.serve) as proxy_port:
        environment(HTTP_PROXY=f"http://me:{PASSWORD}@127.0.0.1:{proxy_port}")
        near = await start_bridge({"far": {"url": f"http://{FAR}/mcp/peer"}})
        session = await near.session("far")
        assert (await session.call("echo", a=1))["result"] == {"a": 1}
        assert (await ModernClient(near, "far").call("echo", a=2))["result"]["a"] == 2
        await near.service.stop()
    assert f"POST http://{FAR}/mcp/peer HTTP/1.1" in proxy.seen
    assert set(proxy.passwords) == {f"me:{PASSWORD}"}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_what_runs_on_this_machine_is_not_asked_through_a_proxy(
    start_bridge: StartBridge, environment: Environment, host: str
) -> None:
    _, port = await away(start_bridge)
    proxy = Proxy(port)
    async with serving(proxy.serve) as proxy_port:
        environment(HTTP_PROXY=f"http://127.0.0.1:{proxy_port}")
        near = await start_bridge({"far": {"url": f"http://{host}:{port}/mcp/peer"}})
        assert "result" in await (await near.session("far")).call("echo")
    assert proxy.seen == []


@pytest.mark.parametrize("exception", ["far.invalid", ".invalid", "other.example, far.invalid:8080", "*"])
async def test_no_proxy_names_hosts_that_are_asked_directly(
    start_bridge: StartBridge, environment: Environment, exception: str
) -> None:
    proxy = Proxy(0)
    async with serving(proxy.serve) as proxy_port:
        environment(HTTP_PROXY=f"http://127.0.0.1:{proxy_port}", NO_PROXY=exception)
        near = await start_bridge({"far": {"url": "http://far.invalid:8080/mcp"}})
        assert "cannot be reached at http://far.invalid:8080: its name is not known" in await error_of(near)
    assert proxy.seen == []


async def test_no_proxy_for_another_port_is_none_for_this_one(
    start_bridge: StartBridge, environment: Environment
) -> None:
    _, port = await away(start_bridge)
    proxy = Proxy(port)
    async with serving(proxy.serve) as proxy_port:
        environment(HTTP_PROXY=f"http://127.0.0.1:{proxy_port}", NO_PROXY=f"{FAR}:8080")
        near = await start_bridge({"far": {"url": f"http://{FAR}/mcp/peer"}})
        assert "result" in await (await near.session("far")).call("echo")
        await near.service.stop()
    assert proxy.seen


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(("status", "phrase"), [(407, "Proxy Authentication Required"), (502, "Bad Gateway")])
async def test_a_proxy_that_refuses_is_told_in_plain_words_and_without_its_password(
    start_bridge: StartBridge,
    environment: Environment,
    caplog: pytest.LogCaptureFixture,
    scheme: str,
    status: int,
    phrase: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    answer = f"HTTP/1.1 {status} {phrase}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
    async with serving(Proxy(0, answer).serve) as port:
        environment(**{f"{scheme.upper()}_PROXY": f"http://me:{PASSWORD}@127.0.0.1:{port}"})
        near = await start_bridge({"far": {"url": f"{scheme}://{FAR}/mcp"}})
        said = await error_of(near)
    refused = f"the proxy does not let us through (HTTP {status} {phrase})"
    assert (refused if scheme == "https" else f"answered HTTP {status} {phrase}") in said
    assert PASSWORD not in said + caplog.text


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_is_not_there_is_told_in_plain_words(
    start_bridge: StartBridge, environment: Environment, caplog: pytest.LogCaptureFixture, scheme: str
) -> None:
    async with serving(Proxy(0).serve) as port:
        pass
    environment(**{f"{scheme.upper()}_PROXY": f"http://me:{PASSWORD}@127.0.0.1:{port}"})
    near = await start_bridge({"far": {"url": f"{scheme}://{FAR}/mcp"}})
    said = await error_of(near)
    assert "the proxy cannot be reached" in said
    assert PASSWORD not in said + caplog.text


@pytest.mark.parametrize("setting", ["http://127.0.0.1:{port}", "127.0.0.1:{port}", "all"])
async def test_a_proxy_may_be_written_in_short(
    start_bridge: StartBridge, environment: Environment, setting: str
) -> None:
    _, port = await away(start_bridge)
    proxy = Proxy(port)
    async with serving(proxy.serve) as proxy_port:
        address = f"127.0.0.1:{proxy_port}"
        environment(**({"ALL_PROXY": address} if setting == "all" else {"HTTP_PROXY": setting.format(port=proxy_port)}))
        near = await start_bridge({"far": {"url": f"http://{FAR}/mcp/peer"}})
        assert "result" in await (await near.session("far")).call("echo")
        await near.service.stop()
    assert proxy.seen


async def test_a_proxy_of_another_kind_is_told_and_not_used(
    start_bridge: StartBridge, environment: Environment
) -> None:
    environment(HTTP_PROXY=f"socks5://me:{PASSWORD}@127.0.0.1:1080")
    near = await start_bridge({"far": {"url": f"http://{FAR}/mcp/peer"}})
    said = await error_of(near)
    assert "the environment names a proxy of socks5://, which must be one of http://" in said
    assert PASSWORD not in said


# TLS. What is trusted is read when a process starts, so the bridge that asks is one of its own.


def context_for(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


class Client:
    """A client of a bridge in another process."""

    def __init__(self, bridge: Bridge, http: aiohttp.ClientSession) -> None:
        self._bridge = bridge
        self._http = http

    async def greet(self, server: str) -> tuple[Session, dict[str, Any]]:
        url = f"{self._bridge.url}/mcp/{server}"
        headers = {"Accept": "application/json, text/event-stream"}
        async with self._http.post(url, json=message("initialize", 0, **INITIALIZE), headers=headers) as response:
            answer = await last(response)
            return Session(self._http, url, response.headers.get("Mcp-Session-Id", ""), answer), answer


@asynccontextmanager
async def bridge_of_its_own(
    folder: Path, urls: dict[str, str], environ: dict[str, str]
) -> AsyncIterator[tuple[Client, Bridge]]:
    none: dict[str, str | None] = {each: None for name in PROXY_SETTINGS for each in (name, name.lower())}
    entries = {server: {"url": url} for server, url in urls.items()}
    bridge = await asyncio.to_thread(Bridge.start, folder, entries, {**none, **environ})
    try:
        async with aiohttp.ClientSession() as http:
            yield Client(bridge, http), bridge
        assert await asyncio.to_thread(bridge.stop) == 0
    finally:
        bridge.kill()
    assert "Traceback" not in bridge.log
    assert PASSWORD not in bridge.log


@pytest.mark.slow
async def test_certificates_are_those_of_ssl_cert_file_through_a_proxy_and_without(
    start_bridge: StartBridge, tmp_path: Path
) -> None:
    _, port = await away(start_bridge)
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")

    async def to_away(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await relay(reader, writer, port)

    async with (
        serving(to_away, context_for(authority, "localhost", FAR)) as good,
        serving(to_away, context_for(authority, "other.example")) as misnamed,
        serving(to_away, context_for(stranger, "localhost")) as unknown,
        serving(to_away) as plain,
    ):
        proxy = Proxy(good)
        async with serving(proxy.serve) as proxy_port:
            ports = {"good": good, "misnamed": misnamed, "unknown": unknown, "plain": plain}
            urls = {name: f"https://localhost:{each}/mcp/peer" for name, each in ports.items()}
            environ = {
                **NO_PROXY,
                "HTTPS_PROXY": f"http://me:{PASSWORD}@127.0.0.1:{proxy_port}",
                "SSL_CERT_FILE": str(tmp_path / "ca.pem"),
            }
            urls["proxied"] = f"https://{FAR}/mcp/peer"
            async with bridge_of_its_own(tmp_path, urls, environ) as (client, _):
                for server in ("good", "proxied"):
                    session, answer = await client.greet(server)
                    assert "result" in answer, answer
                    assert answer["result"]["serverInfo"]["name"] == "peer", answer
                    assert (await session.call("echo", a=1))["result"] == {"a": 1}
                    async with session.delete() as response:
                        assert response.status == 204
                for server, why in {
                    "misnamed": "its certificate is not accepted (Hostname mismatch",
                    "unknown": "its certificate is not accepted (unable to get local issuer certificate)",
                    "plain": "TLS failed",
                }.items():
                    _, answer = await client.greet(server)
                    said = answer["error"]["message"]
                    assert f"cannot be reached at https://localhost:{ports[server]}: {why}" in said
    assert set(proxy.seen) == {f"CONNECT {FAR}:443 HTTP/1.1"}, "and nothing in clear"
    assert set(proxy.passwords) == {f"me:{PASSWORD}"}
