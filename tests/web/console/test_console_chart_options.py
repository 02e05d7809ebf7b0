"""Options of charts: what is kept, who sees it, and the code for other pages."""

from __future__ import annotations

import html
import re
import time
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from console_site import Browser, Site
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import URL

from headwater.dialects.thingspeak.chart import parse_look
from headwater.model.entry import EntryUpdate
from headwater.registry.entities import Account, ApiKey, Channel, ChannelSettings
from headwater.web.console.chart_form import form_values, frame_code, parse_chart_form
from headwater.web.console.forms import parse_form
from headwater.web.console.options import MqttPorts
from headwater.web.console.snippets import addresses_of

AT = datetime(2026, 1, 1, tzinfo=UTC)
FULL = {
    "title": "Roof & sky",
    "type": "spline",
    "color": "08666E",
    "bgcolor": "#fff",
    "results": "500",
    "days": "7",
    "round": "1",
    "combine": "median",
    "minutes": "60",
    "yaxismin": "-5",
    "yaxismax": "40,5",
}
KEPT = {
    "title": "Roof & sky",
    "type": "spline",
    "color": "#08666e",
    "bgcolor": "#fff",
    "results": "500",
    "days": "7",
    "round": "1",
    "median": "60",
    "yaxismin": "-5",
    "yaxismax": "40.5",
}


def parse(form: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    return parse_chart_form(parse_form(urlencode(form).encode()))


def test_what_a_form_stands_for() -> None:
    assert parse(FULL) == (KEPT, {})
    assert parse({"type": "line", "combine": "", "minutes": "60"}) == ({}, {})
    assert parse({"type": "step"}) == ({"step": "true"}, {})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("title", "x" * 121),
        ("color", "red"),
        ("bgcolor", "#12345"),
        ("results", "0"),
        ("results", "8001"),
        ("days", "1.5"),
        ("round", "-1"),
        ("yaxismin", "low"),
        ("yaxismin", "nan"),
        ("yaxismax", "1e999"),
    ],
)
def test_what_cannot_be_is_told_beside_its_input(name: str, text: str) -> None:
    options, errors = parse({name: text})
    assert list(errors) == [name]
    assert form_values(options)[name] == text


def test_an_axis_has_two_ends() -> None:
    assert list(parse({"yaxismin": "5", "yaxismax": "5"})[1]) == ["yaxismax"]


@given(
    st.fixed_dictionaries(
        {name: st.sampled_from(["", "1", "7", "#abc", "step", "bar", "sum", "60", "x"]) for name in FULL}
    )
)
def test_a_form_shown_again_says_the_same(form: dict[str, str]) -> None:
    options, errors = parse(form)
    again, errors_again = parse(form_values(options))
    assert (again, list(errors_again)) == (options, list(errors))


def channel(*, is_public: bool) -> Channel:
    keys = (ApiKey(1, "W" * 16, True, "", AT), ApiKey(2, "R" * 16, False, "", AT))
    return Channel(7, 1, ChannelSettings(name="n", fields={1: "x"}, is_public=is_public), keys, AT, AT)


def test_the_code_for_another_page_is_the_same_chart() -> None:
    at = addresses_of(URL("http://station.local:8080/"), MqttPorts())
    code = frame_code(channel(is_public=False), 1, KEPT, at)
    source = re.search(r'src="([^"]*)"', code)
    assert source is not None
    address = urlsplit(html.unescape(source[1]))
    assert (address.netloc, address.path) == ("station.local:8080", "/channels/7/charts/1")
    parameters = {name: values[0] for name, values in parse_qs(address.query).items()}
    assert parameters == {"api_key": "R" * 16, "dynamic": "true"} | KEPT
    look = parse_look(parameters, "", "", None)
    assert (look.title, look.kind, look.colour, look.background) == ("Roof & sky", "spline", "#08666e", "#fff")
    assert (look.least, look.most) == (-5, 40.5)
    assert "R" * 16 not in frame_code(channel(is_public=True), 1, KEPT, at)
    assert "W" * 16 not in code


@pytest.fixture
async def roof(site: Site, ada_account: Account) -> Channel:
    return await site.channel(ada_account, "Roof")


async def save(ada: Browser, roof: Channel, form: dict[str, str], number: int = 1) -> int:
    await ada.get(f"/channels/{roof.id}")
    return (await ada.post(f"/channels/{roof.id}/chart_options/{number}", form)).status_code


async def test_options_are_kept_and_shown_to_everybody(site: Site, ada: Browser, roof: Channel) -> None:
    assert await save(ada, roof, FULL) == 303
    page = html.unescape((await ada.get(f"/channels/{roof.id}")).text)
    assert '<h2 id="field1-name">Roof & sky</h2>' in page
    assert '<h2 id="field2-name">Humidity</h2>' in page
    assert 'value="#08666e"' in page
    settings = replace(roof.settings, is_public=True)
    await site.services.channels.update(roof.account_id, roof.id, settings)
    public = html.unescape((await site.browser().get(f"/channels/{roof.id}")).text)
    assert "Roof & sky" in public
    assert "Chart Options" not in public
    assert "iframe" not in public


async def test_reset_and_a_deleted_channel_leave_nothing(site: Site, ada: Browser, roof: Channel) -> None:
    registry = site.services.registry
    assert await save(ada, roof, FULL) == 303
    assert await save(ada, roof, FULL | {"color": "nonsense", "reset": "1"}) == 303
    assert await registry.read(lambda it: it.chart_options(roof.id)) == {}
    assert await save(ada, roof, FULL) == 303
    await site.services.channels.delete(roof.account_id, roof.id)
    assert await registry.read(lambda it: it.chart_options(roof.id)) == {}


async def test_wrong_options_are_shown_again_and_not_kept(site: Site, ada: Browser, roof: Channel) -> None:
    await ada.get(f"/channels/{roof.id}")
    answer = await ada.post(f"/channels/{roof.id}/chart_options/2", {"title": "<b>", "color": "red"})
    assert answer.status_code == 400
    assert "Enter a colour" in answer.text
    assert 'value="&lt;b&gt;"' in answer.text
    assert await site.services.registry.read(lambda it: it.chart_options(roof.id)) == {}


async def test_only_fields_that_are_there_have_charts(ada: Browser, roof: Channel) -> None:
    assert await save(ada, roof, FULL, number=3) == 404


async def test_who_only_reads_changes_nothing(site: Site, ada: Browser, roof: Channel) -> None:
    await site.account("bob")
    bob = site.browser()
    await bob.sign_in("bob")
    await site.services.channels.share(roof.account_id, roof.id, ["bob"])
    assert (await bob.post(f"/channels/{roof.id}/chart_options/1", FULL)).status_code == 404
    assert await site.services.registry.read(lambda it: it.chart_options(roof.id)) == {}


async def test_a_chart_may_show_other_data_than_those_beside_it(site: Site, ada: Browser, roof: Channel) -> None:
    hour_ns = 3600 * 10**9
    begin_ns = time.time_ns() // hour_ns * hour_ns - 2 * hour_ns
    for place, number in enumerate((1, 2, 6)):
        update = EntryUpdate({1: str(number), 2: "5"}, created_at_ns=begin_ns + place * 10**9)
        await site.services.entries.write_dated(roof, update, begin_ns).wait()
    assert await save(ada, roof, {"combine": "sum", "minutes": "60"}) == 303
    fields = (await ada.get(f"/channels/{roof.id}/data")).json()["fields"]
    assert fields["1"]["numbers"] == [9.0]
    assert fields["1"]["at_s"] == [begin_ns / 10**9]
    assert fields["1"]["is_own"] is True
    assert fields["1"]["last"]["text"] == "6"
    assert fields["2"]["numbers"] == [5.0, 5.0, 5.0]
    assert "is_own" not in fields["2"]
