"""``python docs/make_screens.py``: the pictures of docs/page.md, of a real bridge in a real browser."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import aiohttp
from playwright.async_api import Browser, Page, async_playwright

sys.path.insert(0, str(Path(__file__).parent.parent))

from bridge.config.servers import parse_servers
from bridge.config.settings import read_settings
from bridge.observe.logs import Logs
from bridge.web.app import Service
from tests.conftest import Running, Session, peer

HERE = Path(__file__).parent
DEMO = {"command": sys.executable, "args": ["-m", "bridge.demo"], "description": "echo, add, count, slow, greet"}
TIME = {"command": sys.executable, "args": ["-m", "mcp_server_time"], "description": "time, and time zones"}
BROKEN = peer(description="fails again and again", restartDelay=60_000)
SERVERS = {"demo": DEMO, "time": {**TIME, "sessionTtlMs": 1_800_000}, "tickets": BROKEN, "files": peer(disabled=True)}


async def traffic(sessions: list[Session]) -> None:
    """Call now more, now less, until cancelled."""
    number = 0
    while True:
        number += 1
        busy = 1 + (number * 7) % 11
        await asyncio.gather(*(each.call("echo", id_, text="hi") for each in sessions for id_ in range(busy)))
        await asyncio.sleep(0.15)


async def visit(browser: Browser, url: str, **options: Any) -> Page:
    """Open the page and wait until it is live."""
    page = await browser.new_page(**options)
    await page.goto(url)
    await page.locator("#link[data-state=live]").wait_for()
    return page


async def main() -> None:
    """Run a bridge with something to see, and look."""
    with tempfile.TemporaryDirectory() as folder, Logs("WARNING", Path(folder), "text") as logs:
        settings = read_settings({"PORT": "0", "LOG_DIR": folder})
        servers = parse_servers(json.dumps(SERVERS), "servers.json", {})
        service = Service(settings, servers, logs.stderr_sink)
        await service.start()
        bridge = Running(service, aiohttp.ClientSession())
        for _ in range(5):
            session = await bridge.session("tickets")
            await session.call("die")
        sessions = [await bridge.session("demo") for _ in range(3)]
        await bridge.session("time")
        await bridge.bridge_call("time", "tools/list")
        calling = asyncio.create_task(traffic(sessions[:2]))
        async with async_playwright() as playwright:
            options = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
            found = shutil.which("chromium") or shutil.which("google-chrome")
            browser = await playwright.chromium.launch(executable_path=found, args=options)
            wide = {"width": 1280, "height": 760}
            light = await visit(browser, service.url, viewport=wide)
            dark = await visit(browser, service.url, viewport=wide, color_scheme="dark")
            phone = await visit(browser, service.url, viewport={"width": 390, "height": 844})
            await dark.get_by_role("button", name="Console of demo", exact=True).click()
            await dark.locator('[data-tool="greet"]').click()
            await dark.get_by_role("button", name="Call", exact=True).click()
            await dark.locator(".question").wait_for()
            await asyncio.sleep(40)  # the sparklines show a minute
            for name, page in (("light", light), ("dark", dark), ("phone", phone)):
                await page.screenshot(path=HERE / f"page-{name}.png")
            await browser.close()
        calling.cancel()
        await bridge.http.close()
        await service.stop()


if __name__ == "__main__":
    asyncio.run(main())
