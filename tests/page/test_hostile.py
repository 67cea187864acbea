"""Everything that a server can name or say is text to the page: nothing runs, nothing shows as markup."""

from __future__ import annotations

import sys

import pytest
from playwright.async_api import expect

from tests.conftest import StartBridge
from tests.page.conftest import PATIENCE, Look, toolbox
from tests.peers.toolbox import ATTACK

pytestmark = pytest.mark.asyncio(loop_scope="package")
expect.set_options(timeout=PATIENCE)


async def test_nothing_that_a_server_says_becomes_part_of_the_page(start_bridge: StartBridge, look: Look) -> None:
    program = f"import sys; sys.exit({ATTACK!r})"
    dies = {"command": sys.executable, "args": ["-I", "-S", "-c", program], "maxRestarts": 1, "description": ATTACK}
    bridge = await start_bridge({"tools": toolbox("--hostile", description=ATTACK), "dies": dies})
    await bridge.bridge_call("dies", "ping")
    page = await look(bridge)  # whose end looks for what an attack would leave
    await expect(page.locator("#troubles")).to_contain_text("onerror=")
    await expect(page.locator('tbody[data-server="dies"]')).to_contain_text("</script>")
    await expect(page.locator('tbody[data-server="tools"]')).to_contain_text("<img src=x")
    await page.get_by_role("button", name="Console of tools", exact=True).click()
    await expect(page.locator("#panel .badge").first).to_contain_text("<img src=x")
    tools = page.locator(".tools button")
    await expect(tools).to_have_count(3)
    await tools.nth(1).click()
    await tools.nth(2).click()
    await expect(page.locator(".console > form")).to_contain_text("No arguments.")
    await tools.nth(0).click()
    form = page.locator(".console > form")
    await expect(form.locator(".about").first).to_contain_text("<script>")
    await form.get_by_role("button", name="Call").click()
    shown = page.locator("article.call").first
    await expect(shown.locator(".question")).to_contain_text("<script>")
    await expect(shown.get_by_role("status").last).to_contain_text("onerror=")
    await shown.get_by_role("button", name="Accept").click()
    await expect(shown.locator(".badge")).to_contain_text("done")
    await expect(shown.locator("pre").first).to_contain_text("javascript:document.title")
    for summary in await shown.locator("summary").all():
        await summary.click()
    await expect(shown.locator("summary")).to_have_count(6)
    await expect(shown.locator("img, a, script, svg")).to_have_count(0)
