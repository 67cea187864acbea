"""Which headers may become which variables."""

from __future__ import annotations

import json
import re

import pytest

from bridge.config.header_env import header_env
from bridge.config.servers import parse_servers
from bridge.config.settings import setting_names


@pytest.mark.parametrize(
    "variable",
    [
        *("PATH", "HOME", "LD_PRELOAD", "LD_LIBRARY_PATH", "DYLD_INSERT_LIBRARIES", "PYTHONPATH", "PYTHONSTARTUP"),
        *("NODE_OPTIONS", "NODE_PATH", "NODE_EXTRA_CA_CERTS", "BASH_ENV", "ENV", "IFS", "PS4", "SHELLOPTS"),
        *("GIT_SSH", "GIT_SSH_COMMAND", "GIT_CONFIG_COUNT", "RUBYOPT", "RUBYLIB", "PERL5OPT", "PERL5LIB", "LUA_INIT"),
        *("JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH", "GODEBUG", "PHPRC", "SSLKEYLOGFILE", "OPENSSL_CONF"),
        *("HTTPS_PROXY", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE", "NPM_CONFIG_REGISTRY", "UV_INDEX_URL", "PIP_INDEX_URL"),
        *("GCONV_PATH", "GLIBC_TUNABLES", "LC_ALL", "TMPDIR", "EDITOR", "PAGER", "BROWSER", "XDG_CONFIG_HOME"),
        *("MCP_BRIDGE_RUN", "MCP_BRIDGE_TOKEN", "CLUSTER_KEY", "OAUTH_CLIENT_SECRET", *setting_names()),
    ],
)
def test_a_variable_that_programs_obey_or_that_is_ours_is_refused(variable: str) -> None:
    with pytest.raises(ValueError, match=f"{variable} may not come from a client"):
        header_env({"X-A": variable})


@pytest.mark.parametrize("variable", ["api_token", "1A", "A-B", "", "A B", "A=B", "Ä", "A\n", "A" * 101])
def test_what_is_no_name_of_a_variable_is_refused(variable: str) -> None:
    with pytest.raises(ValueError, match="no name of a variable"):
        header_env({"X-A": variable})


@pytest.mark.parametrize(
    "header",
    [
        *(
            "Authorization",
            "cookie",
            "X-API-Key",
            "Host",
            "Origin",
            "Content-Type",
            "Mcp-Session-Id",
            "Mcp-Param-Region",
        ),
        *("Accept", "Transfer-Encoding", "X-Forwarded-For", "Proxy-Authorization", "Sec-Fetch-Site", "Last-Event-ID"),
    ],
)
def test_a_header_with_a_meaning_here_is_refused(header: str) -> None:
    with pytest.raises(ValueError, match=f"{header} has a meaning of its own"):
        header_env({header: "API_TOKEN"})


@pytest.mark.parametrize("header", ["", "a b", "X:Y", "X\n", "Ä"])
def test_what_is_no_name_of_a_header_is_refused(header: str) -> None:
    with pytest.raises(ValueError, match="no name of a header"):
        header_env({header: "API_TOKEN"})


@pytest.mark.parametrize(
    "variable", ["API_TOKEN", "GITHUB_TOKEN", "GOOGLE_API_KEY", "NOTION_KEY", "USER_ID", "_X", "PIPEDRIVE_TOKEN"]
)
def test_what_programs_want_to_be_told_is_taken(variable: str) -> None:
    assert header_env({"X-User-Token": variable}) == {"X-User-Token": variable}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["X"], "must be an object of header -> variable"),
        ({"X-A": 7}, "must be an object of header -> variable"),
        ({"X-A": "A", "x-a": "B"}, "the header x-a is there twice"),
        ({"X-A": "A", "X-B": "A"}, "the variable A is there twice"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(given: object, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        header_env(given)


@pytest.mark.parametrize("sharing", ["shared", "pooled", {"holders": 2}, {"holders": 1, "hold": "exchange"}])
def test_it_wants_a_process_per_session(sharing: object) -> None:
    entry = {"command": "x", "headerEnv": {"X-A": "API_TOKEN"}, "sharing": sharing}
    [problem] = parse_servers(json.dumps({"a": entry}), "servers.json", {}).problems
    assert problem.fatal
    assert '"headerEnv" wants a process for each session' in problem.text
