"""The folder chain is the message path, and imports go inward only."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "bridge"
INWARD = {
    "cli": {
        *("aio", "web", "auth", "cluster", "sessions", "stores", "children", "remote"),
        *("process", "protocol", "config", "observe"),
    },
    "web": {"auth", "cluster", "sessions", "children", "remote", "process", "protocol", "config", "observe"},
    "sessions": {"aio", "cluster", "children", "process", "protocol", "stores", "config", "observe"},
    "stores": {"config", "observe"},
    "children": {"remote", "process", "protocol", "config", "observe"},
    "remote": {"protocol"},
    "process": {"protocol"},
    "protocol": set(),
    "auth": {"aio", "config"},
    "aio": set(),
    "cluster": {"aio", "stores", "config"},
    "config": set(),
    "observe": set(),
}
#: Modules at the top that any layer may read.
ANYONE = {"version"}
IMPURE = {"asyncio", "time", "os", "logging", "aiohttp", "psutil", "threading", "socket", "subprocess", "random"}


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(str(node.module))
    return found


def modules(layer: str) -> list[Path]:
    return sorted((ROOT / layer).rglob("*.py"))


@pytest.mark.parametrize("layer", sorted(INWARD))
def test_a_layer_imports_only_further_in(layer: str) -> None:
    paths = modules(layer)
    assert paths
    for path in paths:
        ours = {name.split(".")[1] for name in imports(path) if name.startswith("bridge.")}
        assert ours <= INWARD[layer] | {layer} | ANYONE, path


def test_every_folder_is_a_layer() -> None:
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(INWARD)


def test_protocol_code_is_pure() -> None:
    for path in modules("protocol"):
        assert not {name.split(".")[0] for name in imports(path)} & IMPURE, path


@pytest.mark.parametrize("layer", sorted(INWARD))
def test_a_package_init_is_one_docstring(layer: str) -> None:
    [node] = ast.parse((ROOT / layer / "__init__.py").read_text()).body
    assert isinstance(node, ast.Expr)
    assert isinstance(node.value, ast.Constant)
