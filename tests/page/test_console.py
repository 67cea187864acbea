"""The console: a server's tools, called from their forms, by a client like any other."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Locator, Page, expect

from tests.conftest import Running, StartBridge
from tests.faults.conftest import until
from tests.page.conftest import PATIENCE, Look, toolbox

pytestmark = pytest.mark.asyncio(loop_scope="package")
expect.set_options(timeout=PATIENCE)


async def console(bridge: Running, look: Look) -> Page:
    page = await look(bridge)
    await page.get_by_role("button", name="Console of tools", exact=True).click()
    await expect(page.locator("#panel .badge").first).to_have_text("toolbox 1")
    return page


async def choose(page: Page, tool: str) -> Locator:
    """Open the form of a tool; return it."""
    await page.locator(f'[data-tool="{tool}"]').click()
    return page.locator(".console > form")


async def call(page: Page, tool: str) -> Locator:
    """Call a tool without arguments; return what shows it."""
    form = await choose(page, tool)
    await form.get_by_role("button", name="Call").click()
    return page.locator("article.call").first


async def test_tools_of_every_page_are_listed_and_found(start_bridge: StartBridge, look: Look) -> None:
    page = await console(await start_bridge({"tools": toolbox()}), look)
    tools = page.locator("[data-tool]")
    await expect(tools).to_have_count(7)
    await expect(tools.first).to_contain_text("Returns its arguments.")
    await expect(tools.first).not_to_contain_text("A second line.")
    await page.get_by_label("Find a tool").fill("half WAY")
    await expect(tools).to_have_count(1)
    await page.get_by_label("Find a tool").fill("nothing like it")
    await expect(page.locator(".tools")).to_have_text("No tool matches.")


async def test_a_form_makes_arguments_of_every_kind(start_bridge: StartBridge, look: Look) -> None:
    page = await console(await start_bridge({"tools": toolbox()}), look)
    form = await choose(page, "show")
    await form.get_by_label("name required", exact=True).fill("Ann")
    await form.get_by_label("part").fill("1.5")
    await form.get_by_label("loud").uncheck()
    await form.get_by_label("maybe").select_option("false")
    await form.get_by_label("colour").select_option("green")
    await form.get_by_label("kind").select_option("second")
    await form.get_by_label("tags").fill("a b\nc\n")
    await form.get_by_label("tu").check()
    await form.get_by_label("city required").fill("Köln")
    await form.get_by_label("more").fill('{"deep": [1, null]}')
    await form.get_by_label("__proto__").fill("a name")
    await form.get_by_role("button", name="Call").click()
    result = page.locator("article.call").first
    await expect(result.locator(".badge")).to_contain_text("done")
    sent: dict[str, Any] = json.loads(await result.locator("pre").first.inner_text())
    assert sent == {
        "name": "Ann",
        "times": 2,
        "part": 1.5,
        "loud": False,
        "maybe": False,
        "colour": "green",
        "kind": "b",
        "tags": ["a b", "c"],
        "days": ["tu"],
        "where": {"city": "Köln"},
        "more": {"deep": [1, None]},
        "__proto__": "a name",
    }


@pytest.mark.parametrize(
    ("label", "text", "why"),
    [
        ("name required", "x", "needs 2 characters"),
        ("mail", "nobody", "@"),
        ("times", "10", "9"),
        ("more", "{", "no JSON"),
        ("optional", "1234567890123456789", "cannot send this number exactly"),
    ],
)
async def test_a_wrong_field_says_so_and_nothing_is_called(
    start_bridge: StartBridge, look: Look, label: str, text: str, why: str
) -> None:
    page = await console(await start_bridge({"tools": toolbox()}), look)
    form = await choose(page, "show")
    await form.get_by_label("name required", exact=True).fill("Ann")
    await form.get_by_label(label, exact=True).fill(text)
    await form.get_by_role("button", name="Call").click()
    await expect(form.get_by_label(label, exact=True)).to_have_attribute("aria-invalid", "true")
    await expect(form.get_by_label(label, exact=True)).to_be_focused()
    await expect(form.locator(".wrong").filter(has_text=why)).to_be_visible()
    await expect(page.locator("article.call")).to_have_count(0)


@pytest.mark.parametrize(
    ("button", "answer"),
    [
        ("Accept", {"action": "accept", "content": {"sure": True, "why": "so"}}),
        ("Decline", {"action": "decline"}),
        ("Cancel", {"action": "cancel"}),
    ],
)
async def test_progress_and_a_question_come_in_the_middle_of_a_call(
    start_bridge: StartBridge, look: Look, button: str, answer: dict[str, Any]
) -> None:
    page = await console(await start_bridge({"tools": toolbox()}), look)
    shown = await call(page, "ask")
    question = shown.get_by_role("form", name="Question of the server")
    await expect(question).to_contain_text("Go on?")
    await expect(shown.get_by_role("progressbar")).to_have_js_property("value", 1)
    await expect(shown).to_contain_text("1 of 2: half way")
    await expect(shown.locator(".badge")).to_have_text("asks")
    await question.get_by_label("sure").check()
    await question.get_by_label("why").fill("so")
    await question.get_by_role("button", name=button).click()
    await expect(shown.locator(".badge")).to_contain_text("done")
    assert json.loads(await shown.locator("pre").inner_text()) == answer
    await expect(question).to_have_count(0)


async def test_errors_of_tools_of_processes_and_pictures_show(start_bridge: StartBridge, look: Look) -> None:
    bridge = await start_bridge({"tools": toolbox()})
    page = await console(bridge, look)
    failed = await call(page, "fail")
    await expect(failed.locator(".badge")).to_contain_text("failed: the tool says error")
    await expect(failed.locator("pre")).to_have_text("no such luck")
    picture = await call(page, "picture")
    await expect(picture.get_by_role("img")).to_have_js_property("naturalWidth", 1)
    died = await call(page, "die")
    await expect(died).to_contain_text("exited with code 3; last words: these are my last words")
    await expect(page.locator('tbody[data-server="tools"] tr.child')).to_have_count(0)
    again = await call(page, "picture")  # in another session, which nobody had to ask for
    await expect(again.get_by_role("img")).to_be_visible()


async def test_a_call_is_cancelled(start_bridge: StartBridge, look: Look) -> None:
    bridge = await start_bridge({"tools": toolbox()})
    page = await console(bridge, look)
    shown = await call(page, "wait")
    await expect(shown).to_contain_text("it waits")
    await shown.get_by_role("button", name="Cancel").click()
    await expect(shown.locator(".badge")).to_contain_text("stopped: cancelled")
    [child] = bridge.service.core.registry.children()
    await expect(page.locator('tbody[data-server="tools"] tr.child')).to_be_visible()
    # The page has said so by itself: the server may hear of it later.
    await until(lambda: "it was cancelled" in child.connection.transport.last_words, "the server is told nothing")


async def test_the_session_of_the_console_ends_with_it(start_bridge: StartBridge, look: Look) -> None:
    page = await console(await start_bridge({"tools": toolbox()}), look)
    sessions = page.locator("tbody[data-pool=streamable] tr[data-session]")
    await expect(sessions).to_have_count(1)
    await page.locator("#panel-close").click()
    await expect(sessions).to_have_count(0)


def slow(gate: Path) -> dict[str, Any]:
    """A toolbox that begins when the gate is there."""
    entry = toolbox()
    wait = f"while [ ! -e {shlex.quote(str(gate))} ]; do sleep 0.02; done; exec "
    return {"command": "sh", "args": ["-c", wait + shlex.join([entry["command"], *entry["args"]])]}


async def test_a_console_that_is_closed_before_its_server_is_there_leaves_no_session(
    start_bridge: StartBridge, look: Look, tmp_path: Path
) -> None:
    bridge = await start_bridge({"tools": slow(tmp_path / "gate")})
    page = await look(bridge)
    async with page.expect_request(lambda request: request.method == "POST"):
        await page.get_by_role("button", name="Console of tools", exact=True).click()
    await page.locator("#panel-close").click()
    async with page.expect_response(lambda response: response.request.method == "DELETE") as ended:
        (tmp_path / "gate").touch()
    assert (await ended.value).status == 204
    await expect(page.locator("tbody[data-pool=streamable] tr[data-session]")).to_have_count(0)


async def test_a_console_has_one_session_however_often_it_is_told_to_connect(
    start_bridge: StartBridge, look: Look, tmp_path: Path
) -> None:
    bridge = await start_bridge({"tools": slow(tmp_path / "gate")})
    page = await look(bridge)
    said: list[str] = []
    page.on("request", lambda request: said.append(request.post_data or ""))
    await page.get_by_role("button", name="Console of tools", exact=True).click()
    for _ in range(3):
        await page.locator("#panel").get_by_role("button", name="Reload").click()
    (tmp_path / "gate").touch()
    await expect(page.locator("#panel .badge").first).to_have_text("toolbox 1")
    assert sum('"initialize"' in each for each in said) == 1
    sessions = page.locator("tbody[data-pool=streamable] tr[data-session]")
    await expect(sessions).to_have_count(1)
    session = await sessions.first.get_attribute("data-session")
    async with bridge.http.delete(f"{bridge.url}/api/v1/sessions/{session}") as response:
        assert response.status == 204
    await call(page, "picture")  # finds out, and opens another one
    await call(page, "picture")
    await expect(page.locator("article.call .badge").first).to_contain_text("done")
    assert sum('"initialize"' in each for each in said) == 2
