"""``mcp-bridge completion``: what a shell needs to complete verbs, flags and server ids.

Scripts are made from the parsers, so they know what this version knows. Server ids come from ``completion ids``, which
only reads the servers file, because a shell asks it at each Tab.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from bridge.cli.options import add_address, settings_of
from bridge.config.entry import ID
from bridge.config.errors import ConfigError
from bridge.config.jsonfile import parse_json
from bridge.config.servers import TABLE_KEYS

SHELLS = ("bash", "zsh", "fish")
#: Where its script goes.
_PLACES = """\
to have it complete:
  bash  mcp-bridge completion bash > ~/.local/share/bash-completion/completions/mcp-bridge
  zsh   source <(mcp-bridge completion zsh)    # in ~/.zshrc
  fish  mcp-bridge completion fish > ~/.config/fish/completions/mcp-bridge.fish"""
#: Arguments whose values are server ids, by the name that their verb gives them.
_SERVERS = frozenset({"SERVER"})
#: Verbs of which further words are server ids, after the first that is no flag.
_ID_VERBS = frozenset({"servers", "remove"})


@dataclass(frozen=True, slots=True)
class Word:
    """One word that may follow a verb, and what it means."""

    text: str
    about: str = ""


@dataclass(frozen=True, slots=True)
class Verb:
    """What may follow one verb. ``takes_ids``: server ids too."""

    name: str
    about: str
    flags: tuple[Word, ...]
    words: tuple[Word, ...]
    takes_ids: bool


class _Shells(tuple[str, ...]):
    """What is offered. The scripts themselves ask for ``ids``, which is no shell."""

    __slots__ = ()

    def __contains__(self, word: object) -> bool:
        return word == "ids" or super().__contains__(word)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words after ``completion``."""
    parser.epilog, parser.formatter_class = _PLACES, argparse.RawDescriptionHelpFormatter
    add_address(parser)
    parser.add_argument("shell", choices=_Shells(SHELLS), help="the shell")


def run(options: argparse.Namespace) -> int:
    """Print the script; return the exit code."""
    if options.shell == "ids":
        for server in _ids(options):
            print(server)
        return 0
    from bridge.cli.main import VERBS, parser_of

    verbs = _verbs(parser_of(VERBS.keys()))
    print({"bash": _bash, "zsh": _zsh, "fish": _fish}[options.shell](verbs))
    return 0


def _ids(options: argparse.Namespace) -> list[str]:
    """The ids of the servers file; none where it cannot be read, because a Tab is no place for errors.

    What is no id is left out: bash expands the words that it is given, so ``$(...)`` would run in whose folder one is.
    """
    try:
        settings, _ = settings_of(options)
        text = settings.servers_inline or settings.servers_file.read_text(encoding="utf-8-sig")
        document = parse_json(text, "servers")
    except (ConfigError, OSError, UnicodeDecodeError):
        return []
    if not isinstance(document, dict):
        return []
    table = next((document[key] for key in TABLE_KEYS if key in document), document)
    return [server for server in table if ID.fullmatch(server)] if isinstance(table, dict) else []


def _verbs(parser: argparse.ArgumentParser) -> list[Verb]:
    [choices] = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    abouts = {action.dest: action.help or "" for action in choices._choices_actions}
    return [_verb(name, abouts.get(name, ""), one) for name, one in choices.choices.items()]


def _verb(name: str, about: str, parser: argparse.ArgumentParser) -> Verb:
    flags: list[Word] = []
    words: list[Word] = []
    takes_ids = name in _ID_VERBS
    for action in parser._actions:
        if action.option_strings:
            text = (action.help or "").replace("%%", "%")
            flags.append(Word(action.option_strings[-1], text))
        elif isinstance(action, argparse._SubParsersAction):
            words += [Word(each.dest, each.help or "") for each in action._choices_actions]
        elif action.choices is not None:
            words += [Word(str(choice)) for choice in action.choices]
        elif action.metavar in _SERVERS:
            takes_ids = True
    return Verb(name, about, tuple(flags), tuple(words), takes_ids)


def _texts(words: tuple[Word, ...]) -> str:
    return " ".join(word.text for word in words)


def _bash(verbs: list[Verb]) -> str:
    cases = "\n".join(
        f'    {verb.name}) flags="{_texts(verb.flags)}"; words="{_texts(verb.words)}"; ids={int(verb.takes_ids)} ;;'
        for verb in verbs
    )
    return f"""# bash completion for mcp-bridge; use it by: source <(mcp-bridge completion bash)
_mcp_bridge() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" flags="" words="" ids=0
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "{" ".join(verb.name for verb in verbs)} --help" -- "$current"))
    return
  fi
  case "${{COMP_WORDS[1]}}" in
{cases}
  esac
  case "${{COMP_WORDS[COMP_CWORD-1]}}" in
    --env-file|--config|-c|--file|--ssl-*file|--cwd|--directory) return ;;  # files, which bash offers by itself
  esac
  if [[ "$current" == -* ]]; then
    COMPREPLY=($(compgen -W "$flags" -- "$current"))
    return
  fi
  if [ "$COMP_CWORD" -eq 2 ] || [ -z "$words" ]; then
    COMPREPLY=($(compgen -W "$words" -- "$current"))
  fi
  if [ "$ids" -eq 1 ]; then
    COMPREPLY+=($(compgen -W "$(mcp-bridge completion ids 2>/dev/null)" -- "$current"))
  fi
}}
complete -o default -F _mcp_bridge mcp-bridge"""


def _zsh(verbs: list[Verb]) -> str:
    names = " ".join(_quoted(f"{verb.name}:{verb.about}") for verb in verbs)
    cases = "\n".join(
        f"    {verb.name}) flags=({_described(verb.flags)}); after=({_described(verb.words)})\n"
        f"      ids={int(verb.takes_ids)} ;;"
        for verb in verbs
    )
    return f"""#compdef mcp-bridge
# zsh completion for mcp-bridge; use it by: source <(mcp-bridge completion zsh)
_mcp_bridge() {{
  local -a verbs flags after servers
  local ids=0
  verbs=({names})
  if (( CURRENT == 2 )); then
    _describe verb verbs
    return
  fi
  case "$words[2]" in
{cases}
  esac
  case "$words[CURRENT-1]" in
    --env-file|--config|-c|--file|--ssl-*file|--cwd|--directory) _files; return ;;
  esac
  if [[ "$words[CURRENT]" == -* ]]; then
    _describe flag flags
    return
  fi
  if (( CURRENT == 3 )) && (( $#after )); then
    _describe word after
  fi
  if (( ids )); then
    servers=(${{(f)"$(mcp-bridge completion ids 2>/dev/null)"}})
    compadd -a servers
  elif (( ! $#after )); then
    _files
  fi
}}
(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit }}
compdef _mcp_bridge mcp-bridge"""


def _fish(verbs: list[Verb]) -> str:
    lines = [
        "# fish completion for mcp-bridge; use it by: mcp-bridge completion fish | source",
        "complete -c mcp-bridge -e",
    ]
    for verb in verbs:
        lines.append(f"complete -c mcp-bridge -f -n __fish_use_subcommand -a {verb.name} -d {_quoted(verb.about)}")
        under = f"complete -c mcp-bridge -n '__fish_seen_subcommand_from {verb.name}'"
        for flag in verb.flags:
            kind = "l" if flag.text.startswith("--") else "s"
            lines.append(f"{under} -{kind} {flag.text.lstrip('-')} -d {_quoted(flag.about)}")
        lines += [f"{under} -f -a {word.text} -d {_quoted(word.about)}" for word in verb.words]
        if verb.takes_ids:
            lines.append(f"{under} -f -a '(mcp-bridge completion ids 2>/dev/null)'")
    return "\n".join(lines)


def _described(words: tuple[Word, ...]) -> str:
    return " ".join(_quoted(f"{word.text}:{word.about}" if word.about else word.text) for word in words)


def _quoted(text: str) -> str:
    """One word of a shell, whatever is in it. A colon ends a name for zsh, and fish reads backslashes in quotes."""
    return "'" + text.replace("\\", "").replace("'", "\u2019") + "'"
