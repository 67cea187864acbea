"""``/mcp/{server_id}`` over real HTTP, with real children."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from bridge.children import connection
from tests.conftest import ACCEPT, INITIALIZE, Running, StartBridge, events, in_time, last, message, peer, tool


async def test_initialize_is_passed_on_verbatim_and_opens_a_session(bridge: Running) -> None:
    params = {**INITIALIZE, "capabilities": {"roots": {"listChanged": True}}, "x-unknown": [1, "é"]}
    async with bridge.post("/mcp/peer", message("initialize", "a", **params)) as response:
        assert response.status == 200
        assert response.content_type == "application/json"
        answer = await response.json()
    assert answer["id"] == "a"
    assert answer["result"]["saw"] == params
    assert len(response.headers["Mcp-Session-Id"]) >= 32


async def test_each_session_has_a_child_of_its_own(bridge: Running) -> None:
    one, two = await bridge.session(), await bridge.session()
    assert (await one.call("count"))["result"] == {"count": 1}
    assert (await one.call("count"))["result"] == {"count": 2}
    assert (await two.call("count"))["result"] == {"count": 1}


@pytest.mark.parametrize("id_", [7, "7", "seven", 2**53, ""])
async def test_an_answer_carries_the_clients_own_id(bridge: Running, id_: Any) -> None:
    session = await bridge.session()
    answer = await session.call("echo", id_, text="hello")
    assert answer == {"jsonrpc": "2.0", "id": id_, "result": {"text": "hello"}}


async def test_an_error_of_the_server_rides_inside_200(bridge: Running) -> None:
    session = await bridge.session()
    assert (await session.call("nope"))["error"]["code"] == -32602


async def test_progress_comes_before_the_answer_as_sse_with_the_clients_own_token(bridge: Running) -> None:
    session = await bridge.session()
    async with session.post(tool("progress", "id", token="mine", steps=3)) as response:
        assert response.content_type == "text/event-stream"
        assert response.headers["Cache-Control"] == "no-cache, no-transform"
        assert response.headers["X-Accel-Buffering"] == "no"
        got = [event async for event in events(response)]
    assert [event["params"] for event in got[:-1]] == [
        {"progressToken": "mine", "progress": step} for step in (1, 2, 3)
    ]
    assert got[-1]["id"] == "id"


async def test_progress_of_a_task_comes_behind_its_answer(bridge: Running) -> None:
    session = await bridge.session(protocolVersion="2025-11-25")

    async def heard(name: str, **arguments: Any) -> list[Any]:
        async with session.post(tool(name, 2, key="t", **arguments)) as response:
            return [event["params"] async for event in events(response) if "method" in event]

    async with session.get() as response, in_time():
        stream = events(response)
        assert (await session.call("begin", token="mine", key="t", steps=2))["result"]["task"]["taskId"] == "t"
        coming = [(await anext(stream))["params"] for _ in range(2)]
    assert coming == [{"progressToken": "mine", "progress": step} for step in (1, 2)]
    assert await heard("say", progress=3) == [{"progressToken": "mine", "progress": 3}]
    assert await heard("finish") == [{"taskId": "t", "status": "completed", "ttl": None}]
    assert await heard("say", progress=4) == []


async def test_twenty_clients_with_the_same_ids_and_tokens_each_get_their_own(bridge: Running) -> None:
    sessions = await asyncio.gather(*(bridge.session() for _ in range(20)))

    async def one(session: Any, steps: int) -> None:
        for _ in range(3):
            async with session.post(tool("progress", 7, token="p", steps=steps)) as response:
                got = [event async for event in events(response)]
            assert [event["params"]["progress"] for event in got[:-1]] == list(range(1, steps + 1))
            assert {event["params"]["progressToken"] for event in got[:-1]} == {"p"}
            assert got[-1]["id"] == 7
            assert (await session.call("echo", 7, whose=session.id))["result"] == {"whose": session.id}

    await asyncio.gather(*(one(session, steps) for steps, session in enumerate(sessions, start=1)))


async def test_calls_of_one_session_with_the_same_id_each_get_their_own_answer(bridge: Running) -> None:
    session = await bridge.session()
    answers = await asyncio.gather(*(session.call("echo", 1, number=number) for number in range(50)))
    assert [answer["result"]["number"] for answer in answers] == list(range(50))


async def test_calls_may_end_out_of_order(bridge: Running) -> None:
    session = await bridge.session()
    async with session.post(tool("wait", 1, key="k")) as waiting:  # its log message shows that it has begun
        await session.call("release", 1, key="k")
        assert (await last(waiting))["result"] == {"released": "k"}


async def test_a_question_of_the_server_is_asked_and_answered(bridge: Running) -> None:
    session = await bridge.session(capabilities={"elicitation": {}})
    async with session.post(tool("ask", 1)) as response:
        stream = events(response)
        question = await anext(stream)
        assert question["method"] == "elicitation/create"
        reply = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"n": 1}}}
        async with session.post(reply) as accepted:
            assert accepted.status == 202
            assert await accepted.read() == b""
        assert (await anext(stream))["result"] == {"answer": {"action": "accept", "content": {"n": 1}}}
        async with session.post(reply) as again:  # an answer too late harms nobody
            assert again.status == 202


async def test_a_question_that_the_client_did_not_offer_to_answer_is_refused_to_the_server(bridge: Running) -> None:
    session = await bridge.session(capabilities={"sampling": {}})
    assert (await session.call("ask"))["result"]["answer"]["code"] == -32601


async def test_a_question_can_only_be_answered_in_the_session_it_was_asked_in(bridge: Running) -> None:
    asked, stranger = await bridge.session(), await bridge.session()
    async with asked.post(tool("ask", 1)) as response:
        stream = events(response)
        reply = {"jsonrpc": "2.0", "id": (await anext(stream))["id"], "result": {"who": "stranger"}}
        async with stranger.post(reply) as dropped:
            assert dropped.status == 202
        async with asked.post({**reply, "result": {"who": "owner"}}) as accepted:
            assert accepted.status == 202
        assert (await anext(stream))["result"] == {"answer": {"who": "owner"}}


async def test_what_belongs_to_no_request_comes_on_the_get_stream(bridge: Running) -> None:
    session = await bridge.session()
    async with session.get() as response:
        assert response.status == 200
        stream = events(response)
        assert "result" in await session.call("list_changed")
        assert (await anext(stream))["method"] == "notifications/tools/list_changed"
        await session.call("ask_later")  # roots/list, after its request was answered or on its stream


async def test_what_nobody_listened_to_waits_for_a_get_stream(bridge: Running) -> None:
    session = await bridge.session()
    await session.call("list_changed")
    async with session.get() as response:
        assert (await anext(events(response)))["method"] == "notifications/tools/list_changed"


async def test_a_cancellation_reaches_the_child_under_the_childs_own_id(bridge: Running) -> None:
    session = await bridge.session()
    async with session.post(tool("wait", "mine", key="k")) as waiting:
        async with session.post(message("notifications/cancelled", requestId="mine", reason="bored")) as response:
            assert response.status == 202
        [seen] = (await session.call("cancelled"))["result"]["cancelled"]
        assert seen["reason"] == "bored"
        assert isinstance(seen["requestId"], int)
        await session.call("release", key="k")
        assert (await last(waiting))["id"] == "mine"


async def test_a_cancelled_call_that_nobody_answers_ends_and_holds_nothing(
    bridge: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CANCEL_PATIENCE", 0, raising=False)
    session = await bridge.session()
    async with session.post(tool("wait", "mine", key="k")) as waiting:
        for _ in range(2):
            async with session.post(message("notifications/cancelled", requestId="mine")) as response:
                assert response.status == 202
        async with in_time():
            answer = await last(waiting)
    assert (answer["id"], answer["error"]["code"]) == ("mine", -32800)
    [child] = bridge.service.core.registry.children()
    [entry] = bridge.service.core.stream_pool.entries()
    assert (child.connection.exchanges, entry.in_use) == ([], 0)
    await session.call("release", key="k")  # an answer after all, which nobody sees
    assert (await session.call("echo", "mine", n=1))["result"] == {"n": 1}


async def test_a_client_that_hangs_up_does_not_cancel_its_call(bridge: Running) -> None:
    session = await bridge.session()
    async with session.post(tool("wait", 1, key="k")) as response:
        response.close()
    assert (await session.call("cancelled"))["result"] == {"cancelled": []}
    assert (await session.call("release", key="k"))["result"] == {}


async def test_delete_ends_the_session_and_its_process(bridge: Running) -> None:
    session = await bridge.session()
    pid = (await session.call("pid"))["result"]["pid"]
    [child] = bridge.service.core.registry.children()
    async with session.delete() as response:
        assert response.status == 204
    async with session.delete() as response:
        assert response.status == 404
    async with session.post(tool("echo")) as response:
        assert response.status == 404
        assert "the client deleted it" in (await response.json())["error"]["message"]
    await child.ended.wait()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_child_killed_in_mid_call_ends_that_call_and_only_its_session(bridge: Running) -> None:
    killed, other = await bridge.session(), await bridge.session()
    pid = (await killed.call("pid"))["result"]["pid"]
    async with killed.post(tool("wait", "mine", key="k")) as waiting:
        os.kill(pid, 9)
        async with in_time():
            answer = await last(waiting)
    assert answer["id"] == "mine"
    assert "killed by signal 9" in answer["error"]["message"]
    async with killed.post(tool("echo")) as response:
        assert response.status == 404
        assert "killed by signal 9" in (await response.json())["error"]["message"]
    assert (await other.call("echo", text="fine"))["result"] == {"text": "fine"}
    assert "result" in await (await bridge.session()).call("count")


async def test_a_child_that_ends_by_itself_says_its_last_words(bridge: Running) -> None:
    session = await bridge.session()
    answer = await session.call("die", code=3)
    assert "exited with code 3" in answer["error"]["message"]
    assert "these are my last words" in answer["error"]["message"]


async def test_an_exit_is_seen_although_a_grandchild_holds_the_pipe(bridge: Running) -> None:
    session = await bridge.session()
    async with in_time():
        answer = await session.call("die_with_grandchild")
    assert "exited with code 7" in answer["error"]["message"]


async def test_a_child_that_closes_its_stdout_has_ended(bridge: Running) -> None:
    session = await bridge.session()
    async with in_time():
        answer = await session.call("close_stdout")
    assert "closed its output" in answer["error"]["message"]


async def test_what_is_no_json_rpc_on_stdout_is_skipped(bridge: Running) -> None:
    session = await bridge.session()
    assert (await session.call("babble"))["result"] == {}
    assert (await session.call("echo", a=1))["result"] == {"a": 1}


async def test_an_answer_over_the_cap_fails_that_request_only(start_bridge: StartBridge) -> None:
    bridge = await start_bridge(MAX_MESSAGE_BYTES=100_000)
    session = await bridge.session()
    assert "MAX_MESSAGE_BYTES" in (await session.call("big", size=200_000))["error"]["message"]
    assert len((await session.call("big", size=50_000))["result"]["text"]) == 50_000


async def test_a_megabyte_passes_both_ways_untouched(bridge: Running) -> None:
    session = await bridge.session()
    text = "é\u2028" + "x" * 1_000_000
    assert (await session.call("echo", text=text))["result"] == {"text": text}


async def test_silence_beyond_the_request_timeout_ends_the_call_and_cancels_it(
    start_bridge: StartBridge, caplog: pytest.LogCaptureFixture
) -> None:
    bridge = await start_bridge(REQUEST_TIMEOUT_MS=500)
    session = await bridge.session()
    answer = await session.call("never", 5)
    assert "neither answer nor progress for 0.5 s" in answer["error"]["message"]
    assert "for 0.5 s (requestTimeout); its tools/call is given up" in caplog.text
    assert len((await session.call("cancelled"))["result"]["cancelled"]) == 1


async def test_a_server_that_does_not_start_is_reported_with_its_reason(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"gone": {"command": "/no/such/program"}, "ill": {"command": "false"}})
    async with bridge.post("/mcp/gone", message("initialize", 1, **INITIALIZE)) as response:
        assert response.status == 200
        assert "'/no/such/program' not found" in (await response.json())["error"]["message"]
    async with bridge.post("/mcp/ill", message("initialize", 1, **INITIALIZE)) as response:
        assert "exited with code 1" in (await response.json())["error"]["message"]
        assert "Mcp-Session-Id" not in response.headers


async def test_a_server_that_ends_during_initialize_is_an_error_in_the_log(
    start_bridge: StartBridge, caplog: pytest.LogCaptureFixture
) -> None:
    bridge = await start_bridge({"ill": {"command": "sh", "args": ["-c", "read line; echo no licence >&2; exit 4"]}})
    async with bridge.post("/mcp/ill", message("initialize", 1, **INITIALIZE)) as response:
        assert "no licence" in await response.text()
    await bridge.service.stop()
    [how] = [record for record in caplog.records if "ended" in record.message]  # and nothing says it once more
    assert how.levelname == "ERROR"
    assert how.message.endswith("ended by itself: it exited with code 4; last words: no licence")


async def test_who_posts_a_form_as_curl_does_is_told_how_not_to(bridge: Running) -> None:
    async with bridge.http.post(f"{bridge.url}/bridge/peer", data=b"{}", headers=FORM) as response:
        assert response.status == 415
        assert "must be application/json (curl: --json instead of -d)" in await response.text()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "Content-Type is missing, must be application/json"),
        ({"Content-Type": "application/json,text/plain"}, "Content-Type is 'application/json,text/plain', must be"),
    ],
)
async def test_a_content_type_is_told_as_it_came(bridge: Running, given: dict[str, str], told: str) -> None:
    sent = bridge.http.post(
        f"{bridge.url}/mcp/peer", data=b"{}", headers={"Accept": ACCEPT, **given}, skip_auto_headers=["Content-Type"]
    )
    async with sent as response:
        assert response.status == 415
        assert told in await response.text()


async def test_the_child_gets_a_safe_environment(start_bridge: StartBridge) -> None:
    bridge = await start_bridge({"peer": peer(env={"MINE": "1"})}, ACCESS_TOKEN="hush")
    bridge.http.headers["Authorization"] = "Bearer hush"
    environment = (await (await bridge.session()).call("environment"))["result"]
    assert environment["MINE"] == "1"
    assert "hush" not in environment.values()


FORM = {"Content-Type": "application/x-www-form-urlencoded"}
POST = "/mcp/peer"
RIGHT = message("tools/list", 1)


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "code"),
    [
        ("/mcp/nobody", RIGHT, {}, 404, -32600),
        ("/nowhere", RIGHT, {}, 404, -32600),
        (POST, RIGHT, {"Mcp_Session_Id": "unknown"}, 404, -32001),
        (POST, message("initialize", 1, **INITIALIZE), {"Mcp_Session_Id": "unknown"}, 404, -32001),
        (POST, RIGHT, {"Content_Type": "text/plain"}, 415, -32600),
        (POST, RIGHT, {"Accept": "text/html"}, 406, -32600),
        (POST, RIGHT, {"Accept": "application/json"}, 406, -32600),
        (POST, b"{", {}, 400, -32700),
        (POST, b"\xff", {}, 400, -32700),
        (POST, b"", {}, 400, -32700),
        (POST, b'{"params":' + b"[" * 20_000, {}, 400, -32700),
        (POST, [RIGHT], {}, 400, -32000),
        (POST, {"id": 1}, {}, 400, -32600),
        (POST, {"jsonrpc": "2.0", "id": None, "method": "ping"}, {}, 400, -32600),
        (POST, RIGHT, {"MCP_Protocol_Version": "1999-01-01"}, 400, -32602),
        (POST, RIGHT, {"MCP_Protocol_Version": "2026-07-28"}, 400, -32602),
        (POST, RIGHT, {"Origin": "http://evil.example"}, 403, -32600),
        (POST, RIGHT, {"Host": "evil.example"}, 403, -32600),
    ],
)
async def test_a_bad_request_gets_its_status_and_a_json_rpc_error(
    bridge: Running, path: str, body: Any, headers: dict[str, str], status: int, code: int
) -> None:
    async with bridge.post(path, body, **headers) as response:
        assert response.status == status, await response.text()
        answer = await response.json()
    assert answer["jsonrpc"] == "2.0"
    assert answer["error"]["code"] == code
    assert answer["error"]["message"]


async def test_an_error_names_the_requests_id_where_it_is_known(bridge: Running) -> None:
    async with bridge.post(POST, message("tools/list", "my id")) as response:
        assert (await response.json())["id"] == "my id"


async def test_a_method_that_is_not_served_names_those_that_are(bridge: Running) -> None:
    async with bridge.http.put(bridge.url + POST) as response:
        assert response.status == 405
        assert set(response.headers["Allow"].split(",")) == {"GET", "POST", "DELETE"}


async def test_a_body_over_the_limit_is_413(start_bridge: StartBridge) -> None:
    bridge = await start_bridge(MAX_REQUEST_BYTES=1024)
    async with bridge.post(POST, message("ping", 1, text="x" * 2000)) as response:
        assert response.status == 413
        assert "MAX_REQUEST_BYTES" in (await response.json())["error"]["message"]


async def test_get_wants_a_session_and_an_event_stream(bridge: Running) -> None:
    async with bridge.http.get(bridge.url + POST, headers={"Accept": "text/event-stream"}) as response:
        assert response.status == 400
    async with bridge.http.get(bridge.url + POST, headers={"Accept": "application/json"}) as response:
        assert response.status == 406


async def test_a_token_is_wanted_when_there_is_one_except_for_health(start_bridge: StartBridge) -> None:
    bridge = await start_bridge(ACCESS_TOKEN="sesame")
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic sesame"}):
        async with bridge.post(POST, RIGHT, **headers) as response:
            assert response.status == 401
            assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert await bridge.get("/health") == {"status": "ok"}
    bridge.http.headers["Authorization"] = "Bearer sesame"
    assert "result" in await (await bridge.session()).call("count")


@pytest.mark.parametrize("origin", ["http://localhost:5173", "https://app.example"])
async def test_allowed_origins_come_in(start_bridge: StartBridge, origin: str) -> None:
    bridge = await start_bridge(ALLOWED_ORIGINS="https://app.example,http://localhost:5173")
    async with bridge.post(POST, message("initialize", 1, **INITIALIZE), Origin=origin) as response:
        assert response.status == 200


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "[::1]"])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_pages_of_this_machine_come_in_from_the_port_of_the_bridge_alone(
    bridge: Running, scheme: str, name: str
) -> None:
    own, mapped = bridge.url.rpartition(":")[2], "localhost:8080"
    cases = [(f":{own}", None, 200), (":9", None, 403), ("", None, 403), (":8080", mapped, 200), ("", "localhost", 200)]
    for port, host, status in cases:
        if (host, scheme) == ("localhost", "https"):
            continue  # its port is 443, and that of such a Host 80
        headers = {"Origin": f"{scheme}://{name}{port}", **({} if host is None else {"Host": host})}
        async with bridge.http.get(f"{bridge.url}/servers", headers=headers) as response:
            assert response.status == status, headers
            assert ("Access-Control-Allow-Origin" in response.headers) is (status == 200)
            assert status == 200 or "ALLOWED_ORIGINS" in await response.text()


async def test_over_the_limit_of_children_it_is_503_with_retry_after(start_bridge: StartBridge) -> None:
    bridge = await start_bridge(MAX_CHILDREN=1)
    busy = await bridge.session()
    async with busy.get(), bridge.post(POST, message("initialize", 1, **INITIALIZE)) as response:
        assert response.status == 503
        assert int(response.headers["Retry-After"]) > 0
        assert "MAX_CHILDREN" in (await response.json())["error"]["message"]
