"""What the suite talks to: the fixture behind its SDK's own HTTP, and the same fixture over stdio behind the bridge."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from bridge.config.settings import setting_names
from bridge.protocol.modern import CAPABILITIES, DISCOVER, VERSION
from bridge.protocol.versions import LATEST_HANDSHAKE, MODERN_VERSION

FIXTURE = Path(__file__).parent.parent / "peers" / "conformance_server.py"

#: Seconds to start, to stop, or to answer ``initialize``.
PATIENCE = 30.0

#: What the fixture is told for each kind of child behind the bridge: the eras that it knows.
CHILDREN: dict[str, list[str]] = {
    "both eras": [],
    "modern only": ["--era", "modern"],
    "handshake only": ["--era", "handshake"],
}


@asynccontextmanager
async def serve_control(version: str, folder: Path) -> AsyncIterator[str]:
    """The URL of the fixture, served by its SDK."""
    async with _listening(folder, str(FIXTURE), "--http", "0", *_offering(version)) as url:
        await _check_negotiation(url, version)
        yield url


@asynccontextmanager
async def serve_bridge(targets: Iterable[tuple[str, str]], folder: Path) -> AsyncIterator[dict[tuple[str, str], str]]:
    """The URL of the fixture in the bridge, for each version of the protocol and kind of child.

    ``folder`` gets the bridge's logs.
    """
    ids = {(version, child): f"{version} {child}".replace(" ", "-") for version, child in targets}
    config = folder / "servers.json"
    config.write_text(json.dumps({"mcpServers": {id_: _entry(*target) for target, id_ in ids.items()}}))
    async with _listening(folder, "-m", "bridge", "serve", "-c", str(config), "--port", "0") as url:
        urls = {target: f"{url}/mcp/{id_}" for target, id_ in ids.items()}
        for (version, _), each in urls.items():
            await _check_negotiation(each, version)
        yield urls


def _entry(version: str, child: str) -> dict[str, Any]:
    return {"command": sys.executable, "args": [str(FIXTURE), *_offering(version), *CHILDREN[child]]}


def _offering(version: str) -> list[str]:
    """What makes the fixture end ``initialize`` with a version; the modern one is agreed on in each request."""
    return [] if version == MODERN_VERSION else ["--newest", version]


@asynccontextmanager
async def _listening(folder: Path, *arguments: str) -> AsyncIterator[str]:
    """Run a Python program that says ``listens on URL``, from that line on until the block ends."""
    settings = setting_names()
    environ = {name: value for name, value in os.environ.items() if name not in settings}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=folder,  # no .env of this checkout
        env={**environ, "LOG_DIR": str(folder)},
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    said: list[str] = []
    try:
        async with asyncio.timeout(PATIENCE):
            async for line in process.stderr:
                said.append(line.decode(errors="replace"))
                if " listens on http" in f" {said[-1]}":
                    break
            else:
                raise RuntimeError(f"it did not start: {arguments}\n{''.join(said)}")
        reader = asyncio.create_task(process.stderr.read())  # a full pipe would stop it
        yield said[-1].split()[-1]
        process.terminate()
        async with asyncio.timeout(PATIENCE):
            await reader
            await process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _check_negotiation(url: str, version: str) -> None:
    """Make sure that the suite will really speak the version it is run for.

    The client of the suite asks for the latest handshake version, unless it is run for the modern one.
    """
    modern = version == MODERN_VERSION
    method = DISCOVER if modern else "initialize"
    params = (
        {"_meta": {VERSION: version, CAPABILITIES: {}}}
        if modern
        else {"protocolVersion": LATEST_HANDSHAKE, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    )
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    headers = {"Accept": "application/json, text/event-stream"}
    if modern:
        headers |= {"MCP-Protocol-Version": version, "Mcp-Method": method}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(PATIENCE)) as http:
        async with http.post(url, json=body, headers=headers) as response:
            answer = await response.text()
            session = response.headers.get("Mcp-Session-Id")
        if session is not None:
            async with http.delete(url, headers={"Mcp-Session-Id": session}):
                pass
    results = [json.loads(line.removeprefix("data: ")) for line in answer.splitlines() if '"result"' in line]
    result = results[-1]["result"] if results else {}
    if version not in (result.get("protocolVersion"), *result.get("supportedVersions", ())):
        raise RuntimeError(f"{url} does not agree on {version}: {answer}")
