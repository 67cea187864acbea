"""What the clients of a seeded random run do on the faces that have ways of their own: each a function in a table."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp

from tests.conftest import INITIALIZE, message, tool
from tests.faults.chaos_clients import IDS, JSON_HEADERS, Client, Violation, check_error, payload, refused

#: How often a user never answers what a call of theirs waits for.
NEVER_ANSWERED = 0.1


async def numbered(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[dict[str, str], str]]:
    """The events of a stream until it ends or is cut: their fields, and their data."""
    fields: dict[str, str] = {}
    rest = b""
    async for chunk in response.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                name, _, value = line.decode().partition(": ")
                fields[name] = value
            elif fields.get("data"):
                yield fields, fields["data"]
            if not line:
                fields = {}


def _file(body: dict[str, Any]) -> io.BytesIO:
    """A body that may be large, as aiohttp wants such."""
    return io.BytesIO(json.dumps(body).encode())


async def sse(client: Client, rng: random.Random) -> None:
    """HTTP+SSE of 2024-11-05, where the session is the stream: some calls, the last of which may be cut."""
    async with client.http.get(f"{client.base}/sse/{client.server}") as stream:
        if await refused(stream):
            return
        found = numbered(stream)
        _, path = await anext(found)

        async def ask(body: dict[str, Any]) -> dict[str, Any] | None:
            async with client.http.post(client.base + path, data=_file(body), headers=JSON_HEADERS) as response:
                if response.status != 202:
                    if not await refused(response):
                        raise Violation(f"a message of /sse got {response.status}")
                    return None
            async for _, data in found:
                answer: dict[str, Any] = json.loads(data)
                if "method" in answer:
                    continue
                if answer["id"] != body["id"]:
                    raise Violation(f"an answer to {answer['id']!r}, not to {body['id']!r}")
                if "error" in answer:
                    check_error(answer["error"])
                    return None
                return answer
            raise Violation("a stream of /sse ended without the answer to what was accepted on it")

        if await ask(message("initialize", 0, **INITIALIZE)) is None:
            return
        for number in range(rng.randrange(1, 4)):
            sent = payload(rng)
            if (answer := await ask(tool("echo", number, **sent))) is None:
                return
            client.own(answer, sent)
            client.counts["sse result"] += 1
        if rng.random() < 0.5:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(rng.random() / 20):
                    await ask(tool(rng.choice(("never", "big")), 9, size=1_000_000))


async def rest(client: Client, rng: random.Random) -> None:
    """A tool by plain HTTP."""
    sent = payload(rng)
    url = f"{client.base}/api/v1/servers/{client.server}/tools/echo"
    async with client.http.post(url, data=_file(sent), headers=JSON_HEADERS) as response:
        if await refused(response):
            client.counts[str(response.status)] += 1
            return
        client.own({"result": await response.json()}, sent)
    client.counts["rest result"] += 1


async def ask(client: Client, rng: random.Random) -> None:
    """A call of a modern client that needs its user, who may never answer."""
    params: dict[str, Any] = {"name": "ask", "arguments": {"n": rng.random()}}
    for _ in range(4):
        answer = await client.modern_call(rng.choice(IDS), params, elicitation={}, sampling={}, roots={})
        if answer is None:
            return
        result = answer["result"]
        if result["resultType"] != "input_required":
            client.counts["asked and answered"] += 1
            return
        if rng.random() < NEVER_ANSWERED:
            client.counts["asked and never answered"] += 1
            return
        replies = {"elicitation/create": {"action": "decline"}, "sampling/createMessage": {"role": "assistant"}}
        params["inputResponses"] = {key: replies[each["method"]] for key, each in result["inputRequests"].items()}
        params["requestState"] = result["requestState"]
    raise Violation("a call asks its user without end")


async def reply(client: Client, rng: random.Random) -> None:
    """A call whose child asks on any stream of the session, which may be one that is cut: then nobody answers it.

    As long as its child waits for a person, no other call of the session has a limit, so the session has to go.
    """
    await client.open(rng)
    session = client.session
    try:
        async with asyncio.timeout(2):
            answer, _ = await client.request(tool("ask", 7))
    except TimeoutError:
        client.counts["asked and never answered"] += 1
        if session is not None:
            await client.end(session)
        return
    if answer is not None and client.server not in client.MODERN:
        told = answer["result"]["answer"]
        if "code" in told:
            check_error(told)  # a child of many asks none of them
        elif told["said"] not in client.replies:
            raise Violation(f"a child has got the answer of another: {answer!r:.300}")
        client.counts["replied"] += 1


async def resume(client: Client, rng: random.Random) -> None:
    """A stream that is cut in the middle, and goes on elsewhere with exactly what followed."""
    await client.open(rng)
    session, steps = client.session, rng.choice((20, 300))
    if session is None:
        return
    seen, last_id = 0, ""
    async with client.post(tool("progress", 7, "p", steps=steps)) as response:
        if await refused(response) or response.content_type != "text/event-stream":
            return
        stop = rng.randrange(1, steps)
        async for fields, data in numbered(response):
            body = json.loads(data)
            if "method" not in body:
                return
            last_id = fields["id"]
            if body["method"] == "notifications/progress":  # and not of another call
                seen = body["params"]["progress"]
            if seen >= stop:
                break
        response.close()
    if not last_id:
        return
    headers = {"Accept": "text/event-stream", "Mcp-Session-Id": session, "Last-Event-ID": last_id}
    async with client.http.get(client.url, headers=headers) as response:
        if response.status == 400:  # so much has come since that it is not there any more
            check_error((await response.json())["error"])
            return
        if await refused(response):
            return
        async for _, data in numbered(response):
            body = json.loads(data)
            if "method" not in body:
                if body["id"] != 7 or ("result" in body and seen != steps):
                    raise Violation(f"resumed after {last_id}, step {seen} of {steps}: {body!r:.200}")
                client.counts["resumed"] += 1
                return
            if body["method"] == "notifications/progress":
                if body["params"]["progress"] != seen + 1:
                    raise Violation(f"after step {seen}, resumed: {body!r:.200}")
                seen += 1
    if client.session == session:
        raise Violation(f"a resumed stream ended after step {seen} of {steps}, and its session lives")


async def tear(client: Client, rng: random.Random) -> None:
    """A session that is deleted, or loses its child, in the middle of streams."""
    await client.open(rng)
    session = client.session
    if session is None:
        return
    calls = [asyncio.create_task(client.request(tool("progress", n, n, steps=3_000), n)) for n in range(3)]
    pid = None
    if rng.random() < 0.5:
        async with client.http.get(f"{client.base}/api/v1/sessions/{session}") as response:
            pid = (await response.json())["pid"] if response.status == 200 else None
    await asyncio.sleep(rng.random() / 20)
    if pid is None:
        await client.delete(rng)
    else:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for _, progress in await asyncio.gather(*calls):
        if progress != list(range(1, len(progress) + 1)):
            raise Violation("steps of progress are missing before the end")
    client.counts["torn"] += 1


#: Each by its name in the weights of a run.
FACES: dict[str, Callable[[Client, random.Random], Awaitable[None]]] = {
    each.__name__: each for each in (sse, rest, ask, reply, resume, tear)
}
