"""Forms: bytes to values, within limits, never an exception that is not ours."""

from __future__ import annotations

import contextlib
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import BadRequest, HeadwaterError, TooLarge
from headwater.registry.entities import ChannelSettings
from headwater.services.channels import MAX_RETENTION_S, MIN_RETENTION_S
from headwater.web.console.channel_form import (
    channel_form_errors,
    days_of,
    is_web_address,
    more_numbers,
    parse_channel_form,
)
from headwater.web.console.devices import parse_grants
from headwater.web.console.forms import ID_MAX, MAX_FORM_FIELDS, Form, parse_form, parse_id
from headwater.web.console.sign_in import HOME, local_path

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.dictionaries(TEXT.filter(bool), TEXT))
def test_what_a_browser_encodes_is_read_back(values: dict[str, str]) -> None:
    form = parse_form(urlencode(values).encode())
    for name, value in values.items():
        assert form.exact(name) == value.replace("\r\n", "\n")


@given(st.binary())
def test_any_bytes_give_a_form_or_an_error_of_ours(body: bytes) -> None:
    with contextlib.suppress(HeadwaterError):
        parse_form(body)


def test_a_value_that_was_not_sent_is_empty() -> None:
    form = Form()
    assert form.text("name") == ""
    assert not form.has("name")
    assert form.ids("publish") == frozenset()


def test_a_repeated_single_value_is_refused() -> None:
    with pytest.raises(BadRequest):
        parse_form(b"name=a&name=b").text("name")


def test_text_that_is_not_utf_8_is_refused() -> None:
    for body in (b"name=%ff", b"name=\xff"):
        with pytest.raises(BadRequest):
            parse_form(body)


def test_too_many_values_are_refused() -> None:
    with pytest.raises(TooLarge):
        parse_form(b"a=1&" * (MAX_FORM_FIELDS + 1))


@pytest.mark.parametrize("text", ["", "-1", "1.5", "seven", "٧", str(ID_MAX + 1), "9" * 5000])
def test_ids_that_cannot_be(text: str) -> None:
    with pytest.raises(BadRequest):
        parse_id(text)


@given(st.integers(0, ID_MAX))
def test_ids(number: int) -> None:
    assert parse_id(str(number)) == number


def test_grants() -> None:
    grants = parse_grants(parse_form(b"publish=3&publish=1&subscribe=3"))
    assert [(g.bucket_id, g.allow_publish, g.allow_subscribe) for g in grants] == [(1, True, False), (3, True, True)]


@given(st.text())
def test_the_way_after_sign_in_stays_on_this_server(text: str) -> None:
    path = local_path(text)
    assert path.startswith("/")
    assert not path.startswith(("//", "/\\"))


@pytest.mark.parametrize(
    "text",
    ["", "/", "//evil.example", "/\\evil.example", "https://evil.example", "javascript:alert(1)", "/a\nb", "/\t/x"],
)
def test_other_ways_lead_home(text: str) -> None:
    assert local_path(text) == HOME


NAMES = ["name", "field1", "latitude", "url", "tags", "access", "metadata", "days"]


@given(st.dictionaries(st.sampled_from(NAMES), TEXT).map(lambda values: {"keep": "days"} | values))
def test_any_channel_form_gives_settings_or_errors(values: dict[str, str]) -> None:
    settings = parse_channel_form(parse_form(urlencode(values).encode()))
    assert all(channel_form_errors(settings).values())


def test_more_fields_than_eight() -> None:
    before = ChannelSettings(fields={1: "a", 9: "b", 70: "c"}, units={9: "mm"}, takes_names=True)
    sent = Form({"name": ["n"], "field1": ["a"], "field10": ["d"], "unit10": ["m/s"], "unit9": [""], "label1": ["A"]})
    after = parse_channel_form(sent, before)
    assert after.fields == {1: "a", 9: "b", 10: "d", 70: "c"}  # what the form did not show stays
    assert (after.units, after.labels, after.takes_names) == ({10: "m/s"}, {1: "A"}, True)
    assert not parse_channel_form(Form({"name": ["n"], "called": ["numbers"]}), before).takes_names
    assert channel_form_errors(ChannelSettings(name="n", fields={9: "x"}, units={9: "x" * 33})).keys() == {"unit9"}
    assert channel_form_errors(ChannelSettings(name="n", fields={9: "x"}), 8).keys() == {""}


@pytest.mark.parametrize(
    ("greatest", "most", "last"), [(0, 64, 16), (8, 64, 16), (9, 64, 16), (16, 64, 24), (63, 64, 64), (20, 8, 20)]
)
def test_how_many_more_fields_are_offered(greatest: int, most: int, last: int) -> None:
    offered = more_numbers(ChannelSettings(fields={greatest: "x"} if greatest else {}), most)
    assert (offered[0], offered[-1]) == (9, last)
    assert not more_numbers(ChannelSettings(), 8)


def test_what_the_channel_form_leaves_out_stays() -> None:
    before = ChannelSettings(name="Old", metadata="{}", is_public=True, tags=("a",), fields={1: "x"})
    after = parse_channel_form(parse_form(b"name=New&field2=Humidity"), before)
    assert (after.name, after.fields) == ("New", {2: "Humidity"})
    assert (after.metadata, after.is_public, after.tags) == ("{}", True, ("a",))


@pytest.mark.parametrize(
    ("keep", "days", "retention_s"),
    [("forever", "30", None), ("days", "30", 30 * 86_400), ("days", "0.5", 43_200), ("days", "0.05", 4_320)],
)
def test_how_long_entries_are_kept(keep: str, days: str, retention_s: int | None) -> None:
    settings = parse_channel_form(parse_form(urlencode({"name": "n", "keep": keep, "days": days}).encode()))
    assert settings.retention_s == retention_s
    assert channel_form_errors(settings) == {}


@pytest.mark.parametrize("days", ["", "0", "0.01", "-1", "thirty", "1e3", "106752", "9" * 500, "٣"])
def test_days_that_cannot_be(days: str) -> None:
    settings = parse_channel_form(parse_form(urlencode({"name": "n", "keep": "days", "days": days}).encode()))
    assert "Enter a number of days" in channel_form_errors(settings)["retention_s"]


@given(st.integers(MIN_RETENTION_S, MAX_RETENTION_S))
def test_a_retention_that_is_shown_and_sent_back_stays(retention_s: int) -> None:
    before = ChannelSettings(name="n", retention_s=retention_s)
    form = urlencode({"name": "n", "keep": "days", "days": days_of(retention_s)})
    assert parse_channel_form(parse_form(form.encode()), before) == before
    assert parse_channel_form(parse_form(b"name=n"), before) == before


def test_errors_stand_beside_their_input() -> None:
    errors = channel_form_errors(ChannelSettings(name="", latitude="north", url="javascript:alert(1)"))
    assert set(errors) == {"name", "latitude", "url"}
    assert channel_form_errors(ChannelSettings(name="n", tags=("x" * 100,)))
    assert "field3" in channel_form_errors(ChannelSettings(name="n", fields={3: "x" * 300}))


@pytest.mark.parametrize("text", ["http://a", "https://a.example/b?c", "HTTPS://A"])
def test_web_addresses(text: str) -> None:
    assert is_web_address(text)


@pytest.mark.parametrize("text", ["javascript:alert(1)", "data:text/html,x", "//a", "a", "https://", "https:// a", ""])
def test_what_is_no_web_address(text: str) -> None:
    assert not is_web_address(text)
