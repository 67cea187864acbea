"""A real Chromium before a real bridge. Whatever a test does, at its end the page must have been harmless."""

from __future__ import annotations

import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright

from bridge.web import events
from tests.conftest import PEERS, Running, StartBridge, bridges

#: Milliseconds that anything may take to show on the page: the machine may be busy.
PATIENCE = 15_000
#: What a page could leave behind, or be caught by.
LEFT_BEHIND = """async () => ({
  storage: Object.keys(localStorage).length + Object.keys(sessionStorage).length,
  cookies: document.cookie, databases: (await indexedDB.databases()).length, caches: (await caches.keys()).length,
  workers: (await navigator.serviceWorker.getRegistrations()).length,
  violations: window.violations, owned: window.owned ?? document.title === 'owned', url: location.href,
  markup: document.querySelectorAll('#body img[src="x"], #body script, #body style, #body a, #body iframe').length,
})"""
WATCH = """window.violations = [];
document.addEventListener('securitypolicyviolation', (event) => window.violations.push(event.violatedDirective));"""


def toolbox(*args: str, **entry: Any) -> dict[str, Any]:
    """A ``servers.json`` entry of tests/peers/toolbox.py."""
    return {"command": sys.executable, "args": ["-I", "-S", str(PEERS / "toolbox.py"), *args], **entry}


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def browser() -> AsyncIterator[Browser]:
    """The Chromium of the system, else Playwright's own, as .ci/browser installs them."""
    async with async_playwright() as playwright:
        found = shutil.which("chromium") or shutil.which("google-chrome")
        # A container has neither a sandbox for root nor much shared memory.
        options = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        chromium = await playwright.chromium.launch(executable_path=found, args=options)
        yield chromium
        await chromium.close()


@pytest_asyncio.fixture(loop_scope="package")
async def start_bridge(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[StartBridge]:
    """As everywhere, on the event loop of the browser, and with snapshots in quick succession."""
    monkeypatch.setattr(events, "INTERVAL", 0.2)
    async with bridges(tmp_path) as start:
        yield start


Look = Callable[..., Awaitable[Page]]


@pytest_asyncio.fixture(loop_scope="package")
async def look(browser: Browser) -> AsyncIterator[Look]:
    """Open the page of a bridge in a window of its own."""
    pages: list[tuple[Page, list[str], list[str]]] = []

    async def open_page(bridge: Running, *, live: bool = True, **options: Any) -> Page:
        context = await browser.new_context(**options)
        context.set_default_timeout(PATIENCE)
        page = await context.new_page()
        origins: list[str] = []
        errors: list[str] = []
        page.on("request", lambda request: origins.append(urlsplit(request.url)._replace(path="", query="").geturl()))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: errors.append(f"dialog {dialog.message}"))
        await page.add_init_script(WATCH)
        await page.goto(bridge.url + "/")
        pages.append((page, origins, errors))
        if live:
            await page.locator("#link[data-state=live]").wait_for()
        return page

    yield open_page
    for page, origins, errors in pages:
        left = await page.evaluate(LEFT_BEHIND)
        here = urlsplit(left["url"])._replace(path="", fragment="").geturl()
        assert {origin for origin in origins if not origin.startswith("data:")} == {here}
        assert left == {
            "storage": 0,
            "cookies": "",
            "databases": 0,
            "caches": 0,
            "workers": 0,
            "violations": [],
            "owned": False,
            "markup": 0,
            "url": left["url"],
        }
        assert errors == []
        assert await page.context.cookies() == []
        await page.context.close()
