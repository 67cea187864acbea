"""mcp-server-git, published, on the Python SDK, with the SDK clients: each commits to a repository of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.interop.conftest import ALL_SDKS, PATIENCE, Bridge, Reports, run_all
from tests.interop.expected import check_course

pytestmark = [pytest.mark.slow, pytest.mark.timeout(4 * PATIENCE)]

FILE = "sonnet 18.txt"
MESSAGE = "Add Shakespeare's 18th: “Shall I compare thee …” \U0001f339"


def git(repo: Path, *args: str) -> str:
    """Ask git itself."""
    return subprocess.run(["git", "-C", repo, *args], check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout


def repo_of(served: Bridge, name: str) -> Path:
    return served.folder / "repos" / name


def make_repo(repo: Path) -> Path:
    """A repository with one commit, and one file that is in none."""
    repo.mkdir(parents=True)
    git(repo, "init", "-q", "-b", "main")
    git(repo, "config", "user.name", "Ada Lovelace")
    git(repo, "config", "user.email", "ada@example.org")
    git(repo, "config", "commit.gpgsign", "false")
    git(repo, "commit", "-q", "--allow-empty", "-m", "first")
    (repo / FILE).write_text("Shall I compare thee to a summer's day?\n", encoding="utf-8")
    return repo


@pytest.fixture(scope="module")
def commits(served: Bridge) -> Reports:
    return run_all(
        served,
        "git",
        "git",
        names=ALL_SDKS,
        options=lambda name: {"repo": str(make_repo(repo_of(served, name))), "files": [FILE], "message": MESSAGE},
    )


@pytest.mark.parametrize("name", ALL_SDKS)
def test_git(name: str, commits: Reports, served: Bridge) -> None:
    seen = commits[name].result()
    check_course(name, seen, served)
    assert {"git_add", "git_commit", "git_diff", "git_log", "git_status"} < set(seen["tools"])
    assert (
        f'Untracked files:\n  (use "git add <file>..." to include in what will be committed)\n\t{FILE}'
        in seen["before"]
    )
    assert seen["add"] == "Files staged successfully"
    repo = repo_of(served, name)
    head = git(repo, "rev-parse", "HEAD").strip()
    assert seen["commit"] == f"Changes committed successfully with hash {head}"
    assert "nothing to commit, working tree clean" in seen["after"]
    assert head in seen["log"]
    assert MESSAGE in seen["log"]
    assert git(repo, "log", "--format=%s", "--name-only").split("\n") == [MESSAGE, "", FILE, "first", ""]
