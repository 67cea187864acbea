"""What is published: a wheel and an sdist that hold all they need, and run where nothing else is."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from bridge.version import __version__

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel and the sdist, by their endings."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    return {path.suffix: path for path in folder.iterdir()}


def tracked(folder: str) -> set[str]:
    listed = subprocess.run(["git", "ls-files", folder], cwd=ROOT, check=True, capture_output=True, text=True)
    return set(listed.stdout.split())


def test_the_wheel_holds_the_package_and_nothing_else(built: dict[str, Path]) -> None:
    with zipfile.ZipFile(built[".whl"]) as wheel:
        names = wheel.namelist()
    assert {name for name in names if name.startswith("bridge/")} == tracked("bridge")
    assert {name.split("/")[0] for name in names} == {"bridge", f"mcp_stdio_bridge-{__version__}.dist-info"}
    assert "bridge/py.typed" in names


def test_the_sdist_can_be_built_and_tested_from(built: dict[str, Path]) -> None:
    with tarfile.open(built[".gz"]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert tracked("bridge") | {"README.md", "LICENSE", "CHANGELOG.md", "servers.json", ".env.example"} <= names
    assert tracked("deploy") <= names


@pytest.mark.timeout(300)
def test_the_wheel_runs_in_a_clean_environment(built: dict[str, Path], tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    scripts = tmp_path / "venv/bin"
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    install = [scripts / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", built[".whl"]]
    subprocess.run(install, check=True, capture_output=True, timeout=200, env=environ)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [scripts / "mcp-bridge", *words]
        return subprocess.run(
            command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False
        )

    assert run("version").stdout == f"mcp-bridge {__version__}\n"
    assert run("--help").returncode == 0
    (tmp_path / "servers.json").write_text("{}")
    checked = run("check")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert run("ps").returncode == 3  # nothing runs, said in words
    imported = "import bridge.web.app, bridge.cli.serve"
    subprocess.run([scripts / "python", "-c", imported], cwd=tmp_path, env=environ, check=True, timeout=60)
