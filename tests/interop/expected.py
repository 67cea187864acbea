"""What the published servers answer, for the tests of every way to reach them."""

from __future__ import annotations

import json
from typing import Any

from tests.interop.conftest import AUTO, PACKAGES, Bridge

LATEST = "2025-11-25"

#: What the clients fill into a form that has all these fields.
FORM = {"name": "Ada Lovelace", "check": True, "integer": 7}

EVERYTHING_TOOLS = {
    *("echo", "get-annotated-message", "get-env", "get-resource-links", "get-resource-reference"),
    *("get-structured-content", "get-sum", "get-tiny-image", "gzip-file-as-resource", "simulate-research-query"),
    *("toggle-simulated-logging", "toggle-subscriber-updates", "trigger-elicitation-request"),
    *("trigger-long-running-operation", "trigger-sampling-request"),
}
#: Offered by that server to clients that declare elicitation by URL, as the Python SDKs do.
URL_TOOL = {"trigger-url-elicitation"}
EVERYTHING_PROMPTS = ["args-prompt", "completable-prompt", "resource-prompt", "simple-prompt"]
EVERYTHING_RESOURCES = [
    f"demo://resource/static/document/{name}.md"
    for name in ("architecture", "extension", "features", "how-it-works", "instructions", "startup", "structure")
]
#: What JSON, SSE and pipes could spoil: a line separator that is none to JSON, quotes, a line feed.
TEXT = 'Grüße, 世界 \U0001f309 \u2028 \\ " \n'
RESOURCE = "demo://resource/static/document/features.md"
PROMPTED = "What's weather in Paris, Texas?"
DEMO_STEPS = [[step, 4, f"step {step} of 4"] for step in (1, 2, 3, 4)]


def check_course(name: str, seen: dict[str, Any], served: Bridge) -> None:
    """Everything was answered well, from the first request to the last, and no session is left."""
    assert "error" not in seen, seen
    wire = list(seen["wire"])
    if name in AUTO:
        assert seen["protocol"] == "2026-07-28"
        # 202 is for the cancellation that the TypeScript SDK posts as well when it closes a subscription.
        assert set(wire) <= {"POST 200", "POST 202"}, "the modern era has neither sessions nor GET nor DELETE"
    else:
        assert seen["protocol"] == LATEST
        assert wire[0] == "POST 200"
        assert wire.pop() == "DELETE 204"
        assert set(wire) <= {"POST 200", "POST 202", "GET 200"}
    assert streamable(served) == []


def streamable(served: Bridge) -> list[dict[str, Any]]:
    """The sessions that clients hold; modern requests have none, and use the bridge's own clients."""
    return [row for row in served.get("/sessions") if row["pool"] == "streamable"]


def entity_of(name: str) -> dict[str, Any]:
    """What a client remembers."""
    return {"name": name, "entityType": "client", "observations": ["talks to a bridge", TEXT]}


def check_steps(name: str, steps: list[Any], expected: list[Any], *, one_stream: bool) -> None:
    """Progress, where ``one_stream`` carries everything, as with HTTP+SSE and stdio.

    There the TypeScript SDK often loses the last step, without a bridge too: when it reads the step and the answer at
    once, it forgets who wants progress before it looks at the step.
    """
    if one_stream and name.startswith("typescript") and len(steps) < len(expected):
        expected = expected[:-1]
    assert steps == expected


def check_everything(name: str, seen: dict[str, Any], *, one_stream: bool = False) -> None:
    """The scenario ``everything``: what each feature of that server gave."""
    assert seen["server"] == "mcp-servers/everything"
    assert set(seen["tools"]) == EVERYTHING_TOOLS | (URL_TOOL if name.startswith("python") else set())
    assert seen["echo"] == "Echo: Grüße, 世界"
    assert seen["long"]["text"] == "Long running operation completed. Duration: 0.5 seconds, Steps: 5."
    check_steps(name, seen["long"]["steps"], [[step, 5, None] for step in (1, 2, 3, 4, 5)], one_stream=one_stream)
    assert seen["sampling_asked"] == "Resource trigger-sampling-request context: say cheese"
    label, _, answer = seen["sampling"].partition("\n")
    assert label == "LLM sampling result: "
    assert json.loads(answer) == {
        "model": "interop-model",
        "role": "assistant",
        "content": {"type": "text", "text": f"sampled <{seen['sampling_asked']}>"},
    }
    assert seen["elicitation_asked"] == "Please provide inputs for the following fields:"
    assert "- Name: Ada Lovelace\n- Agreed to terms: true\n- Favorite Integer: 7\n" in seen["elicitation"]
    assert json.loads(seen["elicitation"].partition("Raw result: ")[2]) == {"action": "accept", "content": FORM}
    assert seen["prompts"] == EVERYTHING_PROMPTS
    assert seen["resources"] == EVERYTHING_RESOURCES
    assert seen["prompt"] == [{"role": "user", "content": {"type": "text", "text": PROMPTED}}]
    assert seen["resource"] == [{"uri": RESOURCE, "mimeType": "text/markdown", "text": resource_text()}]


def check_inputs(seen: dict[str, Any]) -> None:
    """The scenario ``inputs``: what the server asked, and what it announced."""
    assert seen["sampling"] == "LLM response: sampled <say cheese>"
    assert seen["roots"] == "Roots: ['file:///some/where']"
    assert seen["three"] == "Answered: ['client_roots', 'greeting', 'user_name']"
    assert seen["twice"] == "Ada Lovelace likes blue"
    assert seen["steps"] == [[done, 100, None] for done in (0, 50, 100)]
    assert set(seen["tools"]) - set(seen["changed"]) == {"test_sometimes_tool"}
    assert seen.get("where") == ("Zürich" if "where" in seen["tools"] else None)


def resource_text() -> str:
    """What is in the file behind the resource."""
    return (PACKAGES / "server-everything" / "dist" / "docs" / "features.md").read_text(encoding="utf-8")
