"""What of an answer is wanted."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import BadRequest
from headwater.services.parse_string import check_parse_string, cut

WEATHER = json.dumps(
    {"main": {"temp": 21.5, "sky": "klar ☀", "ok": True, "none": None}, "list": [{"name": "first"}, [1, 2]], "a b": 1}
)


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("main.temp", "21.5"),
        ("main.sky", "klar ☀"),
        ("main.ok", "true"),
        ("main.none", "null"),
        ("list.0.name", "first"),
        ("list[0].name", "first"),
        ("list[1][1]", "2"),
        ("list.1", "[1,2]"),
        ("a b", "1"),
        ("main.missing", None),
        ("main.temp.more", None),
        ("list.2", None),
        ("list.name", None),
        ("list.²", None),
    ],
)
def test_a_path_into_json(path: str, wanted: str | None) -> None:
    check_parse_string(path)
    assert cut(WEATHER, path) == wanted


def test_a_list_at_the_top() -> None:
    check_parse_string("[0].a")
    assert cut('[{"a":"x"}]', "[0].a") == "x"


@pytest.mark.parametrize("answer", ["", "no json", "[" * 100_000, '{"a": NaN'])
def test_an_answer_that_is_no_json_has_no_such_part(answer: str) -> None:
    assert cut(answer, "a") is None


@pytest.mark.parametrize(
    ("between", "wanted"),
    [
        ("<b>%%%</b>", "one"),
        ("%%%<b>", "x "),
        ("</b> %%%", "<b>two</b> y"),
        ("%%%", "x <b>one</b> <b>two</b> y"),
        ("<i>%%%</i>", None),
        ("<b>%%%</i>", None),
        ("y%%%", ""),
    ],
)
def test_the_text_between_two_others(between: str, wanted: str | None) -> None:
    check_parse_string(between)
    assert cut("x <b>one</b> <b>two</b> y", between) == wanted


@pytest.mark.parametrize(
    "text", ["//div[@id='x']", "(a+)+$", "a..b", ".a", "a.", "a[b]", "a%%%b%%%c", "x" * 501, "a%b", "a" + ".b" * 32]
)
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="parse string"):
        check_parse_string(text)


def test_no_parse_string_is_one() -> None:
    check_parse_string("")


@given(st.text(max_size=50), st.text(max_size=20))
def test_any_answer_and_any_parse_string_give_a_part_or_none(answer: str, parse_string: str) -> None:
    with suppress(BadRequest):
        check_parse_string(parse_string)
        part = cut(answer, parse_string or "a")
        assert part is None or isinstance(part, str)
