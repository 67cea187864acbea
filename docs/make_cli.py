"""Write ``reference/cli.md`` from the parsers of the command line: ``python docs/make_cli.py``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from bridge.cli.main import VERBS, parser_of

PAGE = Path(__file__).parent / "reference/cli.md"
HEAD = """# Command line

<!-- Generated from the parsers in bridge/cli. Do not edit; run: python docs/make_cli.py -->

Exit codes: 0 ok, 1 error, 2 usage or configuration, 3 no bridge is running, 4 it cannot serve that just now. Each verb
takes `--help`.
"""


def page() -> str:
    """Return the page as it ought to be."""
    [verbs] = _subparsers(parser_of(VERBS))
    return HEAD + "".join(_verb(name, parser) for name, parser in verbs.choices.items())


def _verb(name: str, parser: argparse.ArgumentParser) -> str:
    about = VERBS[name][1] if name in VERBS else parser.description or ""
    text = f"\n## {name}\n\n{about[:1].upper()}{about[1:]}.\n{_table(parser)}"
    is_laid_out = parser.formatter_class is argparse.RawDescriptionHelpFormatter
    text += f"\n```text\n{parser.epilog}\n```\n" if is_laid_out else f"\n{parser.epilog}\n" if parser.epilog else ""
    for actions in _subparsers(parser):
        summaries = {each.dest: each.help or "" for each in actions._choices_actions}
        for action, below in actions.choices.items():
            text += f"\n### {name} {action}\n\n{summaries[action][:1].upper()}{summaries[action][1:]}.\n"
            text += _table(below)
    return text


def _table(parser: argparse.ArgumentParser) -> str:
    rows = [_row(action) for action in parser._actions if action.dest != "help" and action.help != argparse.SUPPRESS]
    return "\n| | |\n|---|---|\n" + "".join(rows) if any(rows) else ""


def _row(action: argparse.Action) -> str:
    if isinstance(action, argparse._SubParsersAction):
        return ""
    value = _value(action)
    name = " ".join(f"`{each}{f' {value}' if value and action.nargs != 0 else ''}`" for each in action.option_strings)
    return f"| {name or f'`{value}`'} | {(action.help or '').replace('|', chr(92) + '|')} |\n"


def _value(action: argparse.Action) -> str:
    shown = action.metavar if isinstance(action.metavar, str) else None
    value = shown or ("{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper())
    return value if action.nargs not in ("*", "+") else f"{value}..."


def _subparsers(parser: argparse.ArgumentParser) -> Iterator[argparse._SubParsersAction[argparse.ArgumentParser]]:
    return (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())
