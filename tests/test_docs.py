"""What users read is complete: each outside name stands where they look for it."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from bridge.cli.main import VERBS, main
from bridge.config.keys import KNOWN_KEYS
from bridge.config.settings import setting_names
from bridge.version import __version__

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
#: What users read.
PAGES = [Path("README.md"), Path("SECURITY.md"), *(p.relative_to(ROOT) for p in sorted((ROOT / "docs").rglob("*.md")))]
#: First words of heads of tables.
HEADS = {"promise", "threat"}
EXAMPLE = (ROOT / ".env.example").read_text()


@pytest.mark.parametrize("name", setting_names())
def test_a_setting_stands_in_the_readme_and_in_the_example(name: str) -> None:
    assert f"`{name}`" in README
    assert re.search(rf"^#?{name}=", EXAMPLE, re.MULTILINE)


def test_the_example_names_no_setting_that_does_not_exist() -> None:
    assert set(re.findall(r"^#?([A-Z_]+)=", EXAMPLE, re.MULTILINE)) == set(setting_names())


@pytest.mark.parametrize("key", sorted(KNOWN_KEYS - {"transport", "transportType", "url"}))
def test_a_key_of_servers_json_stands_in_the_readme(key: str) -> None:
    assert f"`{key}`" in README


@pytest.mark.parametrize("verb", ["serve", "check"])
def test_a_flag_stands_in_the_readme(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    flags = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert len(flags) >= 7
    for flag in flags:
        assert f"`{flag}" in README, flag


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_stands_in_the_readme(verb: str) -> None:
    assert re.search(rf"^\| `{verb}[ `]", README, re.MULTILINE)


def test_what_takes_the_place_of_flags_of_other_bridges_exists(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    ours = capsys.readouterr().out
    page = (ROOT / "docs/how-to/switching.md").read_text()
    cells = [row.rsplit(" | ", 1)[1] for row in page.splitlines() if row.startswith("| ")]
    spans = [span for cell in cells for span in re.findall(r"`([^`]+)`", cell)]
    flags = {flag for span in spans for flag in re.findall(r"^--[a-z-]+", span)}
    names = {name for span in spans for name in re.findall(r"^[A-Z]+_[A-Z_]+", span)}
    assert len(cells) > 12
    assert {flag for flag in flags if f"{flag} " not in ours} == set()
    assert names - set(setting_names()) == set()


def test_the_version_stands_in_the_changelog() -> None:
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("path", ["docs/reliability.md", "SECURITY.md"])
def test_each_test_that_a_promise_names_exists(path: str) -> None:
    page = (ROOT / path).read_text()
    names = re.findall(r"`(test_\w+)`", page)
    assert len(names) > 40
    written = "".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    defined = set(re.findall(r"^(?:async )?def (test_\w+)\(", written, re.MULTILINE))
    assert [name for name in names if name not in defined] == []
    table = page.partition("## Threats")[2] or page
    rows = [line for line in table.splitlines() if line.startswith("| ") and line.split()[1] not in HEADS]
    assert [row for row in rows if "`test_" not in row] == []


@pytest.mark.parametrize("path", [*map(str, PAGES)])
def test_links_lead_somewhere(path: str) -> None:
    file = ROOT / path
    for link, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", _without_code(file.read_text())):
        target = file.parent / link if link else file
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target.read_text()), f"{link}#{anchor}"


#: What programs write from one pattern for many cases.
MADE = {"docs/conformance.md", "docs/performance.md", "docs/reference/cli.md"}


@pytest.mark.parametrize("path", sorted({".env.example", *map(str, PAGES)} - MADE))
def test_no_sentence_stands_twice_on_a_page(path: str) -> None:
    text = re.sub(r"^```.*?^```|^\|.*?$", "", (ROOT / path).read_text(), flags=re.MULTILINE | re.DOTALL)
    words = " ".join(re.sub(r"^(#|\*) ?", "", line) for line in text.splitlines())
    begins = Counter(sentence[:60] for sentence in re.split(r"(?<=[.:;!?]) +", " ".join(words.split())))
    assert [begin for begin, times in begins.items() if times > 1 and len(begin) > 40] == []


def test_the_index_names_every_page() -> None:
    folder = ROOT / "docs"
    index = (folder / "README.md").read_text()
    pages = {page.relative_to(folder) for page in folder.rglob("*.md")} - {Path("README.md")}
    assert [str(page) for page in sorted(pages) if "decisions" not in page.parts and f"({page})" not in index] == []


def _without_code(page: str) -> str:
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", page, flags=re.MULTILINE | re.DOTALL)


def _anchors(page: str) -> set[str]:
    """What GitHub makes of headings."""
    heads = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
