"""``/mcp``: published servers behind one URL, and every SDK client in its own era: each tool, prompt and resource."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.interop.conftest import ALL_SDKS, AUTO, PATIENCE, Bridge, Reports, each, finish, servers
from tests.interop.test_git import FILE, make_repo

pytestmark = [pytest.mark.slow, pytest.mark.timeout(8 * PATIENCE)]

SERVERS = ("everything", "filesystem", "memory", "time", "git")
DEMO = "demo://resource"
#: What the server itself refuses here: a task, which no client asks for; a URL, which nobody opens; nothing to commit.
REFUSED = {"everything__simulate-research-query", "everything__trigger-url-elicitation", "git__git_commit"}


def options(folder: Path, name: str) -> dict[str, Any]:
    """What tools and prompts want to have. Each client has files, a repository and an entity of its own."""
    files = folder / "files" / name
    files.mkdir()
    for note in ("note.txt", "old.txt"):
        (files / note).write_text("one\ntwo\n")
    (files / "dot.png").write_bytes(b"no picture, but nobody looks")
    note, here = {"path": str(files / "note.txt")}, {"path": str(files)}
    repo = {"repo_path": str(make_repo(folder / "repos" / name))}
    ada, loves = (
        {"name": name, "entityType": "client", "observations": []},
        {"from": name, "to": name, "relationType": "is"},
    )
    tools: dict[str, dict[str, Any]] = {
        "everything": {
            "echo": {"message": "Grüße"},
            "get-annotated-message": {"messageType": "success"},
            "get-structured-content": {"location": "Chicago"},
            "get-sum": {"a": 2, "b": 3},
            "gzip-file-as-resource": {"name": "x.gz", "data": "data:text/plain,hello"},
            "trigger-long-running-operation": {"duration": 0.2, "steps": 2},
            "trigger-sampling-request": {"prompt": "say cheese"},
            "trigger-sampling-request-async": {"prompt": "say cheese"},
        },
        "filesystem": {
            **dict.fromkeys(("read_file", "read_text_file", "get_file_info"), note),
            **dict.fromkeys(("list_directory", "list_directory_with_sizes", "directory_tree"), here),
            "read_media_file": {"path": str(files / "dot.png")},
            "read_multiple_files": {"paths": [note["path"]]},
            "write_file": {**note, "content": "three\n"},
            "edit_file": {**note, "edits": [{"oldText": "three", "newText": "four"}]},
            "create_directory": {"path": str(files / "new")},
            "move_file": {"source": str(files / "old.txt"), "destination": str(files / "moved.txt")},
            "search_files": {**here, "pattern": "*.txt"},
        },
        "memory": {
            "create_entities": {"entities": [ada, {**ada, "name": f"{name} 2"}]},
            "create_relations": {"relations": [loves]},
            "delete_relations": {"relations": [loves]},
            "add_observations": {"observations": [{"entityName": name, "contents": ["is here"]}]},
            "delete_entities": {"entityNames": [f"{name} 2"]},
            "delete_observations": {"deletions": [{"entityName": name, "observations": ["is gone"]}]},
            "search_nodes": {"query": name},
            "open_nodes": {"names": [name]},
        },
        "time": {
            "get_current_time": {"timezone": "Asia/Tokyo"},
            "convert_time": {"source_timezone": "Asia/Tokyo", "time": "16:30", "target_timezone": "Asia/Kolkata"},
        },
        "git": {
            **dict.fromkeys(("git_status", "git_diff_unstaged", "git_diff_staged", "git_reset", "git_log"), repo),
            "git_diff": {**repo, "target": "main"},
            "git_commit": {**repo, "message": "nothing"},
            "git_add": {**repo, "files": [FILE]},
            "git_create_branch": {**repo, "branch_name": "other"},
            "git_checkout": {**repo, "branch_name": "other"},
            "git_show": {**repo, "revision": "main"},
            "git_branch": {**repo, "branch_type": "local"},
        },
    }
    return {
        "tools": {f"{server}__{tool}": given for server, found in tools.items() for tool, given in found.items()},
        "prompts": {
            "everything__args-prompt": {"city": "Paris"},
            "everything__completable-prompt": {"department": "Engineering", "name": "Alice"},
            "everything__resource-prompt": {"resourceType": "Text", "resourceId": "1"},
        },
        "resources": [f"{DEMO}/dynamic/text/1", f"bridge://everything/{DEMO}/static/document/features.md"],
    }


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    folder = tmp_path_factory.mktemp("all")
    entries = {id_: entry for id_, entry in servers(folder).items() if id_ in SERVERS}
    patient = {"AGGREGATE_PATIENCE_MS": "60000"}  # five servers at once, and a busy machine
    with Bridge.running(folder, entries, patient) as found:
        yield found


@pytest.fixture(scope="module")
def tours(bridge: Bridge) -> Reports:
    def tour(name: str) -> dict[str, Any]:
        client = ALL_SDKS[name].start(f"{bridge.url}/mcp", "tour", **options(bridge.folder, name))
        return finish(client, patience=4 * PATIENCE)

    return each(tour, ALL_SDKS)


@pytest.mark.parametrize("name", ALL_SDKS)
def test_every_tool_prompt_and_resource_of_each_server(name: str, tours: Reports) -> None:
    seen = tours[name].result()
    assert "error" not in seen, seen
    assert (seen["protocol"], seen["server"]) == ("2026-07-28" if name in AUTO else "2025-11-25", "mcp-bridge")
    tools = seen["tools"]
    count = {server: sum(tool.startswith(f"{server}__") for tool in tools) for server in SERVERS}
    assert count == {"everything": count["everything"], "filesystem": 14, "memory": 9, "time": 2, "git": 12}
    assert count["everything"] >= 15
    failed = {tool: result for tool, result in tools.items() if "raised" in result or result.get("isError")}
    assert failed.keys() <= REFUSED, failed
    assert tools["everything__echo"]["content"] == [{"type": "text", "text": "Echo: Grüße"}]
    assert "sampled <" in json.dumps(tools["everything__trigger-sampling-request"])
    assert "Ada Lovelace" in json.dumps(tools["everything__trigger-elicitation-request"])
    assert tools["filesystem__read_text_file"]["content"][0]["text"] == "one\ntwo\n"
    assert [each["name"] for each in tools["memory__open_nodes"]["structuredContent"]["entities"]] == [name]
    assert "13:00" in tools["time__convert_time"]["content"][0]["text"]
    assert FILE in json.dumps(tools["git__git_status"])
    assert len(seen["prompts"]) == 4
    assert not [each for each in seen["prompts"].values() if not each.get("messages")], seen["prompts"]
    assert len(seen["resources"]) >= 10
    assert "memory://knowledge-graph" in seen["resources"]
    assert not [each for each in seen["resources"].values() if not each.get("contents")], seen["resources"]
