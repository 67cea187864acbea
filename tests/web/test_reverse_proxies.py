"""Behind a real nginx and a real Caddy, with the configurations that we hand out."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from bridge.web import reply
from tests.conftest import ACCEPT, INITIALIZE, Running, StartBridge, events, in_time, last, message, peer, tool

ROOT = Path(__file__).parent.parent.parent
MAIN = """
daemon off; master_process off; pid {folder}/pid; error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    include {folder}/site.conf;
}}
"""
#: Seconds of silence after which a proxy gives up a response, and after which this bridge says something.
PATIENCE, KEEP_ALIVE = 1, 0.3
NAME = "bridge.example.com"


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _changed(text: str, *changes: tuple[str, str]) -> str:
    for written, here in changes:
        assert written in text
        text = text.replace(written, here)
    return text


def _nginx(folder: Path, bridge: str, port: int) -> list[str]:
    """Return the command that runs it with our file, which is changed in where it listens and how patient it is."""
    site = _changed(
        (ROOT / "deploy/nginx.conf").read_text(),
        ("127.0.0.1:3000", bridge),
        ("listen 80;", f"listen 127.0.0.1:{port};"),
        ("proxy_read_timeout 60s;", f"proxy_read_timeout {PATIENCE}s;"),
    )
    (folder / "site.conf").write_text(site)
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder))
    return ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]


def _caddy(folder: Path, bridge: str, port: int) -> list[str]:
    """Without a certificate: the authority that signs one is far away."""
    here = f"http://{NAME}:{port} {{\n\tbind 127.0.0.1"
    site = _changed((ROOT / "deploy/Caddyfile").read_text(), ("127.0.0.1:3000", bridge), ("bridge.example.com {", here))
    (folder / "Caddyfile").write_text(f"{{\n\tadmin off\n\tstorage file_system {folder}/caddy\n}}\n{site}")
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


class Behind(Running):
    """A bridge that is asked through a proxy: ``url`` is that of the proxy."""

    proxy = ""

    @property
    def url(self) -> str:
        return self.proxy


@pytest.fixture(params=[_nginx, _caddy], ids=["nginx", "caddy"])
async def behind(
    request: pytest.FixtureRequest, start_bridge: StartBridge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Behind]:
    monkeypatch.setattr(reply, "KEEP_ALIVE", KEEP_ALIVE)
    bridge = await start_bridge(
        {"peer": peer()}, TRUST_PROXY="true", BASE_PATH="/tools", ALLOWED_HOSTS=NAME, ACCESS_TOKEN="sesame"
    )
    port = _free_port()
    command = request.param(tmp_path, f"127.0.0.1:{URL(bridge.service.url).port}", port)
    assert shutil.which(command[0]), f"{command[0]} is missing; make proxies installs it"
    process = await asyncio.create_subprocess_exec(*command, env={**os.environ, "HOME": str(tmp_path)})
    headers = {"Host": NAME, "Authorization": "Bearer sesame"}
    async with aiohttp.ClientSession(headers=headers) as http:
        found = Behind(bridge.service, http)
        found.proxy = f"http://127.0.0.1:{port}/tools"
        async with in_time():
            while True:
                try:
                    async with http.get(f"{found.url}/health") as response:
                        assert response.status == 200, await response.text()
                        break
                except aiohttp.ClientConnectorError:  # it does not say when it listens
                    assert process.returncode is None
                    await asyncio.sleep(0.02)
        yield found
    process.terminate()
    await process.wait()


async def test_sessions_and_large_bodies_pass(behind: Behind) -> None:
    session = await behind.session()
    text = "x" * 3_000_000
    async with session.post(message("ping", 1)) as response:
        assert (await last(response))["result"] == {}
    content = io.BytesIO(json.dumps(tool("echo", 2, text=text)).encode())
    headers = {"Accept": ACCEPT, "Content-Type": "application/json", "Mcp-Session-Id": session.id}
    async with behind.http.post(session.url, data=content, headers=headers) as response:
        assert (await response.json())["result"] == {"text": text}
    async with session.delete() as response:
        assert response.status == 204


async def test_a_silent_call_outlives_the_patience_of_the_proxy(behind: Behind) -> None:
    session = await behind.session()
    begun = asyncio.get_running_loop().time()
    async with session.post(message("tools/call", 1, name="never")) as response:
        assert response.content_type == "text/event-stream"
        async for line in response.content:
            if line == b": ping\n" and asyncio.get_running_loop().time() > begun + 2 * PATIENCE:
                break
        else:
            pytest.fail("the proxy has ended the call")


async def test_a_get_stream_outlives_it_too_and_passes_each_event_at_once(behind: Behind) -> None:
    session = await behind.session()
    async with session.get() as stream:
        begun = asyncio.get_running_loop().time()
        async for line in stream.content:
            if line == b": ping\n" and asyncio.get_running_loop().time() > begun + 2 * PATIENCE:
                break
        await session.call("list_changed")
        async with in_time():
            assert (await anext(events(stream)))["method"] == "notifications/tools/list_changed"


async def test_urls_that_the_bridge_makes_lead_back_through_the_proxy(behind: Behind) -> None:
    async with behind.http.post(f"{behind.url}/api/v1/sessions", json={"server": "peer"}) as made:
        assert (await made.json())["mcp_url"] == f"http://{NAME}/tools/mcp/peer"
    async with behind.http.get(f"{behind.url}/sse/peer") as stream:
        assert await stream.content.readline() == b"event: endpoint\n"
        where = (await stream.content.readline()).decode().removeprefix("data: ").strip()
        assert where.startswith("/tools/messages/peer?session_id=")
        endpoint = URL(behind.url).join(URL(where))
        async with behind.http.post(endpoint, json=message("initialize", 1, **INITIALIZE)) as response:
            assert response.status == 202
        async with in_time():
            assert (await anext(events(stream)))["result"]["protocolVersion"]


async def test_what_a_client_says_of_itself_does_not_count(behind: Behind) -> None:
    forged = {"X-Forwarded-Host": "localhost", "X-Forwarded-Proto": "https", "X-Forwarded-For": "1.2.3.4"}
    async with behind.http.post(f"{behind.url}/api/v1/sessions", json={"server": "peer"}, headers=forged) as made:
        assert (await made.json())["mcp_url"] == f"http://{NAME}/tools/mcp/peer"
    async with behind.http.get(f"{behind.url}/servers", headers={**forged, "Host": "evil.example"}) as response:
        # Caddy says nothing at all in the name of somebody else, and does not ask the bridge.
        assert response.status == 403 or await response.read() == b""
