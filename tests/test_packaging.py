"""What is published: a wheel and an sdist that hold all they need, and run where nothing else is."""

from __future__ import annotations

import os
import re
import shutil
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


class Clean:
    """An environment with the wheel and nothing else."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder = folder
        self.wheel = wheel
        self.scripts = folder / "venv/bin"
        self.environ = {name: os.environ[name] for name in os.environ.keys() - {"PYTHONPATH", "VIRTUAL_ENV"}}
        venv.create(folder / "venv", with_pip=True)
        self.install("")

    def install(self, extras: str) -> None:
        """Install the wheel with ``[extras]``."""
        install = [self.scripts / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        command = [*install, f"{self.wheel}{extras}"]
        subprocess.run(command, check=True, capture_output=True, timeout=200, env=self.environ)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a verb to its end."""
        command = [self.scripts / "mcp-bridge", *words]
        return subprocess.run(
            command, cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=60, check=False
        )


@pytest.fixture
def clean(built: dict[str, Path], tmp_path: Path) -> Clean:
    return Clean(tmp_path, built[".whl"])


@pytest.mark.timeout(300)
def test_the_wheel_runs_in_a_clean_environment(clean: Clean) -> None:
    assert clean.run("version").stdout == f"mcp-bridge {__version__}\n"
    assert clean.run("--help").returncode == 0
    (clean.folder / "servers.json").write_text("{}")
    checked = clean.run("check")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert clean.run("ps").returncode == 3  # nothing runs, said in words
    imported = [clean.scripts / "python", "-c", "import bridge.web.app, bridge.cli.serve"]
    subprocess.run(imported, cwd=clean.folder, env=clean.environ, check=True, timeout=60)


@pytest.mark.timeout(300)
def test_the_shipped_servers_run_where_the_bridge_is_installed_as_the_readme_says(clean: Clean) -> None:
    shutil.copy(ROOT / "servers.json", clean.folder)
    [without_make] = re.findall(r"^Without make: (.*?);", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    [extras] = set(re.findall(r"install '\.(\[[^\]]+\])'", without_make))
    missing = clean.run("doctor", "demo")
    assert missing.returncode == 1
    assert f"pip install '.{extras}'" in missing.stdout  # whole, though last words are cut
    clean.install(extras)
    found = clean.run("doctor", "demo", "time")
    assert (found.returncode, found.stdout.splitlines()[-1]) == (0, "0 error(s), 0 warning(s)"), found.stdout
