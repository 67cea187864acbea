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

FIXTURE = Path(__file__).parent.parent / "peers" / "conformance_server.py"

#: Seconds to start, to stop, or to answer ``initialize``.
PATIENCE = 30.0
#: What the client of the suite asks for, whatever version it is run for.
ASKED_FOR = "2025-11-25"


@asynccontextmanager
async def serve_control(version: str, folder: Path) -> AsyncIterator[str]:
    """The URL of the fixture, served by its SDK."""
    async with _listening(folder, str(FIXTURE), "--http", "0", "--newest", version) as url:
        await _check_negotiation(url, version)
        yield url


@asynccontextmanager
async def serve_bridge(versions: Iterable[str], folder: Path) -> AsyncIterator[dict[str, str]]:
    """The URL of the fixture in the bridge, for each version. ``folder`` gets the bridge's logs."""
    config = folder / "servers.json"
    config.write_text(json.dumps({"mcpServers": {version: _entry(version) for version in versions}}))
    async with _listening(folder, "-m", "bridge", "serve", "-c", str(config), "--port", "0") as url:
        urls = {version: f"{url}/mcp/{version}" for version in versions}
        for version in versions:
            await _check_negotiation(urls[version], version)
        yield urls


def _entry(version: str) -> dict[str, Any]:
    return {"command": sys.executable, "args": [str(FIXTURE), "--newest", version]}


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
    """Make sure that the suite will really speak the version it is run for."""
    params = {"protocolVersion": ASKED_FOR, "capabilities": {}, "clientInfo": {"name": "conformance", "version": "1"}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    headers = {"Accept": "application/json, text/event-stream"}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(PATIENCE)) as http:
        async with http.post(url, json=body, headers=headers) as response:
            answer = await response.text()
            session = response.headers.get("Mcp-Session-Id", "")
        async with http.delete(url, headers={"Mcp-Session-Id": session}):
            pass
    messages = [line.removeprefix("data: ") for line in answer.splitlines() if '"result"' in line]
    if not messages or json.loads(messages[-1])["result"]["protocolVersion"] != version:
        raise RuntimeError(f"{url} does not agree on {version}: {answer}")
