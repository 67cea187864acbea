"""What the processes of a server write to stderr, as it comes."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import expect

from bridge.observe.logs import Logs
from tests.conftest import StartBridge, tool
from tests.page.conftest import PATIENCE, Look, toolbox
from tests.peers.toolbox import ATTACK

pytestmark = pytest.mark.asyncio(loop_scope="package")
expect.set_options(timeout=PATIENCE)


async def test_logs_are_followed_sifted_and_harmless(start_bridge: StartBridge, look: Look, tmp_path: Path) -> None:
    with Logs("INFO", tmp_path, "text") as logs:
        bridge = await start_bridge({"tools": toolbox()}, sink=logs.stderr_sink, LOG_DIR=tmp_path)
        session = await bridge.session("tools")

        async def say(line: str) -> None:
            async with session.post(tool("say", 1, line=line)) as response:
                await response.read()

        await say("before")
        page = await look(bridge)
        await page.get_by_role("button", name="Logs of tools", exact=True).click()
        lines = page.get_by_label("Log of tools").locator("li")
        await expect(lines).to_have_count(1)
        await expect(lines).to_contain_text("before")
        await say(ATTACK)
        await expect(lines.last).to_contain_text("<script>document.title='owned'</script>")
        await say("a needle")
        await expect(lines).to_have_count(3)
        await page.get_by_label("Show lines with").fill("NEEDLE")
        await expect(lines.filter(visible=True)).to_have_count(1)
        await expect(page.locator("#panel")).to_contain_text("1 of 3 lines")
        await page.get_by_label("Show lines with").fill("")
        await page.get_by_role("button", name="Follow").click()
        await expect(page.locator(".logs .badge")).to_have_text("paused")
        await say("while nobody followed")
        await expect(lines).to_have_count(3)
        await page.get_by_role("button", name="Follow").click()
        await expect(lines).to_have_count(4)
        await page.locator("#panel-close").click()
        await bridge.http.close()
