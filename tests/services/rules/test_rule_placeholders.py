"""Placeholders in texts of rules: what devices send stays data."""

from __future__ import annotations

import html
import json
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.model.entry import Entry
from headwater.services.rules.placeholders import (
    NAMES,
    Occasion,
    escape_for,
    escape_like,
    fill,
    fill_url,
    form_escape,
    json_escape,
    line_escape,
)

texts = st.text(st.characters(exclude_categories=["Cs"]))


def occasion(text: str) -> Occasion:
    return Occasion("Hot", Entry(7, 1_700_000_000_000_000_000, {1: text}, status=text), 12, "Green house")


def test_every_name_is_filled() -> None:
    found = fill(" ".join(f"%%{name}%%" for name in NAMES), occasion("21.5")).split(" ")
    values = dict(zip(NAMES, "|".join(found).replace("Green|house", "Green house").split("|"), strict=True))
    assert {name: value for name, value in values.items() if value} == {
        "field1": "21.5",
        "status": "21.5",
        "entry_id": "7",
        "created_at": "2023-11-14T22:13:20Z",
        "channel_id": "12",
        "channel_name": "Green house",
        "rule_name": "Hot",
    }
    assert fill("%%field1%% %%entry_id%% %%channel_id%%.", Occasion("x")) == "  ."
    assert fill("100%% %%field0%% %%nothing%%", occasion("1")) == "100%% %%field0%% %%nothing%%"


def test_fields_above_the_eighth_are_filled() -> None:
    entry = Entry(7, 0, {9: "nine", 10: "ten", 256: "last"})
    assert fill("%%field9%%,%%field10%%,%%field256%%,%%field99%%.", Occasion("x", entry)) == "nine,ten,last,."


@given(texts)
def test_a_value_stays_inside_its_json_text(text: str) -> None:
    assert json.loads(fill('{"a":"%%field1%%","b":1}', occasion(text), json_escape)) == {"a": text, "b": 1}


@given(texts)
def test_a_value_adds_nothing_to_a_url_or_a_form(text: str) -> None:
    url = urlsplit(fill_url("https://example.org/%%field1%%?a=%%field1%%&b=1", occasion(text)))
    assert (url.netloc, url.fragment, url.path.count("/")) == ("example.org", "", 1)
    assert parse_qs(url.query, keep_blank_values=True, strict_parsing=True) == {"a": [text], "b": ["1"]}
    form = fill("a=%%field1%%&b=1", occasion(text), form_escape)
    assert parse_qsl(form, keep_blank_values=True) == [("a", text), ("b", "1")]


@pytest.mark.parametrize("value", [".", "..", "..."])
def test_a_value_leads_out_of_no_path(value: str) -> None:
    url = fill_url("https://example.org/devices/%%field1%%/on?v=%%field1%%", occasion(value))
    assert httpx.URL(url).path == "/devices//on"
    assert url.endswith(f"?v={value}")
    assert fill_url("https://example.org/%%field1%%", occasion("1.5")) == "https://example.org/1.5"


@given(texts)
def test_a_value_adds_no_line(text: str) -> None:
    assert len(fill("x %%field1%% y", occasion(text), line_escape).encode().splitlines()) == 1


def test_a_value_is_not_looked_through_for_placeholders() -> None:
    assert fill("%%field1%%", occasion("%%channel_id%%")) == "%%channel_id%%"


@pytest.mark.parametrize(
    ("content_type", "escape"),
    [
        ("application/json", json_escape),
        ("Application/JSON; charset=utf-8", json_escape),
        ("application/problem+json", json_escape),
        ("application/x-www-form-urlencoded", form_escape),
        ("text/xml; charset=utf-8", html.escape),
        ("application/soap+xml", html.escape),
        ("text/html", html.escape),
        ("text/plain", str),
        ("", str),
    ],
)
def test_bodies_are_escaped_by_their_type(content_type: str, escape: object) -> None:
    assert escape_for(content_type) is escape


@pytest.mark.parametrize(
    ("template", "escape"),
    [('{"t":%%field1%%}', json_escape), (" [1]", json_escape), ("field1=%%field2%%", form_escape), ("%%field1%%", str)],
)
def test_payloads_are_escaped_by_how_they_begin(template: str, escape: object) -> None:
    assert escape_like(template) is escape
