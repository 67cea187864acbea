"""Traces as a user turns them on: by OpenTelemetry's own variables, in the environment or in .env."""

from __future__ import annotations

import os
from pathlib import Path

import aiohttp

from tests.cli.conftest import Serve, run
from tests.collector import collectors
from tests.conftest import peer

ROOT = Path(__file__).parents[2]
PING = {"method": "ping"}


async def test_variables_in_the_env_file_say_where_and_how(tmp_path: Path, serve: Serve) -> None:
    async with collectors() as collector, aiohttp.ClientSession() as http:
        lines = [f"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT={collector.url}/there", "OTEL_SERVICE_NAME=the-bridge"]
        lines.append("OTEL_EXPORTER_OTLP_HEADERS=api-key=hunter2")
        (tmp_path / ".env").write_text("\n".join(lines))
        served = await serve(servers={"peer": peer(inheritEnv="all")})
        async with http.post(f"{served.url}/bridge/peer", json=PING) as response:
            assert response.status == 200
        call = {"method": "tools/call", "params": {"name": "environment", "arguments": {}}}
        async with http.post(f"{served.url}/bridge/peer", json=call) as response:
            assert "hunter2" not in await response.text()  # the collector's key is no business of servers
        assert await served.stop() == 0  # what waits is sent on the way out, and before its time
        assert [span.name for span in collector.spans] == ["ping", "tools/call environment"]
        assert collector.spans[0].resource["service.name"] == "the-bridge"
        assert (collector.paths[0], collector.headers[0]["api-key"]) == ("/there", "hunter2")


async def test_what_has_changed_of_them_needs_a_restart(tmp_path: Path, serve: Serve) -> None:
    name = "OTEL_EXPORTER_OTLP_ENDPOINT"
    (tmp_path / ".env").write_text(f"{name}=http://localhost:9\nOTEL_SERVICE_NAME=old\n")
    served = await serve(servers={"peer": peer(env={"NAME": "${OTEL_SERVICE_NAME}"})})
    where = ("--port", served.url.rpartition(":")[2])
    (tmp_path / ".env").write_text(f"{name}=http://localhost:10\nOTEL_SERVICE_NAME=new\n")
    code, out, _ = await run(tmp_path, "servers", "reload", *where)
    assert (code, out) == (0, f"restarted: peer\nneeds restart: {name}\n")


async def test_the_end_does_not_wait_for_a_collector_that_is_away(serve: Serve) -> None:
    async with collectors() as collector:
        away = collector.url
    served = await serve(servers={"peer": peer()}, OTEL_EXPORTER_OTLP_ENDPOINT=away)
    async with aiohttp.ClientSession() as http, http.post(f"{served.url}/bridge/peer", json=PING) as response:
        assert response.status == 200
    assert await served.stop() == 0
    log = "".join(served.lines)
    assert log.count("traces cannot be sent") == 1
    assert "Traceback" not in log


async def test_check_says_why_there_are_none(tmp_path: Path) -> None:
    (tmp_path / "servers.json").write_text("{}")
    where = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4317"}
    _, out, _ = await run(tmp_path, "check", **where, OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
    assert "note: OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc': no traces" in out
    _, out, _ = await run(tmp_path, "check", OTEL_EXPORTER_OTLP_ENDPOINT="localhost:4318")
    assert "note: OTEL_EXPORTER_OTLP_ENDPOINT has no http:// or https:// in front: no traces; set it to" in out
    traces = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://localhost:4318/v1/traces"}  # which wins
    _, out, _ = await run(tmp_path, "check", OTEL_EXPORTER_OTLP_ENDPOINT="localhost:4318", **traces)
    assert "in front" not in out
    for off in ({"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}, {}):
        _, out, _ = await run(tmp_path, "check", **where, **off)
        assert "traces" not in out


async def test_without_the_extra_it_serves_and_says_what_is_missing(tmp_path: Path, serve: Serve) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(
        "import sys\nsys.modules['opentelemetry.sdk'] = None\nsys.modules['opentelemetry.exporter'] = None\n"
    )
    settings = {"PYTHONPATH": f"{hidden}{os.pathsep}{ROOT}", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}
    served = await serve(servers={"peer": peer()}, **settings)
    assert any("pip install '.[otel]'" in line for line in served.lines)
    async with aiohttp.ClientSession() as http, http.post(f"{served.url}/bridge/peer", json=PING) as response:
        assert response.status == 200
