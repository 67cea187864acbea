"""What a stranger sees and does at ``/``, in a real browser."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from playwright.async_api import Locator, Page, expect

from bridge.auth import tokens
from bridge.web import events
from tests.conftest import StartBridge, peer, tool
from tests.page.conftest import PATIENCE, Look, toolbox

pytestmark = pytest.mark.asyncio(loop_scope="package")
expect.set_options(timeout=PATIENCE)


def server(page: Page, name: str) -> Locator:
    """The row of a server."""
    return page.locator(f'tbody[data-server="{name}"] tr.server')


def processes(page: Page, name: str) -> Locator:
    return page.locator(f'tbody[data-server="{name}"] tr.child')


async def press(page: Page, name: str, sure: str | None = None) -> None:
    """Press the button of this name, and the one that asks whether one is sure."""
    await page.get_by_role("button", name=name, exact=True).click()
    if sure is not None:
        await page.get_by_role("dialog").get_by_role("button", name=sure, exact=True).click()


async def test_it_shows_what_runs_and_counts_calls(start_bridge: StartBridge, look: Look) -> None:
    bridge = await start_bridge({"peer": peer(description="an echo"), "off": peer(disabled=True)})
    page = await look(bridge)
    await expect(server(page, "peer")).to_contain_text("an echo")
    await expect(server(page, "peer").locator(".badge")).to_have_text("idle")
    await expect(server(page, "off").locator(".badge")).to_have_text("disabled")
    await expect(page.get_by_text("No sessions.")).to_be_visible()
    session = await bridge.session()
    await expect(server(page, "peer").locator(".badge")).to_have_text("running")
    [child] = await bridge.get("/children")
    row = processes(page, "peer")
    await expect(row).to_contain_text(f"pid {child['pid']}")
    await expect(row).to_contain_text("1 call")
    await asyncio.gather(*(session.call("echo", number) for number in range(6)))
    await expect(row).to_contain_text("7 calls")
    await expect(row.locator("td[data-label=Latency]")).to_contain_text(" ms")
    await expect(row.locator("td[data-label=Memory]")).to_contain_text(" MB")
    assert await page.locator('tbody[data-server="peer"] tr.server polyline').get_attribute("points")
    await expect(page.locator(f'tr[data-session="{session.id}"]')).to_contain_text(str(child["pid"]))


async def test_a_crash_and_a_restart_show(start_bridge: StartBridge, look: Look) -> None:
    bridge = await start_bridge({"peer": peer(restartDelay=60_000)})
    page = await look(bridge)
    for _ in range(5):
        session = await bridge.session()
        async with session.post(tool("die", 2)) as response:
            await response.read()
    await expect(server(page, "peer").locator(".badge")).to_have_text("backoff")
    await expect(server(page, "peer")).to_contain_text("exited with code 1")
    await expect(server(page, "peer")).to_contain_text("next start in")
    await expect(page.locator("#troubles")).to_contain_text("server peer is in backoff")
    await expect(page.locator("#said")).to_contain_text("peer is backoff")
    await press(page, "Start peer")
    await expect(server(page, "peer").locator(".badge")).to_have_text("idle")
    session = await bridge.session()
    await session.call("echo")
    await expect(server(page, "peer").locator(".badge")).to_have_text("running")


async def test_restart_stop_and_start(start_bridge: StartBridge, look: Look) -> None:
    bridge = await start_bridge()
    page = await look(bridge)
    await bridge.session()
    [child] = await bridge.get("/children")
    await press(page, "Restart peer", sure="Cancel")
    await expect(processes(page, "peer")).to_contain_text(f"pid {child['pid']}")
    await press(page, "Restart peer", sure="Restart")
    await expect(page.locator("#said")).to_contain_text("restarted")
    await expect(processes(page, "peer")).to_have_count(0)
    await press(page, "Stop peer", sure="Stop")
    await expect(server(page, "peer").locator(".badge")).to_have_text("stopped")
    answer = await bridge.bridge_call("peer", "ping")
    assert "was stopped" in answer["error"]["message"]
    await press(page, "Start peer")
    await expect(server(page, "peer").locator(".badge")).to_have_text("idle")
    assert "result" in await bridge.bridge_call("peer", "ping")


async def test_a_session_is_in_use_idles_and_is_reaped(start_bridge: StartBridge, look: Look) -> None:
    bridge = await start_bridge(STREAM_SESSION_TTL_MS="4000", SESSION_CLEANUP_INTERVAL_SECONDS="0.3")
    page = await look(bridge)
    session = await bridge.session()
    row = page.locator(f'tr[data-session="{session.id}"]')
    async with session.post(tool("wait", 1, key="a")) as response:
        await expect(row.locator(".badge")).to_have_text("active")
        await expect(row).to_contain_text("in use of 4 s")
        await session.call("release", 2, key="a")
        await response.read()
    await expect(row.locator(".badge")).to_have_text("idle")
    await expect(row).to_contain_text("1 s of 4 s")
    assert float(await row.locator("meter").evaluate("(meter) => meter.value")) > 0.2
    await expect(row).to_have_count(0)
    async with session.post(tool("echo", 3)) as ended:
        assert ended.status == 404


async def test_a_session_is_closed(start_bridge: StartBridge, look: Look) -> None:
    bridge = await start_bridge()
    page = await look(bridge)
    stays, goes = [await bridge.session() for _ in range(2)]
    await bridge.bridge_call("peer", "ping")
    await expect(page.locator("tbody[data-pool=bridge]")).to_contain_text("client_")
    await press(page, f"Close session {goes.id[:8]}", sure="Close")
    await expect(page.locator(f'tr[data-session="{goes.id}"]')).to_have_count(0)
    await expect(page.locator(f'tr[data-session="{stays.id}"]')).to_be_visible()
    async with goes.post(tool("echo", 3)) as ended:
        assert ended.status == 404


async def test_the_token_is_asked_for_once_and_kept_nowhere(start_bridge: StartBridge, look: Look) -> None:
    bridge = await start_bridge(ACCESS_TOKEN="a-secret")
    page = await look(bridge, live=False)
    dialog = page.get_by_role("dialog", name="This bridge wants a token")
    await expect(page.get_by_role("textbox", name="Token")).to_be_focused()
    for _ in range(3):  # a browser lets nobody refuse more than one
        await page.keyboard.press("Escape")
    await expect(dialog).to_be_visible()
    await expect(page.get_by_role("textbox", name="Token")).to_be_focused()
    await page.get_by_role("textbox", name="Token").fill("wrong")
    await page.keyboard.press("Enter")
    await expect(dialog).to_contain_text("not known")
    await expect(server(page, "peer")).to_have_count(0)
    await page.get_by_role("textbox", name="Token").fill("a-secret")
    await page.keyboard.press("Enter")
    await expect(server(page, "peer")).to_be_visible()
    await press(page, "Console of peer")
    await expect(page.locator("#panel .tools")).to_contain_text("This server has no tools.")
    await expect(dialog).to_be_hidden()
    assert "a-secret" not in await page.content()
    assert "a-secret" not in page.url
    state = await page.context.storage_state()
    assert "a-secret" not in str(state)
    await page.reload()
    await expect(dialog).to_be_visible()


async def test_it_comes_back_by_itself_after_a_restart_of_the_bridge(start_bridge: StartBridge, look: Look) -> None:
    first = await start_bridge({"old": peer()})
    page = await look(first)
    await expect(server(page, "old")).to_be_visible()
    port = first.url.rpartition(":")[2]
    await first.service.stop()
    await expect(page.locator("#link")).to_contain_text("connection lost")
    await expect(page.get_by_role("button", name="Try now")).to_be_visible()
    await start_bridge({"new": peer()}, PORT=port)
    await expect(page.locator("#link")).to_have_text("live")
    await expect(server(page, "new")).to_be_visible()
    await expect(server(page, "old")).to_have_count(0)


async def test_why_the_bridge_lets_it_see_nothing_is_told(
    start_bridge: StartBridge, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MOST_LISTENERS", 0)
    page = await look(await start_bridge(), live=False)
    await expect(page.locator("#link")).to_contain_text("all 0 event streams are in use, next try in")
    monkeypatch.setattr(events, "MOST_LISTENERS", 50)
    await page.get_by_role("button", name="Try now").click()
    await expect(page.locator("#link")).to_have_text("live")


async def test_it_works_below_a_base_path_too(start_bridge: StartBridge, look: Look) -> None:
    bridge = await start_bridge(BASE_PATH="/tools", ACCESS_TOKEN="a-secret")
    page = await look(bridge, live=False)
    await page.get_by_role("textbox", name="Token").fill("a-secret")
    await page.keyboard.press("Enter")
    await expect(server(page, "peer")).to_be_visible()
    assert page.url == bridge.url + "/"
    assert page.url.endswith("/tools/")
    await press(page, "Console of peer")
    await expect(page.locator("#panel .tools")).to_contain_text("This server has no tools.")


async def test_who_may_not_operate_gets_no_buttons_for_it(
    start_bridge: StartBridge, look: Look, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("tokens") / "t.json"
    secret, row = tokens.mint("user", ["servers:peer"], None, datetime.now(UTC))
    tokens.write(path, [row])
    bridge = await start_bridge({"peer": peer(), "other": peer()}, TOKENS_FILE=path)
    page = await look(bridge, live=False)
    await page.get_by_role("textbox", name="Token").fill(secret)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Console of peer")).to_be_visible()
    await expect(server(page, "other")).to_have_count(0)
    for name in ("Restart peer", "Stop peer", "Logs of peer"):
        await expect(page.get_by_role("button", name=name)).to_be_hidden()


@pytest.mark.parametrize("width", [360, 1280])
async def test_it_fits_and_is_used_by_keyboard_alone(start_bridge: StartBridge, look: Look, width: int) -> None:
    bridge = await start_bridge({"tools": toolbox(description="a long description " * 12), "peer": peer()})
    session = await bridge.session("peer")
    page = await look(bridge, viewport={"width": width, "height": 700})
    await expect(processes(page, "peer")).to_have_count(1)
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the servers")).to_be_focused()
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("button", name="Console of tools")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="show")).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
    await page.keyboard.press("Escape")
    await expect(page.locator("#panel")).to_be_hidden()
    await expect(page.get_by_role("button", name="Console of tools")).to_be_focused()
    await page.get_by_role("button", name=f"Close session {session.id[:8]}").press("Enter")
    await expect(page.get_by_role("button", name="Cancel")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(page.locator(f'tr[data-session="{session.id}"]')).to_be_visible()
