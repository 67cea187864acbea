"""``servers.json``: the shapes it may have, what a bad entry is told, and that it never costs the others."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from bridge.config.errors import ConfigError
from bridge.config.keys import KNOWN_KEYS
from bridge.config.server import UNSET, SandboxConfig, ServerConfig
from bridge.config.servers import Servers, load_servers, parse_servers, single_command

SOURCE = "servers.json"
ENVIRON = {"PATH": "/bin", "HOME": "/home/me", "NAME": "value", "GITHUB_TOKEN": "theirs", "ACCESS_TOKEN": "ours"}
SAFE = {"PATH": "/bin", "HOME": "/home/me"}
NEVER_WISH = 'a number of milliseconds above 0, or "never"'


def parse(text: str, base: Path | None = None) -> Servers:
    return parse_servers(text, SOURCE, ENVIRON, base)


def read_entry(base: Path | None = None, **keys: Any) -> ServerConfig:
    """One good entry; a word of warning about it fails the test."""
    servers = parse(json.dumps({"mcpServers": {"git": {"command": "x", **keys}}}), base)
    assert servers.problems == ()
    return servers.entries["git"]


def problems(base: Path | None = None, **keys: Any) -> list[tuple[str, bool]]:
    """What is said about one entry that stands beside a good one, and whether it leaves the entry out."""
    table = {"before": {"command": "x"}, "git": {"command": "x", **keys}, "after": {"command": "x"}}
    servers = parse(json.dumps({"mcpServers": table}), base)
    assert {"before", "after"} <= set(servers.entries), "one bad entry leaves the others"
    assert all(problem.server == "git" for problem in servers.problems)
    assert ("git" in servers.entries) is not any(problem.fatal for problem in servers.problems)
    return [(problem.text, problem.fatal) for problem in servers.problems]


def error(base: Path | None = None, **keys: Any) -> str:
    """The error that leaves the entry out, without file and server, which are checked."""
    [(text, fatal)] = problems(base, **keys)
    assert fatal
    prefix = f'{SOURCE}: "git": '
    assert text.startswith(prefix)
    return text.removeprefix(prefix)


# The file


@pytest.mark.parametrize(
    "text",
    [
        '{"mcpServers":{"git":{"command":"x"}}}',
        '{"servers":{"git":{"command":"x"}}}',
        '{"git":{"command":"x"}}',
        '{"servers":{"git":{"command":"x"}},"inputs":[{"id":"key"}]}',
        '{"mcpServers":{"git":{"command":"x"}},"theme":"dark"}',
        '{"mcpServers":{"git":{"command":"x",},},}',
        '{\n  // one\n  "mcpServers": { /* two\n lines */ "git": {"command": "x"} // three\n}}',
        '{"mcpServers":{"git":{"command":"x","description":"see // and /* here"}}}',
        "{mcpServers:{git:{command:'x'}}}",
    ],
)
def test_the_shapes_in_the_wild_are_all_read(text: str) -> None:
    servers = parse(text)
    assert servers.source == SOURCE
    assert servers.problems == ()
    assert list(servers.entries) == ["git"]
    assert servers.entries["git"].id == "git"
    assert servers.entries["git"].argv == ("x",)


def test_comment_signs_inside_a_string_are_text() -> None:
    text = '{"git":{"command":"x","args":["https://a.example/*"],},} // a comment'
    assert parse(text).entries["git"].argv == ("x", "https://a.example/*")


def test_the_entries_keep_their_order() -> None:
    assert list(parse('{"b":{"command":"x"},"a":{"command":"x"},"c":{"command":"x"}}').entries) == ["b", "a", "c"]


def test_a_server_may_be_called_almost_as_the_table_is() -> None:
    assert parse('{"server":{"command":"x"}}').entries["server"].argv == ("x",)
    assert list(parse('{"mcpServers":{"mcpservers":{"command":"x"}}}').entries) == ["mcpservers"]


@pytest.mark.parametrize("end", ["}}", ",}}"])
def test_an_id_that_is_there_twice_is_named(end: str) -> None:
    servers = parse('{"mcpServers":{"git":{"command":"x"},"mail":{"command":"x"},"git":{"command":"y"}' + end)
    [problem] = servers.problems
    assert problem.text == f'{SOURCE}: "git" is there twice in one object; only the last one counts'
    assert (problem.fatal, servers.entries["git"].argv) == (False, ("y",))


def test_names_that_are_there_twice_are_told_with_their_lines() -> None:
    text = """{"mcpServers": {
      // the first
      git: {"command": "x"},
      "mail": {"command": "x", "command": "y"},
      "note": {"command": "x",
               'command': "y"}, /* "git": { */
      "git": {"command": "y", "args": ["git"]},
      "web": {"url": "http://a", "headers": {
        "A": "1",
        "A": "2"}, "a": [{"b": 1,
                          "b": 2}]}}}"""
    assert [
        problem.text.removeprefix(f"{SOURCE}: ") for problem in parse(text).problems if "twice" in problem.text
    ] == [
        '"command" is there twice in one object; only the last one counts',
        '"command" is there twice in one object: lines 5 and 6; only the last one counts',
        '"A" is there twice in one object: lines 9 and 10; only the last one counts',
        '"b" is there twice in one object; only the last one counts',
        '"git" is there twice in one object: lines 3 and 7; only the last one counts',
    ]


def test_keys_that_are_almost_known_are_told_what_they_are_like() -> None:
    [(text, fatal)] = problems(disable=True, request_timeout=5, alwaysAllow=[])
    wanted = 'unknown keys are ignored: alwaysAllow, disable (did you mean "disabled"?), '
    assert text == f'{SOURCE}: "git": {wanted}request_timeout (did you mean "requestTimeout"?)'
    assert not fatal
    missing = error(command="${NONE}", Disabled=True)
    assert missing.endswith('; unknown keys: Disabled (did you mean "disabled"?)')
    [problem] = parse('{"git":{"comand":"x"}}').problems
    assert '"command" is missing' in problem.text
    assert problem.text.endswith('; unknown keys: comand (did you mean "command"?)')


def test_no_servers_are_no_mistake() -> None:
    assert parse('{"mcpServers":{}}') == Servers(SOURCE, {})
    assert parse("{}") == Servers(SOURCE, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", 'must be an object with "mcpServers", not list'),
        ("null", 'must be an object with "mcpServers", not null'),
        ("5", 'must be an object with "mcpServers", not number'),
        ('"x"', 'must be an object with "mcpServers", not string'),
        ('{"mcpServers":[]}', '"mcpServers" must be an object of id -> entry, not list'),
        ('{"servers":null}', '"servers" must be an object of id -> entry, not null'),
        ('{"mcpServers":true}', '"mcpServers" must be an object of id -> entry, not boolean'),
        ('{"mcpservers":{"git":{"command":"x"}}}', '"mcpservers" is no key; did you mean "mcpServers"?'),
        ('{"mcp_servers":{}}', '"mcp_servers" is no key; did you mean "mcpServers"?'),
        ('{"mcpSevers":{"command":{"command":"x"}}}', '"mcpSevers" is no key; did you mean "mcpServers"?'),
        ('{"Server":{"git":{"command":"x"}}}', '"Server" is no key; did you mean "servers"?'),
    ],
)
def test_a_file_of_another_shape_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert str(caught.value) == f"{SOURCE}: {message}"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("// nothing", "line 1"),
        ("{", ""),
        ("hello", "line 1"),
        ('{"git":{"command":"x"}} trailing', "line 1"),
        ('{\n"git": {\n"command" "x"}}', "line 3"),
        ('{"git":{"command":"x"}', ""),
    ],
)
def test_a_file_that_is_no_json_is_refused_and_the_place_told(text: str, where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert str(caught.value).startswith(f"{SOURCE}: is not JSON: ")
    assert where in str(caught.value)
    assert "<string>" not in str(caught.value)


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_file_is_told_so(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert str(caught.value) == f'{SOURCE}: is empty; without servers it is {{"mcpServers": {{}}}}'


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        (r'{"git":{"command":"x","args":["\d+\.json"]}}', 1, 32),
        ('{\n  // a "comment" \\d\n' + r'  "git": {"command": "C:\\dev\\x", "cwd": "C:\dev"}}', 3, 46),
        (r'{"git": {"command": "C:\venv\x.exe"}}', 1, 24),  # JSON5 has that one: a vertical tab
        (r'{"git": {"command": "C:\xad"}}', 1, 24),
        (r"{'git': {'command': 'it\'s \w'}}", 1, 28),
        ('{"git": {"command": "a\\\r\nb\\.c"}}', 2, 2),
    ],
)
def test_a_backslash_that_means_nothing_is_refused_and_not_dropped(text: str, line: int, column: int) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert str(caught.value) == (
        f"{SOURCE}: line {line}, column {column}: a single backslash has no meaning here; for a backslash write two"
    )


def test_escapes_of_json_are_read_in_a_file_with_comments_too() -> None:
    text = r"""{"git": {"command": "\"\\\/\b\f\n\r\t\u00e9", 'args': ['it\'s', "a\
b" /* \d */]}} // \d"""
    assert parse(text).entries["git"].argv == ('"\\/\b\f\n\r\té', "it's", "ab")


def test_a_file_that_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(ConfigError):
        parse("[" * 100_000)


def test_an_entry_that_is_nested_too_deeply_is_told_so() -> None:
    """However deep it is: too deep for one of its readers, or for all of them."""
    told = set()
    for depth in range(50, sys.getrecursionlimit() + 50, 25):
        for comment in ("", "// one\n"):
            value = "[" * depth + "]" * depth
            text = f'{comment}{{"good":{{"command":"x"}},"deep":{{"command":"x","description":{value}}}}}'
            with contextlib.suppress(ConfigError):
                servers = parse(text)
                assert "good" in servers.entries
                told |= {problem.text for problem in servers.problems}
    assert told == {'servers.json: "deep": is nested too deeply'}


def test_bytes_of_a_variable_that_are_no_utf_8_reach_the_program_and_no_answer() -> None:
    environ = {"NAME": os.fsdecode(b"caf\xe9")}
    text = (
        '{"git":{"command":"x","args":["${NAME}"],"description":"${NAME}"},"bad":{"command":"x","envFile":"${NAME}"}}'
    )
    servers = parse_servers(text, SOURCE, environ)
    assert os.fsencode(servers.entries["git"].argv[1]) == b"caf\xe9"
    assert servers.entries["git"].description == r"caf\udce9"
    [problem] = servers.problems
    assert problem.text.endswith(r'"envFile": caf\udce9 does not exist')


def test_a_file_is_read_from_the_disk_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "servers.json"
    text = '{"git":{"command":"x","description":"é"}}'.encode()
    for content in (text, b"\xef\xbb\xbf" + text):
        path.write_bytes(content)
        servers = load_servers(path, ENVIRON)
        assert servers.source == str(path)
        assert servers.entries["git"].description == "é"


def test_a_missing_file_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_servers(tmp_path / "servers.json", ENVIRON)
    assert str(caught.value) == (
        f"{tmp_path / 'servers.json'}: no such file; create it, set SERVERS_FILE, "
        "or serve one command: mcp-bridge serve -- COMMAND"
    )


def test_a_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "servers.json"
    path.write_bytes(b'{"\xff":1}')
    for unreadable in (path, tmp_path):
        with pytest.raises(ConfigError) as caught:
            load_servers(unreadable, ENVIRON)
        assert str(caught.value).startswith(f"{unreadable}: cannot be read: ")


# Ids


@pytest.mark.parametrize("server_id", ["a", "git", "Git-2.0_x", "0", "a" * 64])
def test_a_good_id_is_taken(server_id: str) -> None:
    assert list(parse(json.dumps({server_id: {"command": "x"}})).entries) == [server_id]


@pytest.mark.parametrize("server_id", ["", " ", "a b", "a/b", "../a", "a\n", "é", "a" * 65, "a?b", "a%2e", "@org/x"])
def test_a_bad_id_costs_only_its_entry(server_id: str) -> None:
    servers = parse(json.dumps({"before": {"command": "x"}, server_id: {"command": "x"}, "after": {"command": "x"}}))
    assert list(servers.entries) == ["before", "after"]
    [problem] = servers.problems
    assert problem.fatal
    assert problem.server == server_id
    assert problem.text == (
        f"{SOURCE}: {json.dumps(server_id)}: "
        "the id must be 1 to 64 of A-Z a-z 0-9 . _ -, because it becomes part of a URL"
    )


@pytest.mark.parametrize(
    ("entry", "kind"), [("npx x", "string"), (["npx"], "list"), (None, "null"), (5, "number"), (True, "boolean")]
)
def test_an_entry_that_is_no_object_costs_only_itself(entry: Any, kind: str) -> None:
    servers = parse(json.dumps({"git": entry, "after": {"command": "x"}}))
    assert list(servers.entries) == ["after"]
    assert [problem.text for problem in servers.problems] == [f'{SOURCE}: "git": must be an object, not {kind}']


# The keys


def test_an_entry_says_only_its_command_and_the_settings_decide_the_rest() -> None:
    assert read_entry() == ServerConfig(id="git", argv=("x",), env=SAFE)
    assert read_entry().session_ttl is UNSET
    assert read_entry().bridge_ttl is UNSET
    assert read_entry().request_timeout is UNSET


@pytest.mark.parametrize(
    ("keys", "field", "value"),
    [
        ({"args": ["-y", "a b", ""]}, "argv", ("x", "-y", "a b", "")),
        ({"command": "a program", "args": []}, "argv", ("a program",)),
        ({"command": "${NAME}", "args": ["--${NAME}", "${NO:-d}"]}, "argv", ("value", "--value", "d")),
        ({"cwd": "/srv/${NAME}"}, "cwd", Path("/srv/value")),
        ({"description": "what", "title": "name"}, "description", "what"),
        ({"title": "name"}, "description", "name"),
        ({"disabled": True}, "disabled", True),
        ({"disabled": "yes"}, "disabled", True),
        ({"disabled": False}, "disabled", False),
        ({"enabled": False}, "disabled", True),
        ({"enabled": "true"}, "disabled", False),
        ({"enabled": True, "disabled": False}, "disabled", False),
        ({"enabled": False, "disabled": True}, "disabled", True),
        ({"sessionTtlMs": 1500}, "session_ttl", 1.5),
        ({"sessionTtlMs": "1500"}, "session_ttl", 1.5),
        ({"sessionTtlMs": None}, "session_ttl", None),
        ({"sessionTtlMs": "never"}, "session_ttl", None),
        ({"bridgeTtlMs": 500}, "bridge_ttl", 0.5),
        ({"bridgeTtlMs": None}, "bridge_ttl", None),
        ({"requestTimeout": 500}, "request_timeout", 0.5),
        ({"requestTimeout": None}, "request_timeout", None),
        ({"startTimeout": 500}, "start_timeout", 0.5),
        ({}, "sandbox", None),
        ({"sandbox": False}, "sandbox", None),
        ({"sandbox": True}, "sandbox", SandboxConfig(("/",), (), network=False)),
        (
            {"sandbox": {"read": "/usr", "write": ["/a"], "network": "yes"}},
            "sandbox",
            SandboxConfig(("/usr",), ("/a",), True),
        ),
        ({"noNewPrivs": True}, "no_new_privs", True),
        ({}, "allowed_tools", None),
        ({"allowedTools": []}, "allowed_tools", ()),
        ({"disabledTools": ["a*"]}, "disabled_tools", ("a*",)),
        ({"preload": True}, "preload", ()),
        ({"preload": "yes"}, "preload", ()),
        ({"preload": False}, "preload", None),
        ({}, "preload", None),
        ({"preload": ["mcp.server", "numpy"]}, "preload", ("mcp.server", "numpy")),
        ({"maxChildren": 3}, "max_children", 3),
        ({"maxChildren": "3"}, "max_children", 3),
        ({"icon": "i.png", "tags": ["a"]}, "id", "git"),
        *(
            ({key: kind}, "argv", ("x",))
            for key in ("type", "transport", "transportType")
            for kind in ("stdio", "STDIO", "local", "command")
        ),
    ],
)
def test_a_key_is_read(keys: dict[str, Any], field: str, value: Any) -> None:
    assert getattr(read_entry(**keys), field) == value


@pytest.mark.parametrize("key", ["command", "cwd", "envFile"])
def test_a_tilde_is_our_home(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "tool").write_text("A=1\n")
    entry = read_entry(**{key: "~/tool"})
    if key == "command":
        assert entry.argv == (str(tmp_path / "tool"),)
    elif key == "cwd":
        assert entry.cwd == tmp_path / "tool"
    else:
        assert entry.env["A"] == "1"
        assert parse('{"git":{"command":"x","envFile":"~/tool"}}').files == (tmp_path / "tool",)  # is watched there


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"command": None}, '"command" is missing; give the program to start, or the "url" of a remote server'),
        ({"command": ""}, '"command" is empty; give the program to start'),
        ({"command": " "}, '"command" is empty; give the program to start'),
        ({"command": ["npx", "x"]}, '"command" must be a string, not list; put the arguments in "args"'),
        ({"command": 5}, '"command" must be a string, not number; put the arguments in "args"'),
        ({"args": "-y x"}, '"args" must be a list of strings, not string'),
        ({"args": {"a": 1}}, '"args" must be a list of strings, not object'),
        ({"args": None}, '"args" must be a list of strings, not null'),
        ({"env": ["A=1"]}, '"env" must be an object of name -> text, not list'),
        ({"env": "A=1"}, '"env" must be an object of name -> text, not string'),
        ({"env": {"A": ["1"]}}, '"env": A must be a string, not list'),
        ({"env": {"A": {}}}, '"env": A must be a string, not object'),
        ({"env": {"A": None}}, '"env": A is null, which takes it from our environment, where it is not set'),
        ({"cwd": 5}, '"cwd" is 5, must be a text that is not empty'),
        ({"cwd": ""}, '"cwd" is "", must be a text that is not empty'),
        ({"envFile": ["a"]}, '"envFile" is ["a"], must be a text that is not empty'),
        ({"inheritEnv": "none"}, '"inheritEnv" is "none", must be "safe", "all" or a list of names'),
        ({"inheritEnv": [1]}, '"inheritEnv" is [1], must be "safe", "all" or a list of names'),
        ({"inheritEnv": True}, '"inheritEnv" is true, must be "safe", "all" or a list of names'),
        ({"type": "sse"}, '"type" is "sse", must be "stdio"'),
        ({"type": 5}, '"type" is 5, must be "stdio"'),
        ({"url": "https://a.example"}, '"command" and "url" are both given; keep one of them'),
        ({"disabled": "maybe"}, '"disabled" is "maybe", must be true or false'),
        ({"enabled": []}, '"enabled" is [], must be true or false'),
        ({"disabled": True, "enabled": True}, '"disabled" and "enabled" are both true; keep one of them'),
        ({"disabled": False, "enabled": "no"}, '"disabled" and "enabled" are both false; keep one of them'),
        *(
            ({key: value}, f'"{key}" is {shown}, must be {NEVER_WISH}')
            for key in ("sessionTtlMs", "bridgeTtlMs", "requestTimeout")
            for value, shown in ((0, "0"), (-5, "-5"), ("5m", '"5m"'), (True, "true"), ([], "[]"), ("nan", '"nan"'))
        ),
        *(
            ({key: value}, f'"{key}" is {shown}, must be a number of milliseconds above 0')
            for key in ("startTimeout", "timeout")
            for value, shown in ((0, "0"), (-5, "-5"), ("soon", '"soon"'), (False, "false"), ({}, "{}"))
        ),
        ({"maxChildren": 0}, '"maxChildren" is 0, must be a whole number from 1 to 1000000'),
        ({"maxChildren": 1.5}, '"maxChildren" is 1.5, must be a whole number from 1 to 1000000'),
        ({"maxChildren": None}, '"maxChildren" is null, must be a whole number from 1 to 1000000'),
        *(
            (
                {"preload": value},
                f'"preload" is {json.dumps(value)}, must be true, false or a list of names of Python modules',
            )
            for value in ([], [""], ["a.b", 5], ["a,b"], ["-"], [".a"], ["1a"], {}, "mcp", 2)
        ),
        ({"sandbox": "yes"}, '"sandbox" is "yes", must be true, false or an object of read, write and network'),
        ({"sandbox": {"writes": []}}, '"sandbox" has unknown keys writes; it may have read, write, network'),
        ({"sandbox": {"write": ["a"]}}, '"sandbox": "write" is ["a"], must be an absolute path, or a list of them'),
        ({"sandbox": {"read": 7}}, '"sandbox": "read" is 7, must be an absolute path, or a list of them'),
        ({"sandbox": {"network": 7}}, '"sandbox": "network" is 7, must be true or false'),
        ({"args": ["${NOPE}"]}, '"args": variable NOPE is not set; set it, or write ${NOPE:-default}'),
        (
            {"env": {"KEY": "${input:api-key}"}},
            '"env": only VS Code can ask for "api-key"; write ${API_KEY} and set API_KEY in .env',
        ),
        ({"env": {"KEY": "${NOPE:?get one}"}}, '"env": variable NOPE is not set: get one'),
        ({"env": {"": "a"}}, '"env": "" is no name of a variable'),
        ({"env": {"A=B": "a"}}, '"env": "A=B" is no name of a variable'),
        *(
            ({key: value}, f'"{key}": holds {shown}, which no text can have')
            for odd, shown in (("a\0b", r"\u0000"), ("a\udcffb", r"\udcff"))
            for key, value in (
                ("command", odd),
                ("args", ["a", odd]),
                ("env", {"A": odd}),
                ("env", {odd: "a"}),
                ("cwd", odd),
                ("envFile", odd),
                ("description", odd),
                ("tags", [[odd]]),
                ("unheard-of", odd),
            )
        ),
        ({"n\0": 1}, '"n\0": holds \\u0000, which no text can have'),
        ({"n\ud800": 1}, '"n\\ud800": holds \\ud800, which no text can have'),
    ],
)
def test_a_bad_key_is_told_with_file_server_key_value_and_wish(keys: dict[str, Any], message: str) -> None:
    assert error(**keys) == message


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"args": "foo", "env": ["A=1"], "maxSessions": "ten"},
            '"args" must be a list of strings, not string; "env" must be an object of name -> text, not list; '
            '"maxSessions" is "ten", must be a whole number from 1 to 10000000',
        ),
        (
            {"env": {"A": "${NO}", "B": "${NO} ${NONE:?get one}"}, "maxChildren": 0},
            '"env": variable NO is not set; set it, or write ${NO:-default}; variable NONE is not set: get one; '
            '"maxChildren" is 0, must be a whole number from 1 to 1000000',
        ),
        (
            {"command": 5, "env": {"A": None, "B": []}, "inheritEnv": 1, "envFile": "no.env"},
            '"command" must be a string, not number; put the arguments in "args"; "inheritEnv" is 1, must be "safe", '
            '"all" or a list of names; "envFile": no.env does not exist; "env": A is null, which takes it from our '
            'environment, where it is not set; "env": B must be a string, not list',
        ),
        (  # what is wrong because something else is wrong is not told
            {"command": "${NO}", "maxSessions": "${NO}"},
            '"command": variable NO is not set; set it, or write ${NO:-default}; '
            '"maxSessions": variable NO is not set; set it, or write ${NO:-default}',
        ),
    ],
)
def test_all_that_is_wrong_with_an_entry_is_told_at_once(keys: dict[str, Any], message: str) -> None:
    assert error(**keys) == message


@pytest.mark.parametrize("key", ["transport", "transportType"])
def test_a_bad_transport_is_told_under_the_name_that_was_written(key: str) -> None:
    assert error(**{key: "sse"}) == f'"{key}" is "sse", must be "stdio"'


def test_an_argument_that_is_no_string_is_told_apart_from_args_that_are_no_list() -> None:
    assert "not list" not in error(args=["--port", 8080])


@pytest.mark.parametrize("key", ["command", "cwd", "envFile"])
def test_the_home_of_nobody_costs_only_its_entry(key: str) -> None:
    assert f'"{key}"' in error(**{key: "~no-such-user-here/x"})


def test_all_that_is_wrong_in_a_file_is_told_at_once() -> None:
    servers = parse('{"a":{},"b":{"command":5},"c":{"command":"x"},"d e":{"command":"x"},"f":{"command":"x","n":1}}')
    assert list(servers.entries) == ["c", "f"]
    assert [(problem.server, problem.fatal) for problem in servers.problems] == [
        ("a", True),
        ("b", True),
        ("d e", True),
        ("f", False),
    ]


# Remote servers

URL = "https://a.example/mcp"
NO_ADDRESS = '"url" must be an address that begins with http:// or https://'


def read_remote(**keys: Any) -> ServerConfig:
    """One good entry of a remote server; a word of warning about it fails the test."""
    servers = parse(json.dumps({"far": {"url": URL, **keys}}))
    assert servers.problems == ()
    return servers.entries["far"]


def remote_error(**keys: Any) -> str:
    servers = parse(json.dumps({"far": {"url": URL, **keys}, "after": {"command": "x"}}))
    assert list(servers.entries) == ["after"]
    [problem] = servers.problems
    return problem.text.removeprefix(f'{SOURCE}: "far": ')


def test_a_remote_server_has_an_address_and_no_program() -> None:
    assert read_remote() == ServerConfig(id="far", argv=(), env={}, url=URL, headers={})
    assert read_remote(sessionTtlMs=1500, sharing="shared").session_ttl == 1.5


@pytest.mark.parametrize("key", ["type", "transport", "transportType"])
@pytest.mark.parametrize(
    "kind", ["http", "HTTP", "sse", "streamable-http", "streamable_http", "streamableHttp", "http+sse", "remote"]
)
def test_the_kind_of_a_remote_server_may_be_written_in_any_spelling(key: str, kind: str) -> None:
    assert read_remote(**{key: kind}).url == URL


@pytest.mark.parametrize(
    "url", ["http://localhost:3000/mcp/x", "HTTPS://A.example", "https://[::1]:8080/", "https://a.example/?key=a&b=c"]
)
def test_an_address_is_taken_as_it_is(url: str) -> None:
    assert read_remote(url=url).url == url


def test_headers_are_text_and_take_variables() -> None:
    headers = {"Authorization": "Bearer ${NAME}", "X-Number": 5, "X-Flag": True, "X-Blank": " x "}
    assert read_remote(headers=headers).headers == {
        "Authorization": "Bearer value",
        "X-Number": "5",
        "X-Flag": "true",
        "X-Blank": "x",
    }
    assert read_remote(headers=None).headers == {}
    assert read_remote(url="https://${NAME}.example/").url == "https://value.example/"


def test_keys_of_a_remote_server_are_not_in_the_repr() -> None:
    shown = repr(read_remote(url=f"{URL}?key=a-secret", headers={"Authorization": "a-secret"}))
    assert "a-secret" not in shown


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"command": "x"}, '"command" and "url" are both given; keep one of them'),
        ({"url": 5}, '"url" must be a string, not number'),
        ({"url": None}, '"url" must be a string, not null'),
        *(
            ({"url": url}, NO_ADDRESS)
            for url in ("", "a.example", "ftp://a.example", "ws://a.example", "https://", "https://a.example:x/")
        ),
        *(({"url": url}, NO_ADDRESS) for url in ("https://a b/", "https://a\n/", "https://[::1/", "file:///etc")),
        *(
            ({"url": url}, '"url" holds a user name or a password; put them into "headers" as "Authorization"')
            for url in ("https://me:secret@a.example/", "https://me@a.example/")
        ),
        ({"type": "stdio"}, '"type" is "stdio", must be "http" or "sse" where there is "url"'),
        ({"transport": "ws"}, '"transport" is "ws", must be "http" or "sse" where there is "url"'),
        ({"headers": ["A: b"]}, '"headers" must be an object of name -> text, not list'),
        ({"headers": {"A": ["secret"]}}, '"headers": A must be a string, not list'),
        ({"headers": {"A": None}}, '"headers": A must be a string, not null'),
        ({"headers": {"A": "secret\r\nB: c"}}, '"headers": A must be one line of text'),
        ({"headers": {"A b": "secret"}}, '"headers": "A b" is no name of a header'),
        (
            {"maxSessions": 0, "url": "${NOPE}"},
            '"url": variable NOPE is not set; set it, or write ${NOPE:-default}; '
            '"maxSessions" is 0, must be a whole number from 1 to 10000000',
        ),
        ({"headers": {"A": "${NOPE}"}}, '"headers": variable NOPE is not set; set it, or write ${NOPE:-default}'),
    ],
)
def test_a_bad_remote_server_is_told_what_is_wrong_and_never_a_value(keys: dict[str, Any], message: str) -> None:
    assert remote_error(**keys) == message
    assert "secret" not in message


def test_what_does_not_belong_together_is_warned_about() -> None:
    servers = parse(json.dumps({"far": {"url": URL, "args": [], "env": {}}, "git": {"command": "x", "headers": {}}}))
    assert [(problem.text, problem.fatal) for problem in servers.problems] == [
        (f'{SOURCE}: "far": not used where there is "url": args, env', False),
        (f'{SOURCE}: "git": not used without "url": headers', False),
    ]


def test_a_disabled_remote_example_may_name_variables_that_nobody_has_set() -> None:
    assert read_remote(url="${NOPE}/mcp", headers={"A": "${NOPE}"}, disabled=True).disabled


# Unknown keys


def test_unknown_keys_are_warned_about_once_and_ignored() -> None:
    assert problems(autoApprove=[], alwaysAllow=["x"], Args=[]) == [
        (f'{SOURCE}: "git": unknown keys are ignored: Args (did you mean "args"?), alwaysAllow, autoApprove', False)
    ]


def test_every_key_of_the_contract_is_known() -> None:
    # The table of servers.json in the settings reference.
    contract = """
        command args env cwd envFile type transport transportType url headers disabled enabled description title tags
        icon sharing childEra sessionTtlMs bridgeTtlMs persistent restore requestTimeout startTimeout timeout warm
        onNodeLoss
        preload maxSessions maxChildren idleStopMs maxRestarts restartDelay limits inheritEnv allowedTools disabledTools
        rateLimit maxConcurrent
        pinTools sandbox noNewPrivs headerEnv
    """
    assert set(contract.split()) == KNOWN_KEYS


# Nodes


@pytest.mark.parametrize(
    ("keys", "survives"),
    [
        ({}, False),
        ({"persistent": True}, True),
        ({"persistent": True, "onNodeLoss": "end"}, False),
        ({"onNodeLoss": "recreate"}, True),
        ({"onNodeLoss": "END"}, False),
    ],
)
def test_sessions_that_are_kept_survive_their_node_unless_something_is_said(
    keys: dict[str, Any], survives: bool
) -> None:
    assert read_entry(**keys).survives_node is survives


def test_what_becomes_of_sessions_is_one_of_two_words() -> None:
    [(text, _)] = problems(onNodeLoss="replay")
    assert '"onNodeLoss" is "replay", must be one of recreate, end' in text


# Time


@pytest.mark.parametrize(
    ("timeout", "seconds", "shown"),
    [
        (30, 30.0, "30"),
        (0.5, 0.5, "0.5"),
        (999, 999.0, "999"),
        ("60", 60.0, "60"),
        (1000, 1.0, "1"),
        (60_000, 60.0, "60"),
        (1500, 1.5, "1.5"),
    ],
)
def test_a_timeout_without_a_unit_is_seconds_below_1000_and_says_how_it_was_taken(
    timeout: Any, seconds: float, shown: str
) -> None:
    entry = read_entry(timeout=timeout)
    assert entry.request_timeout == pytest.approx(seconds)
    assert entry.notes == (
        f'"timeout" is taken as {shown} seconds; write "requestTimeout" in milliseconds to be exact',
    )


def test_request_timeout_is_milliseconds_and_wins_over_timeout() -> None:
    entry = read_entry(timeout=30, requestTimeout=500)
    assert entry.request_timeout == 0.5
    assert entry.notes == ()


# The environment of the child


@pytest.mark.parametrize(
    ("keys", "added"),
    [
        ({"env": {"A": "1", "B": "${NAME}"}}, {"A": "1", "B": "value"}),
        ({"env": {"N": 5, "F": 1.5, "T": True, "E": ""}}, {"N": "5", "F": "1.5", "T": "true", "E": ""}),
        ({"env": {"PATH": "/opt"}}, {"PATH": "/opt"}),
        ({"env": {"NAME": None}}, {"NAME": "value"}),
        ({"env": None}, {}),
        ({"env": {}}, {}),
        ({"inheritEnv": "safe"}, {}),
        ({"inheritEnv": []}, {}),
        ({"inheritEnv": ["GITHUB_TOKEN"]}, {"GITHUB_TOKEN": "theirs"}),
        ({"inheritEnv": "all"}, {"GITHUB_TOKEN": "theirs", "NAME": "value"}),
    ],
)
def test_a_child_gets_the_harmless_part_of_ours_and_what_its_entry_adds(
    keys: dict[str, Any], added: dict[str, str]
) -> None:
    assert read_entry(**keys).env == {**SAFE, **added}


def test_the_values_of_the_environment_are_not_in_the_repr() -> None:
    assert "a-secret" not in repr(read_entry(env={"KEY": "a-secret"}))


def test_an_env_file_lies_beside_the_servers_file_and_env_wins_over_it(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "git.env").write_text("# keys\nA=file\nexport B='file'\nPATH=/file\n")
    (tmp_path / "servers.json").write_text(
        '{"git":{"command":"x","envFile":"keys/${NO:-git}.env","env":{"A":"entry"}}}'
    )
    assert load_servers(tmp_path / "servers.json", ENVIRON).entries["git"].env == {
        **SAFE,
        "A": "entry",
        "B": "file",
        "PATH": "/file",
    }


def test_an_absolute_env_file_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "git.env").write_text("A=1\n")
    assert read_entry(Path("elsewhere"), envFile=str(tmp_path / "git.env")).env["A"] == "1"


def test_an_env_file_that_is_missing_costs_only_its_entry(tmp_path: Path) -> None:
    assert error(tmp_path, envFile="no.env") == f'"envFile": {tmp_path / "no.env"} does not exist'
    assert error(tmp_path, envFile=".") == f'"envFile": {tmp_path} does not exist'


def test_an_env_file_that_is_no_text_costs_only_its_entry(tmp_path: Path) -> None:
    (tmp_path / "bad.env").write_bytes(b"A=\xff\n")
    assert '"envFile"' in error(tmp_path, envFile="bad.env")


def test_a_line_of_an_env_file_that_is_none_costs_only_its_entry(tmp_path: Path) -> None:
    (tmp_path / "bad.env").write_text('A=1\nKEY="a-secret\n')
    text = error(tmp_path, envFile="bad.env")
    assert text.startswith(f'"envFile": {tmp_path / "bad.env"}: line 2: must be NAME=value')
    assert "a-secret" not in text


def test_the_values_of_an_env_file_are_text_as_those_of_dot_env_are(tmp_path: Path) -> None:
    (tmp_path / "git.env").write_text("PASSWORD=a${b}c\n")
    assert read_entry(tmp_path, envFile="git.env").env["PASSWORD"] == "a${b}c"


# Servers that are off


@pytest.mark.parametrize("off", [{"disabled": True}, {"enabled": False}])
def test_a_disabled_example_may_name_variables_that_nobody_has_set(off: dict[str, Any]) -> None:
    entry = read_entry(**off, args=["${NOPE}"], env={"KEY": "${NOPE}", "OTHER": None})
    assert entry.disabled
    assert "OTHER" not in entry.env


@pytest.mark.parametrize("off", [{"disabled": "true"}, {"enabled": "no"}, {"disabled": 1}])
def test_a_server_that_is_off_in_another_spelling_may_do_so_too(off: dict[str, Any]) -> None:
    assert read_entry(**off, args=["${NOPE}"]).disabled


# One command


def test_a_single_command_is_the_server_default() -> None:
    servers = single_command(["npx", "-y", "a b"], ENVIRON)
    assert servers.entries == {"default": ServerConfig("default", ("npx", "-y", "a b"), SAFE, pin_tools="off")}
    assert servers.problems == ()


@pytest.mark.parametrize("key", ["allowedTools", "disabledTools"])
@pytest.mark.parametrize("value", ["read_*", None, [7], [""], {}])
def test_globs_of_tools_are_a_list_of_names(key: str, value: object) -> None:
    [(text, fatal)] = problems(**{key: value})
    assert fatal
    assert f'"{key}" is {json.dumps(value)}, must be a list of names, such as ["read_*", "list_*"]' in text


def test_no_way_of_an_entry_leads_to_a_secret_of_the_bridge_by_mistake(tmp_path: Path) -> None:
    ours = {"ACCESS_TOKEN": "ours", "PATH": "/bin"}
    (tmp_path / ".env").write_text("ACCESS_TOKEN=ours\nREDIS_URL=redis://of-the-server\nX=1\n")

    def read(**keys: Any) -> Servers:
        return parse_servers(json.dumps({"git": {"command": "git", **keys}}), SOURCE, ours, tmp_path)

    found = read(envFile=".env")
    assert found.entries["git"].env == {"PATH": "/bin", "REDIS_URL": "redis://of-the-server", "X": "1"}
    assert "secrets of the bridge are left out: ACCESS_TOKEN" in found.problems[0].text
    found = read(inheritEnv=["ACCESS_TOKEN"])
    assert found.entries["git"].env == {"PATH": "/bin"}
    assert "secrets of the bridge are not inherited: ACCESS_TOKEN" in found.problems[0].text
    assert 'write "${ACCESS_TOKEN}"' in read(env={"ACCESS_TOKEN": None}).problems[0].text
    assert read(env={"ACCESS_TOKEN": "${ACCESS_TOKEN}"}).entries["git"].env["ACCESS_TOKEN"] == "ours"  # said plainly
