"""Answers in every form, byte for byte."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.dialects.thingspeak.aggregation import Aggregation, Method, aggregate
from headwater.dialects.thingspeak.errors import METHOD_INVALID, render_problem_xml
from headwater.dialects.thingspeak.forms import Form
from headwater.dialects.thingspeak.pages import (
    entry_page,
    feed_page,
    render_bare,
    render_page,
    render_single,
    status_page,
)
from headwater.dialects.thingspeak.read_query import ReadQuery, parse_read_query
from headwater.dialects.thingspeak.xml import to_xml
from headwater.model.entry import Entry
from headwater.registry.entities import Channel, ChannelSettings

AT_NS = 1_767_323_045_999_999_999
MADE = datetime(2026, 1, 1, tzinfo=UTC)
PLAIN = ReadQuery(100, None, None, None, False, False, False)
ALL = PLAIN._replace(with_status=True, with_location=True)
ENTRY = Entry(12, AT_NS, {1: "21.50", 2: 'a"b,<c>&'}, "1.5", None, "7", "ok")
CHANNEL = Channel(7, 1, ChannelSettings(name="n", fields={1: "Temp", 2: "Hum"}), (), MADE, MADE)


def feed(form: Form, query: ReadQuery = PLAIN) -> str:
    return render_page(feed_page(CHANNEL, 12, [ENTRY], [1, 2], query, form), form).decode()


def test_a_feed_as_json() -> None:
    assert feed(Form.JSON) == (
        '{"channel":{"id":7,"name":"n","latitude":"0.0","longitude":"0.0","field1":"Temp","field2":"Hum",'
        '"created_at":"2026-01-01T00:00:00Z","updated_at":"2026-01-01T00:00:00Z","last_entry_id":12},'
        '"feeds":[{"created_at":"2026-01-02T03:04:05Z","entry_id":12,"field1":"21.50","field2":"a\\"b,<c>&"}]}'
    )


def test_a_feed_as_csv() -> None:
    assert feed(Form.CSV) == ('created_at,entry_id,field1,field2\n2026-01-02 03:04:05 UTC,12,21.50,"a""b,<c>&"\n')
    assert feed(Form.CSV, ALL._replace(zone=ZoneInfo("America/New_York"))) == (
        "created_at,entry_id,field1,field2,latitude,longitude,elevation,status\n"
        '2026-01-01 22:04:05 -0500,12,21.50,"a""b,<c>&",1.5,,7,ok\n'
    )


def test_a_feed_as_xml() -> None:
    assert feed(Form.XML, ALL) == (
        """<?xml version="1.0" encoding="UTF-8"?>
<channel>
  <id type="integer">7</id>
  <name>n</name>
  <latitude type="decimal">0.0</latitude>
  <longitude type="decimal">0.0</longitude>
  <field1>Temp</field1>
  <field2>Hum</field2>
  <created-at type="dateTime">2026-01-01T00:00:00Z</created-at>
  <updated-at type="dateTime">2026-01-01T00:00:00Z</updated-at>
  <last-entry-id type="integer">12</last-entry-id>
  <feeds type="array">
    <feed>
      <created-at type="dateTime">2026-01-02T03:04:05Z</created-at>
      <entry-id type="integer">12</entry-id>
      <field1>21.50</field1>
      <field2>a"b,&lt;c&gt;&amp;</field2>
      <latitude type="decimal">1.5</latitude>
      <longitude type="decimal" nil="true"/>
      <elevation type="decimal">7</elevation>
      <status>ok</status>
      <id type="integer" nil="true"/>
    </feed>
  </feeds>
</channel>
"""
    )


def test_an_empty_feed() -> None:
    page = feed_page(CHANNEL, 0, [], [1], PLAIN, Form.XML)
    assert b'<feeds type="array"/>' in render_page(page, Form.XML)
    assert render_page(page, Form.CSV) == b"created_at,entry_id,field1\n"
    assert render_page(page, Form.JSON).endswith(b'"last_entry_id":null},"feeds":[]}')


def test_buckets_have_no_number() -> None:
    buckets = aggregate([ENTRY], Aggregation(Method.SUM, 3_600_000_000_000), [1, 2], None, 10)
    query = ALL._replace(aggregation=Aggregation(Method.SUM, 3_600_000_000_000))
    page = feed_page(CHANNEL, 12, buckets, [1, 2], query, Form.JSON)
    assert page.rows == [{"created_at": "2026-01-02T03:00:00Z", "field1": "21.5", "field2": None}]
    csv = render_page(feed_page(CHANNEL, 12, buckets, [1, 2], query, Form.CSV), Form.CSV)
    assert csv == b"created_at,field1,field2\n2026-01-02 03:00:00 UTC,21.5,\n"


def test_one_entry() -> None:
    def single(form: Form, query: ReadQuery = PLAIN) -> bytes:
        return render_single(entry_page(ENTRY, [1], query, form), form)

    json = b'{"created_at":"2026-01-02T03:04:05Z","entry_id":12,"field1":"21.50"}'
    assert single(Form.JSON) == single(Form.TEXT) == json
    assert single(Form.CSV) == b"created_at,entry_id,field1\n2026-01-02 03:04:05 UTC,12,21.50\n"
    assert single(Form.XML).splitlines()[1:3] == [
        b"<feed>",
        b'  <created-at type="dateTime">2026-01-02T03:04:05Z</created-at>',
    ]
    assert list(entry_page(ENTRY, [1, 3], ALL, Form.JSON).rows[0])[2:] == [
        *("field1", "field3", "latitude", "longitude", "elevation", "status"),
    ]


def test_statuses() -> None:
    page = status_page(CHANNEL, [ENTRY, Entry(13, AT_NS, {})], PLAIN, Form.JSON)
    assert render_page(page, Form.JSON) == (
        b'{"channel":{"name":"n","latitude":"0.0","longitude":"0.0"},"feeds":['
        b'{"created_at":"2026-01-02T03:04:05Z","entry_id":12,"status":"ok"},'
        b'{"created_at":"2026-01-02T03:04:05Z","entry_id":13,"status":null}]}'
    )


def test_a_bare_value() -> None:
    query = parse_read_query({"round": "1"}, 0, 100)
    assert render_bare("21.50", {"prepend": "<b>", "append": " °C"}, query) == "<b>21.5 °C".encode()
    assert render_bare("on", {}, query) == b"on"
    assert render_bare(None, {}, PLAIN) == b""


def test_an_error_as_xml() -> None:
    assert render_problem_xml(METHOD_INVALID, "This path takes GET.") == (
        b'<?xml version="1.0" encoding="UTF-8"?>\n<error>\n  <error-code>error_method_invalid</error-code>\n'
        b"  <message>Method Not Allowed</message>\n  <details>This path takes GET.</details>\n</error>\n"
    )


@given(st.text())
def test_any_text_makes_xml_that_can_be_read(text: str) -> None:
    (name,) = ET.fromstring(to_xml("feed", {"field1": text}))
    if text.isprintable() or text.isalnum():
        assert (name.text or "") == text


@pytest.mark.parametrize("form", list(Form))
def test_extensions(form: Form) -> None:
    assert form.extension in (".json", ".xml", ".csv", ".txt")
