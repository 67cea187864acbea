"""What the two Python clients do, and what they report of it.

Imports no SDK: a session is a ``ClientSession`` of mcp 1.x or a ``Client`` of mcp 2.x, whose calls have the same names.
What they return is dumped in its wire form, because the two name the fields differently.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urljoin
from urllib.request import urlopen

#: What the person in front of the client fills in, and what the model behind it says.
FORM = {"name": "Ada Lovelace", "check": True, "integer": 7, "color": "blue"}
MODEL = "interop-model"

#: What they ask of server-everything.
RESOURCE = "demo://resource/static/document/features.md"
PROMPT, PLACE = "args-prompt", {"city": "Paris", "state": "Texas"}


class Client:
    """One connection: its session, and what the SDK's callbacks have heard."""

    def __init__(self, url: str, scenario: str, options: dict[str, Any]) -> None:
        self.url = url
        self.scenario = scenario
        self.options = options
        self.session: Any = None
        self.wire: list[str] = []
        self.seen: dict[str, Any] = {}
        self.log = asyncio.Queue[Any]()
        self.changes = asyncio.Queue[str]()

    async def play(self, session: Any) -> None:
        """Run the scenario in an open session."""
        self.session = session
        await SCENARIOS[self.scenario](self)

    def watch(self, create: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``create``, which makes HTTP clients, with our ear on each of them."""

        def watched(**options: Any) -> Any:
            http = create(**options)
            http.event_hooks["response"].append(self.on_response)
            return http

        return watched

    async def on_response(self, response: Any) -> None:
        """Note each HTTP answer: an event hook of httpx."""
        self.wire.append(f"{response.request.method} {response.status_code}")

    def sample(self, params: Any) -> str:
        """Play the model: return a text that could not be there without the prompt."""
        prompt = wire_form(params)["messages"][0]["content"]["text"]
        self.seen["sampling_asked"] = prompt
        return f"sampled <{prompt}>"

    async def fill_in(self, params: Any) -> dict[str, Any]:
        """Play the person: fill in the fields that the form has; in the scenario ``late``, when nobody waits for it."""
        asked = wire_form(params)
        self.seen["elicitation_asked"] = asked["message"]
        if self.scenario == "late":
            while await asyncio.to_thread(self._open_questions):
                pass
        if self.scenario == "leave":
            await meet()
        form = {**FORM, "name": self.options.get("name", FORM["name"])}
        return {name: value for name, value in form.items() if name in asked["requestedSchema"]["properties"]}

    def _open_questions(self) -> int:
        """How many questions of the server the bridge still takes an answer to."""
        with urlopen(urljoin(self.url, "/children")) as response:
            children = json.load(response)
        server = self.url.rpartition("/")[2]
        return sum(child["open_questions"] for child in children if child["server"] == server)

    async def on_message(self, message: Any) -> None:
        """Note what the server announces: a handler of either SDK."""
        kind = type(getattr(message, "root", message)).__name__
        if kind == "ToolListChangedNotification":
            self.changes.put_nowait(kind)

    async def change_of_tools(self, change: Callable[[], Awaitable[Any]]) -> None:
        """Change something, and wait until the server has announced that the tools have."""
        if self.seen["protocol"] == "2026-07-28":
            async with self.session.listen(tools_list_changed=True) as changes:
                await change()
                await anext(changes)
        else:
            await change()
            await self.changes.get()

    async def call(self, tool: str, arguments: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        return wire_form(await self.session.call_tool(tool, arguments or {}, **options))

    async def text(self, tool: str, arguments: dict[str, Any] | None = None, **options: Any) -> str:
        """Call a tool that must succeed; return its texts."""
        result = await self.call(tool, arguments, **options)
        text = "\n".join(content["text"] for content in result["content"])
        if result.get("isError"):
            raise RuntimeError(f"{tool}: {text}")
        return text

    async def failure(self, tool: str, arguments: dict[str, Any]) -> str:
        """Call a tool that must fail; return what it says."""
        result = await self.call(tool, arguments)
        if not result.get("isError"):
            raise RuntimeError(f"{tool} did not fail: {result}")
        return "\n".join(content["text"] for content in result["content"])

    async def progress(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Call a tool and collect its progress."""
        steps: list[Any] = []

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            steps.append([progress, total, message])

        text = await self.text(tool, arguments, progress_callback=on_progress)
        return {"text": text, "steps": steps}

    async def names(self, what: str, key: str = "name") -> list[str]:
        listed = wire_form(await getattr(self.session, f"list_{what}")())
        return sorted(each[key] for each in listed[what])


def wire_form(model: Any) -> dict[str, Any]:
    return model.model_dump(by_alias=True, mode="json", exclude_none=True)


async def everything(client: Client) -> None:
    client.seen["tools"] = await client.names("tools")
    client.seen["echo"] = await client.text("echo", {"message": "Grüße, 世界"})
    client.seen["long"] = await client.progress("trigger-long-running-operation", {"duration": 0.5, "steps": 5})
    client.seen["sampling"] = await client.text("trigger-sampling-request", {"prompt": "say cheese"})
    client.seen["elicitation"] = await client.text("trigger-elicitation-request")
    client.seen["prompts"] = await client.names("prompts")
    client.seen["resources"] = await client.names("resources", "uri")
    client.seen["prompt"] = wire_form(await client.session.get_prompt(PROMPT, PLACE))["messages"]
    client.seen["resource"] = wire_form(await client.session.read_resource(RESOURCE))["contents"]


async def roots(client: Client) -> None:
    """The server asks for roots by itself, while no request is in flight, and logs that it has them."""
    client.seen["log"] = await client.log.get()
    client.seen["roots"] = await client.text("get-roots-list")


async def filesystem(client: Client) -> None:
    client.seen["tools"] = await client.names("tools")
    folder = (await client.text("list_allowed_directories")).splitlines()[-1]
    path = str(Path(folder) / client.options["file"])
    client.seen["write"] = await client.text("write_file", {"path": path, "content": client.options["content"]})
    client.seen["read"] = await client.text("read_text_file", {"path": path})


async def memory(client: Client) -> None:
    client.seen["tools"] = await client.names("tools")
    await client.call("create_entities", {"entities": [client.options["entity"]]})
    client.seen["graph"] = (await client.call("read_graph"))["structuredContent"]


async def demo(client: Client) -> None:
    client.seen["tools"] = await client.names("tools")
    client.seen["echo"] = await client.text("echo", {"text": client.options["text"]})
    client.seen["add"] = await client.text("add", {"a": 2, "b": 3.5})
    client.seen["count"] = [await client.text("count") for _ in range(3)]
    client.seen["slow"] = await client.progress("slow", {"seconds": 0.4, "steps": 4})
    client.seen["greet"] = await client.text("greet")


async def slow(client: Client) -> None:
    client.seen["slow"] = await client.progress("slow", {"seconds": 0.4, "steps": 4})


async def meet() -> None:
    """Say that everything is set up, and wait for the word to go on."""
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)


async def together(client: Client) -> None:
    """Count, wait until every client has, and go on side by side."""
    client.seen["first"] = await client.text("count")
    await meet()
    client.seen["slow"] = await client.progress("slow", {"seconds": 0.4, "steps": 4})
    client.seen["greet"] = await client.text("greet")
    client.seen["second"] = await client.text("count")


async def share(client: Client) -> None:
    """Count, wait until every client has, and make progress side by side; counting again tells who else has."""
    client.seen["counts"] = [int(await client.text("count"))]
    await meet()
    client.seen["slow"] = await client.progress("slow", {"seconds": 0.4, "steps": 4})
    client.seen["counts"].append(int(await client.text("count")))


async def remember(client: Client) -> None:
    """Write something down, wait until every client has, and read."""
    await client.call("create_entities", {"entities": [client.options["entity"]]})
    await meet()
    client.seen["graph"] = (await client.call("read_graph"))["structuredContent"]


async def git(client: Client) -> None:
    """Commit a file that lies in a repository."""
    repo = {"repo_path": client.options["repo"]}
    client.seen["tools"] = await client.names("tools")
    client.seen["before"] = await client.text("git_status", repo)
    client.seen["add"] = await client.text("git_add", {**repo, "files": client.options["files"]})
    client.seen["commit"] = await client.text("git_commit", {**repo, "message": client.options["message"]})
    client.seen["after"] = await client.text("git_status", repo)
    client.seen["log"] = await client.text("git_log", {**repo, "max_count": 5})


async def inputs(client: Client) -> None:
    """All that a server may ask of its client, and what it says by itself."""
    client.seen["tools"] = await client.names("tools")
    client.seen["sampling"] = await client.text("test_sampling", {"prompt": "say cheese"})
    client.seen["roots"] = await client.text("test_input_required_result_list_roots")
    client.seen["three"] = await client.text("test_input_required_result_multiple_inputs")
    client.seen["twice"] = await client.text("test_input_required_result_multi_round")
    client.seen["steps"] = (await client.progress("test_tool_with_progress", {}))["steps"]
    if "where" in client.seen["tools"]:  # its argument wants a header
        client.seen["where"] = await client.text("where", {"region": "Zürich"})
    await client.change_of_tools(lambda: client.text("test_trigger_tool_change"))
    client.seen["changed"] = await client.names("tools")
    await client.text("test_trigger_tool_change")


async def tour(client: Client) -> None:
    """Call every tool, get every prompt, read every resource; ``OPTIONS`` has the arguments of those that need some."""
    session, options = client.session, client.options

    async def outcome(doing: Awaitable[Any]) -> Any:
        try:
            return wire_form(await doing)
        except Exception as error:
            return {"raised": words(error)}

    seen = client.seen
    tools = [each["name"] for each in wire_form(await session.list_tools())["tools"]]
    seen["tools"] = {each: await outcome(session.call_tool(each, options["tools"].get(each, {}))) for each in tools}
    seen["prompts"] = {
        each: await outcome(session.get_prompt(each, options["prompts"].get(each)))
        for each in await client.names("prompts")
    }
    uris = [*await client.names("resources", "uri"), *options["resources"]]
    seen["resources"] = {each: await outcome(session.read_resource(each)) for each in uris}


async def fetch(client: Client) -> None:
    """Read a page whole, in part and as it is; and one that robots may not read, which a person may."""
    page, closed = client.options["page"], client.options["closed"]
    client.seen["tools"] = await client.names("tools")
    client.seen["page"] = await client.text("fetch", {"url": page})
    client.seen["part"] = await client.text("fetch", {"url": page, "max_length": 10, "start_index": 2})
    client.seen["raw"] = await client.text("fetch", {"url": page, "raw": True})
    client.seen["closed"] = await client.failure("fetch", {"url": closed})
    client.seen["prompt"] = wire_form(await client.session.get_prompt("fetch", {"url": closed}))["messages"]


async def time(client: Client) -> None:
    """Ask for the time elsewhere."""
    there = {"source_timezone": "Asia/Tokyo", "time": "16:30", "target_timezone": "Asia/Kolkata"}
    client.seen["tools"] = await client.names("tools")
    client.seen["converted"] = json.loads(await client.text("convert_time", there))
    client.seen["nowhere"] = await client.failure("get_current_time", {"timezone": "Nowhere/Land"})


async def introduce(client: Client) -> None:
    """Be asked in several calls at once, each with a number of its own."""
    numbers = [client.options["number"] * 10 + n for n in range(3)]
    client.seen["calls"] = await asyncio.gather(*(client.progress("introduce", {"n": n}) for n in numbers))


async def leave(client: Client) -> None:
    """Be asked, and never answer: whoever started this ends it."""
    await client.text("introduce", {"n": 1})


async def late(client: Client) -> None:
    """The server gives up on its question before the person has answered; everything must go on."""
    client.seen["hurry"] = await client.text("hurry")
    client.seen["echo"] = await client.text("echo", {"text": "still here"})


async def shutdown(client: Client) -> None:
    """Use a session after the bridge has gone."""
    client.seen["tools"] = await client.names("tools")
    await meet()
    await client.session.list_tools()


async def start(client: Client) -> None:
    """Nothing beyond connecting; here the server does not get that far."""


async def die(client: Client) -> None:
    """The server ends during a call; what does a client show of this call, and of the next one?"""
    client.seen["errors"] = []
    for _ in range(2):
        try:
            await client.text("die", {"words": client.options["words"]})
        except Exception as error:
            client.seen["errors"].append(words(error))


SCENARIOS: dict[str, Callable[[Client], Awaitable[None]]] = {
    each.__name__: each
    for each in (
        everything,
        roots,
        filesystem,
        memory,
        demo,
        slow,
        together,
        share,
        remember,
        git,
        inputs,
        tour,
        fetch,
        time,
        introduce,
        leave,
        late,
        shutdown,
        start,
        die,
    )
}


def words(error: BaseException) -> str:
    """What a person is shown of an error; the SDKs wrap them in groups."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(words(each) for each in error.exceptions)
    return f"{type(error).__name__}: {error}"


def main(connect: Callable[..., Awaitable[None]]) -> None:
    """Run ``URL SCENARIO OPTIONS [MODE]`` and print what was seen as one JSON object, the last line of stdout.

    ``connect(client)``, or ``connect(client, MODE)``, opens a session, runs :meth:`Client.play` in it and closes it.
    With ``times`` in OPTIONS, so many clients do so at once, each with a ``number`` and a ``name``.
    """
    url, scenario, raw, *mode = sys.argv[1:]
    options = json.loads(raw)

    async def run(**own: Any) -> None:
        client = Client(url, scenario, {**options, **own})
        try:
            await connect(client, *mode)
        except BaseException as error:
            client.seen["error"] = words(error)
        print(json.dumps({**client.seen, **own, "wire": client.wire}))

    async def run_all() -> None:
        if "times" not in options:
            await run()
        else:
            await asyncio.gather(*(run(number=n, name=f"client {n}") for n in range(options["times"])))

    asyncio.run(run_all())
