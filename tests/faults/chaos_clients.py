"""What the clients of a seeded random run do, and how each of them checks what it gets.

A client is one slot: at most one session at a time, of a server that never changes. Every action is given a random
generator of its own, so that what it decides does not depend on what happens around it.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp

from bridge.children.pool import LEASE_PATIENCE
from bridge.protocol.modern import CAPABILITIES, CLIENT_INFO, VERSION
from tests.conftest import ACCEPT, INITIALIZE, message, tool

#: Seconds after which a request counts as one that never ends: longer than one waits for a pooled child.
BOUND = LEASE_PATIENCE + 15
#: What a request may be answered with besides 200: a session that has gone, limits, a child that failed, is resting,
#: or says nothing.
REFUSALS = frozenset({404, 429, 502, 503, 504})
JSON_HEADERS = {"Accept": ACCEPT, "Content-Type": "application/json"}
IDS = (7, "7", 0, 2**53 - 1, "", "ключ")


Reply = Callable[[dict[str, Any]], Awaitable[None]]


class Violation(AssertionError):
    """The bridge has broken its promise."""


def payload(rng: random.Random) -> dict[str, Any]:
    """Something that nobody else has sent."""
    size = rng.choice((8, 8, 8, 200, 5_000, 300_000))
    return {"text": "".join(rng.choices('aβ"\\\u2028\n😀x', k=min(size, 500))) * (size // 500 + 1), "n": rng.random()}


def check_error(error: Any) -> None:
    """An error has to say what is wrong, and nothing of our own insides."""
    if not (isinstance(error, dict) and isinstance(error.get("code"), int) and error.get("message")):
        raise Violation(f"no clear error: {error!r:.300}")
    if "internal error" in str(error["message"]) or "Traceback" in str(error):
        raise Violation(f"an error of the bridge itself: {error!r:.300}")


async def refused(response: aiohttp.ClientResponse) -> bool:
    """Whether this is a refusal, which then must be a clear one."""
    if response.status == 200:
        return False
    text = await response.text()
    if response.status not in REFUSALS:
        raise Violation(f"status {response.status}: {text:.300}")
    check_error(json.loads(text)["error"])
    return True


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """The messages of a response, of any size."""
    if response.content_type == "application/json":
        yield await response.json()
        return
    rest = b""
    async for chunk in response.content.iter_any():
        *whole, rest = (rest + chunk).split(b"\n\n")
        for event in whole:
            for line in event.split(b"\n"):
                if line.startswith(b"data: {"):
                    yield json.loads(line[6:])
    if rest.strip():
        raise Violation(f"an event stream that ends in the middle: {rest!r:.300}")


async def final(
    response: aiohttp.ClientResponse, id_: Any, token: Any = None, reply: Reply | None = None
) -> tuple[dict[str, Any], list[Any]]:
    """The one answer of a response, and the progress that came before it. Questions go to ``reply``."""
    answers, progress = [], []
    async for event in events(response):
        if answers:
            raise Violation(f"something after the answer: {event!r:.300}")
        if "method" not in event:
            answers.append(event)
        elif "id" in event and reply is not None:
            await reply(event)
        elif event["method"] == "notifications/progress":
            if event["params"]["progressToken"] != token:
                raise Violation(f"progress of another: {event!r:.300}, not of {token!r}")
            progress.append(event["params"]["progress"])
    if len(answers) != 1:
        raise Violation(f"{len(answers)} answers to one request")
    if type(answers[0].get("id")) is not type(id_) or answers[0]["id"] != id_:
        raise Violation(f"an answer to {answers[0].get('id')!r}, not to {id_!r}")
    return answers[0], progress


class Client:
    """One slot. ``counts`` is where it says how its requests have ended."""

    #: Servers that speak the modern era only, so that what they ask goes to no session.
    MODERN = frozenset({"modern", "far-modern"})

    def __init__(self, http: aiohttp.ClientSession, url: str, server: str, counts: Counter[str]) -> None:
        self.http = http
        self.base = url
        self.server = server
        self.url = f"{url}/mcp/{server}"
        self.counts = counts
        self.session: str | None = None
        #: What has been answered to the questions of children.
        self.replies: set[float] = set()
        self._opening = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def post(self, body: Any, **headers: str) -> AsyncIterator[aiohttp.ClientResponse]:
        session = {} if self.session is None else {"Mcp-Session-Id": self.session}
        given = {**JSON_HEADERS, **session, **{name.replace("_", "-"): value for name, value in headers.items()}}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.http.post(self.url, data=io.BytesIO(data), headers=given) as response:
            yield response

    async def request(
        self, body: dict[str, Any], token: Any = None, **headers: str
    ) -> tuple[dict[str, Any] | None, list[Any]]:
        """Send a request and read all that it gets; None when it is refused or fails, as it may."""
        if self.session is None and not headers:  # it has gone; without an id, the bridge would open one of its own
            return None, []
        async with self.post(body, **headers) as response:
            if await refused(response):
                self.counts[str(response.status)] += 1
                return None, []
            answer, progress = await final(response, body["id"], token, self._replying(self.session))
        if "error" in answer:
            check_error(answer["error"])
            self.counts["error"] += 1
            return None, progress
        self.counts["result"] += 1
        return answer, progress

    def _replying(self, session: str | None) -> Reply:
        """What answers the questions of a session's child, on whichever of its streams they come."""

        async def reply(question: dict[str, Any]) -> None:
            self.replies.add(said := random.random())
            body = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline", "said": said}}
            async with self.post(body, **({} if session is None else {"Mcp_Session_Id": session})) as response:
                await self.lost_or(response, 202)

        return reply

    async def open(self, rng: random.Random) -> None:
        """Make sure that there is a session, opened by one of the two ways."""
        async with self._opening:
            if self.session is not None:
                return
            made = None
            if rng.random() < 0.3:
                made = await self._create(rng)
                if made is None:
                    return
            given = {} if made is None else {"Mcp-Session-Id": made}
            async with self.post(message("initialize", 0, **INITIALIZE), **given) as response:
                if await refused(response):
                    self.counts[str(response.status)] += 1
                else:
                    answer, _ = await final(response, 0)
                    if "error" in answer:
                        check_error(answer["error"])
                    else:
                        self.session = response.headers["Mcp-Session-Id"]
                        self.counts["opened"] += 1
            if self.session is None and made is not None:
                await self.end(made, 204, 404)
            if self.session is not None:
                async with self.post(message("notifications/initialized")) as response:
                    await self.lost_or(response, 202)

    async def _create(self, rng: random.Random) -> str | None:
        body = {"server": self.server, "persistent": rng.random() < 0.5, "metadata": {"n": rng.random()}}
        async with self.http.post(f"{self.base}/api/v1/sessions", json=body) as response:
            if response.status == 201:
                return str((await response.json())["session_id"])
            await refused(response)
            return None

    async def lost_or(self, response: aiohttp.ClientResponse, *wanted: int) -> None:
        if response.status not in wanted and not await refused(response):
            raise Violation(f"status {response.status}, wanted {wanted}: {await response.text():.300}")

    async def echo(self, rng: random.Random) -> None:
        """A call, whose answer has to be its own."""
        await self.open(rng)
        sent = payload(rng)
        answer, _ = await self.request(tool("echo", rng.choice(IDS), **sent))
        self.own(answer, sent)
        if answer is None and rng.random() < 0.5:
            await self.delete(rng)

    def own(self, answer: dict[str, Any] | None, sent: dict[str, Any]) -> None:
        if answer is None:
            return
        result = answer["result"].get("structuredContent", answer["result"])
        if {name: result.get(name) for name in sent} != sent:  # a translated answer says more
            raise Violation(f"an answer of another: {result!r:.200}, not {sent!r:.200}")

    async def big(self, rng: random.Random) -> None:
        """A large answer."""
        await self.open(rng)
        size = rng.choice((100_000, 1_000_000, 3_000_000))
        answer, _ = await self.request(tool("big", 7, size=size))
        if answer is not None and answer["result"]["text"] != "x" * size:
            raise Violation("a large answer that is not whole")

    async def progress(self, rng: random.Random) -> None:
        """A call with progress, each step of which has to come once and in order."""
        await self.open(rng)
        steps, token = rng.choice((1, 10, 3_000)), rng.choice(IDS)
        answer, seen = await self.request(tool("progress", 7, token, steps=steps), token)
        if answer is not None and seen != list(range(1, steps + 1)):
            raise Violation(f"{len(seen)} steps of progress, not {steps}")

    async def equal(self, rng: random.Random) -> None:
        """Many calls at once under one id, and all of the others do the same."""
        await self.open(rng)
        calls = [payload(rng) for _ in range(rng.randrange(2, 20))]
        answers = await asyncio.gather(*(self.request(tool("echo", 7, **sent)) for sent in calls))
        for sent, (answer, _) in zip(calls, answers, strict=True):
            self.own(answer, sent)

    async def cancel(self, rng: random.Random) -> None:
        """A call that its client cancels: it may still be answered, and ends in any case."""
        await self.open(rng)
        id_ = f"c{rng.random()}"
        waiting = asyncio.create_task(self.request(tool("never", id_)))
        await asyncio.sleep(rng.random() / 20)
        async with self.post(message("notifications/cancelled", requestId=id_)) as response:
            await self.lost_or(response, 202)
        answer, _ = await waiting
        if answer is not None:
            raise Violation(f"an answer that the child has not given: {answer!r:.200}")

    async def hang_up(self, rng: random.Random) -> None:
        """A connection that is reset in mid-call."""
        await self.open(rng)
        body = rng.choice((tool("never", 7), tool("big", 7, size=2_000_000), tool("progress", 7, 7, steps=2_000)))
        calling = asyncio.create_task(self.request(body, 7))
        await asyncio.sleep(rng.random() / 20)
        calling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await calling
        self.counts["cut"] += 1

    async def listen(self, rng: random.Random) -> None:
        """A GET stream, with or without a reader."""
        await self.open(rng)
        if self.session is None:
            return
        headers = {"Accept": "text/event-stream", "Mcp-Session-Id": self.session}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(rng.random()), self.http.get(self.url, headers=headers) as response:
                if await refused(response):
                    return
                if rng.random() < 0.5:
                    await self.request(tool("log", 7, text="heard"))
                reply = self._replying(self.session)
                async for event in events(response):
                    if "method" not in event:
                        raise Violation(f"an answer on a GET stream: {event!r:.200}")
                    if "id" in event:
                        await reply(event)
                self.counts["stream ended"] += 1

    async def log(self, rng: random.Random) -> None:
        """Announcements that nobody may be listening to, and noise."""
        await self.open(rng)
        await self.request(tool(rng.choice(("log", "list_changed", "babble")), 7, text="x" * 1000))

    async def die(self, rng: random.Random) -> None:
        """A call that ends its child in one of the ways."""
        await self.open(rng)
        how = rng.choice(("die", "die_with_grandchild", "close_stdout"))
        answer, _ = await self.request(tool(how, 7, code=rng.choice((0, 1))))
        if answer is not None:
            raise Violation(f"{how} was answered: {answer!r:.200}")

    async def grandchild(self, rng: random.Random) -> None:
        """A child that leaves something behind."""
        await self.open(rng)
        await self.request(tool("grandchild", 7, new_session=rng.random() < 0.5))

    async def delete(self, rng: random.Random) -> None:
        """The end of the session, sometimes in the middle of a call."""
        if self.session is None:
            return
        session, calling = self.session, None
        if rng.random() < 0.5:
            calling = asyncio.create_task(self.request(tool(rng.choice(("never", "echo")), 7)))
            await asyncio.sleep(rng.random() / 50)
        await self.end(session)
        if calling is not None:
            await calling

    async def end(self, session: str, *wanted: int) -> None:
        async with self.http.delete(self.url, headers={"Mcp-Session-Id": session}) as response:
            await self.lost_or(response, *(wanted or (204, 404)))
            self.counts[f"deleted {response.status}"] += 1
        if self.session == session:
            self.session = None

    async def manage(self, rng: random.Random) -> None:
        """A session as a thing: looked at, changed, touched, ended."""
        await self.open(rng)
        if self.session is None:
            return
        url = f"{self.base}/api/v1/sessions/{self.session}"
        async with self.http.get(url) as response:
            await self.lost_or(response, 200)
        async with self.http.patch(url, json={"metadata": {"n": rng.random()}}) as response:
            await self.lost_or(response, 200)
        async with self.http.post(f"{url}/touch") as response:
            await self.lost_or(response, 200, 204)

    async def bridge(self, rng: random.Random) -> None:
        """A call without a session."""
        sent = payload(rng)
        body = {"method": "tools/call", "params": {"name": "echo", "arguments": sent}}
        data = io.BytesIO(json.dumps(body).encode())
        async with self.http.post(f"{self.base}/bridge/{self.server}", data=data, headers=JSON_HEADERS) as response:
            if await refused(response):
                self.counts[str(response.status)] += 1
                return
            answer = await response.json()
        if "error" in answer:
            check_error(answer["error"])
        else:
            self.own(answer, sent)
            self.counts["bridge result"] += 1

    async def modern(self, rng: random.Random) -> None:
        """A call of a client of the modern era, sometimes cut, which cancels it."""
        sent = payload(rng)
        calling = asyncio.create_task(self.modern_call(rng.choice(IDS), {"name": "echo", "arguments": sent}))
        if rng.random() < 0.2:
            await asyncio.sleep(rng.random() / 50)
            calling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            self.own(await calling, sent)

    async def modern_call(self, id_: Any, params: dict[str, Any], **capabilities: Any) -> dict[str, Any] | None:
        """A tools/call of the modern era, which has no session."""
        envelope = {VERSION: "2026-07-28", CAPABILITIES: capabilities, CLIENT_INFO: {"name": "chaos", "version": "1"}}
        body = message("tools/call", id_, **params, _meta=envelope)
        client = Client(self.http, self.base, self.server, self.counts)
        headers = {"MCP_Protocol_Version": "2026-07-28", "Mcp_Method": "tools/call", "Mcp_Name": params["name"]}
        answer, _ = await client.request(body, **headers)
        return answer

    async def nonsense(self, rng: random.Random) -> None:
        """What is no request at all is refused, and costs nobody anything."""
        bodies = (b"", b"{", b"5", b"\xff\xfe", b"[]", b"[" * 20_000, b'{"jsonrpc":"2.0","id":{},"method":"ping"}')
        async with self.post(rng.choice(bodies)) as response:
            if response.status not in {400, 404}:
                raise Violation(f"nonsense got {response.status}")
            check_error((await response.json())["error"])

    async def stranger(self, rng: random.Random) -> None:
        """A session id that was never given to anyone, or not for this server."""
        async with self.post(tool("echo", 7), Mcp_Session_Id=f"{rng.getrandbits(128):032x}") as response:
            if response.status != 404:
                raise Violation(f"a made-up session got {response.status}")
            check_error((await response.json())["error"])

    async def last_call(self, number: int) -> None:
        """A call during which the bridge is told to end: it is answered in any case."""
        await self.open(random.Random(number))
        await self.request(tool("never", number))
