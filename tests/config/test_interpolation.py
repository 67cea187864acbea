"""References to variables in the strings of ``servers.json``."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.config.interpolation import BadReference, as_text, interpolate

VARIABLES = {"NAME": "value", "EMPTY": "", "_x1": "under", "DOLLAR": "${NAME}", "SLASH": r"\1 \g<0>"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${NAME}", "value"),
        ("${env:NAME}", "value"),
        ("${_x1}", "under"),
        ("a${NAME}b${NAME}c", "avaluebvaluec"),
        ("${NAME}${env:NAME}", "valuevalue"),
        ("${EMPTY}", ""),
        ("${NAME:-other}", "value"),
        ("${NAME:?needed}", "value"),
        ("${UNSET:-other}", "other"),
        ("${env:UNSET:-other}", "other"),
        ("${UNSET:-}", ""),
        ("${UNSET:-a:-b:?c $d}", "a:-b:?c $d"),
        ("${EMPTY:-other}", "other"),  # as in a shell
        ("${DOLLAR}", "${NAME}"),  # a value is a value and is not read again
        ("${SLASH}", r"\1 \g<0>"),
    ],
)
def test_a_reference_becomes_the_value(text: str, expected: str) -> None:
    assert interpolate(text, VARIABLES) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        "$NAME",
        "$",
        "$(NAME)",
        "$$",
        "{NAME}",
    ],
)
def test_every_other_dollar_is_left_as_it_is(text: str) -> None:
    assert interpolate(text, VARIABLES) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$${NAME}", "${NAME}"),
        ("$${UNSET:-x}", "${UNSET:-x}"),
        ("$${input:key} $${", "${input:key} ${"),
        ("$$${NAME}", "$${NAME}"),
        ("$${${NAME}}", "${value}"),
    ],
)
def test_a_reference_that_is_meant_as_text_has_one_more_dollar(text: str, expected: str) -> None:
    assert interpolate(text, VARIABLES) == expected


@pytest.mark.parametrize("text", ["", "${", "a ${NAME} ${b-c} $${", "$${NAME}", "$$${NAME}", "$", "${${"])
def test_any_text_can_be_written(text: str) -> None:
    assert interpolate(as_text(text), VARIABLES) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${input:api-key}", 'only VS Code can ask for "api-key"; write ${API_KEY} and set API_KEY in .env'),
        ("Bearer ${input:1st key}", 'only VS Code can ask for "1st key"; write ${_1ST_KEY} and set _1ST_KEY in .env'),
        *(
            (f"{reference}/x", f"{reference} is known to an editor only; write what it stands for instead")
            for reference in (
                *("${workspaceFolder}", "${workspaceFolder:root}", "${workspaceFolderBasename}", "${file}", "${cwd}"),
                *("${fileDirname}", "${relativeFile}", "${userHome}", "${/}", "${config:a.b}", "${command:a.b}"),
            )
        ),
        *(
            (
                f"a-secret {text} a-secret",
                f"{shown}... is none of ${{NAME}}, ${{NAME:-default}} and ${{NAME:?message}}; where a text is meant, "
                "write $${",
            )
            for text, shown in (
                ("${}", "${"),
                ("${", "${"),
                ("${1A}", "${1A"),
                ("${A-a-secret}", "${A"),
                ("${NAME:+a-secret}", "${NAME"),
                ("${a b}", "${a"),
                ("${NAME", "${NAME"),
                ("${UNSET:-${NAME}}", "${UNSET"),
                ("${env:A-B}", "${env"),
                ("${input:}", "${input"),
            )
        ),
    ],
)
def test_what_is_no_reference_here_is_told_what_to_write_and_not_passed_on(text: str, message: str) -> None:
    with pytest.raises(BadReference) as caught:
        interpolate(text, VARIABLES)
    assert str(caught.value) == message
    assert "a-secret" not in message


def test_a_variable_that_an_editor_has_too_is_ours_where_it_is_set() -> None:
    assert interpolate("${cwd} ${file:-x}", {"cwd": "/here"}) == "/here x"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${UNSET}", "variable UNSET is not set; set it, or write ${UNSET:-default}"),
        ("${env:UNSET}", "variable UNSET is not set; set it, or write ${UNSET:-default}"),
        ("${name}", "variable name is not set; set it, or write ${name:-default}"),  # case matters
        ("${UNSET:?get a key at example.com}", "variable UNSET is not set: get a key at example.com"),
        ("${UNSET:?}", "variable UNSET is not set: it is required"),
        ("${EMPTY:?needed}", "variable EMPTY is not set: needed"),
        ("${NAME}-${UNSET}", "variable UNSET is not set; set it, or write ${UNSET:-default}"),
    ],
)
def test_an_unset_variable_is_an_error_and_never_the_empty_string(text: str, message: str) -> None:
    with pytest.raises(BadReference) as caught:
        interpolate(text, VARIABLES)
    assert str(caught.value) == message


def test_strings_are_found_at_any_depth_and_nothing_else_is_touched() -> None:
    value: dict[str, Any] = {
        "${NAME}": ["${NAME}", {"deep": [["${NAME}"]]}],
        "number": 1.5,
        "flag": True,
        "nothing": None,
    }
    assert interpolate(value, VARIABLES) == {
        "${NAME}": ["value", {"deep": [["value"]]}],  # a key is not a value
        "number": 1.5,
        "flag": True,
        "nothing": None,
    }
    assert value["${NAME}"][0] == "${NAME}", "what was read is not changed"
