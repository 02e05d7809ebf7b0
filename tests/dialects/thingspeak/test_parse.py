"""ThingSpeak's texts to values: examples of real clients, and properties over everything else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.dialects.thingspeak.parameters import JsonNumber, find_key, parse_parameters
from headwater.dialects.thingspeak.parse import (
    WriteLimits,
    json_number_fields,
    parse_channel_settings,
    parse_field_publish,
    parse_publish,
    parse_update,
)
from headwater.dialects.thingspeak.read_query import parse_read_query
from headwater.dialects.thingspeak.times import parse_time_ns, parse_zone
from headwater.errors import BadRequest, RequestError, TooLarge
from headwater.model.entry import EntryUpdate

LIMITS = WriteLimits()
NOW_NS = 1_767_323_045_000_000_000
field_numbers = st.integers(1, 8)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


class TestPublish:
    @pytest.mark.parametrize(
        ("payload", "fields"),
        [
            (b"field1=21.5&field2=60", {1: "21.5", 2: "60"}),
            (b"&1=20.5&8=77", {1: "20.5", 8: "77"}),  # WLANThermo
            (b"field1=1&field9=9&field12=3", {1: "1"}),  # SparkFun Flux numbers on
            (b"field1=a%20b%26c&field2=x+y", {1: "a b&c", 2: "x y"}),
            (b"field1=50%&field2=a=b", {1: "50%", 2: "a=b"}),
            (b"field1=1&field1=2", {1: "2"}),
            (b"field1=&&field2=\xc2\xb0", {1: "", 2: "°"}),
            (b"field9=1", {}),
            (b"field1=1&twitter=t&tweet=hello", {1: "1"}),
        ],
    )
    def test_fields(self, payload: bytes, fields: dict[int, str]) -> None:
        assert parse_publish(payload, LIMITS) == EntryUpdate(fields)

    def test_everything_else(self) -> None:
        payload = b"lat=48.1&long=11.5&elevation=519&status=ok%21&created_at=2026-01-02T03:04:05Z"
        assert parse_publish(payload, LIMITS) == EntryUpdate({}, "48.1", "11.5", "519", "ok!", NOW_NS)

    @pytest.mark.parametrize("payload", [b"", b"hello", b'{"field1":1}', b"field1", b"&&", b"field0=1", b"\xff=1"])
    def test_what_is_no_update(self, payload: bytes) -> None:
        with pytest.raises(BadRequest):
            parse_publish(payload, LIMITS)

    def test_limits(self) -> None:
        parse_publish(b"field1=" + b"x" * 255 + b"&field2=" + b"y" * 255, LIMITS)
        with pytest.raises(TooLarge, match="field2"):
            parse_publish(b"field1=1&field2=" + b"x" * 256, LIMITS)
        with pytest.raises(TooLarge, match="field1"):
            parse_publish(b"field1=" + "°".encode() * 128, LIMITS)
        with pytest.raises(TooLarge, match="3001"):
            parse_publish(b"field1=" + b"x" * 2_994, LIMITS)
        with pytest.raises(TooLarge, match="field3"):
            parse_field_publish(3, b"x" * 256, LIMITS)

    @given(st.dictionaries(field_numbers, texts, min_size=1))
    def test_encoded_fields_come_back(self, fields: dict[int, str]) -> None:
        payload = urlencode({f"field{n}": text for n, text in fields.items()}).encode()
        try:
            assert parse_publish(payload, LIMITS).fields == fields
        except TooLarge:
            assert len(payload) > 3_000 or any(len(text.encode()) > 255 for text in fields.values())

    @given(st.binary(max_size=3_500))
    def test_no_payload_does_worse_than_a_request_error(self, payload: bytes) -> None:
        for parse in (lambda: parse_publish(payload, LIMITS), lambda: parse_field_publish(1, payload, LIMITS)):
            try:
                parse()
            except RequestError:
                continue


class TestParameters:
    def test_query_and_body_are_one(self) -> None:
        assert parse_parameters(b"api_key=K&field1=1", "application/x-www-form-urlencoded", b"field1=2") == {
            "api_key": "K",
            "field1": "2",
        }

    @pytest.mark.parametrize("content_type", ["application/json", "text/html", "application/x-www-form-urlencoded", ""])
    def test_json_whatever_the_content_type_says(self, content_type: str) -> None:
        parameters = parse_parameters(
            b"", content_type, b' {"field1":21.50,"field2":"x","field3":null,"public_flag":true}'
        )
        assert parameters == {"field1": "21.50", "field2": "x", "public_flag": "true"}
        assert json_number_fields(parameters) == {1}
        assert all(type(text) is str for text in parse_update(parameters, LIMITS).fields.values())

    @given(st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1, max_size=8), texts, max_size=8))
    def test_forms_come_back(self, parameters: dict[str, str]) -> None:
        form = urlencode(parameters).encode()
        assert parse_parameters(form, "", b"") == parameters
        assert parse_parameters(b"", "application/x-www-form-urlencoded", form) == parameters

    @given(st.binary(max_size=200), st.sampled_from(["", "application/json", "text/plain"]), st.binary(max_size=200))
    def test_no_bytes_do_worse_than_a_request_error(self, query: bytes, content_type: str, body: bytes) -> None:
        try:
            parameters = parse_parameters(query, content_type, body)
        except RequestError:
            return
        parse_read_query(parameters, NOW_NS, 8_000)
        parse_channel_settings(parameters)

    def test_where_the_key_may_be(self) -> None:
        assert find_key({"api_key": " K "}, []) == "K"
        assert find_key({"key": "K"}, []) == "K"
        assert find_key({"apikey": "K"}, []) == "K"
        assert find_key({}, [(b"thingspeakapikey", b"K")]) == "K"
        assert find_key({"api_key": ""}, [(b"x-thingspeakapikey", b"K ")]) == "K"
        assert find_key({}, []) is None

    def test_json_numbers_keep_their_characters(self) -> None:
        assert json_number_fields({"field1": JsonNumber("1e5"), "2": JsonNumber("7"), "field3": "3"}) == {1, 2}


class TestTimes:
    @pytest.mark.parametrize(
        "text",
        [
            "2026-01-02T03:04:05Z",
            "2026-01-02 03:04:05",
            "2026-01-02T03:04:05",
            " 2026-01-02T03:04:05 ",
            "2026-01-02T04:04:05+01:00",
            "2026-01-02T04:04:05 01:00",  # the '+' was not encoded
            "2026-01-02T04:04:05 0100",
            "20260102T030405Z",
        ],
    )
    def test_forms(self, text: str) -> None:
        assert parse_time_ns(text, UTC) == NOW_NS

    @pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01 00:00:00", "0", "9" * 50, "2026-01-02T25:00:00Z"])
    def test_what_cannot_be_read(self, text: str) -> None:
        assert parse_time_ns(text, UTC) is None

    def test_zone_of_a_time_without_offset(self) -> None:
        assert parse_time_ns("2026-01-02 04:04:05", ZoneInfo("Europe/Berlin")) == NOW_NS
        assert parse_time_ns("2026-01-02T03:04:05Z", ZoneInfo("Europe/Berlin")) == NOW_NS

    def test_parts_of_seconds(self) -> None:
        assert parse_time_ns("2026-01-02T03:04:05.123456Z", UTC) == NOW_NS + 123_456_000

    @given(st.datetimes(datetime(1680, 1, 1), datetime(2262, 1, 1), timezones=st.just(UTC)))
    def test_every_time_comes_back(self, at: datetime) -> None:
        at_ns = parse_time_ns(at.isoformat(), UTC)
        assert at_ns is not None
        assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_ns // 1_000) == at

    @given(st.text(max_size=30))
    def test_no_text_raises(self, text: str) -> None:
        parse_time_ns(text, UTC)
        parse_zone({"timezone": text, "offset": text})

    @pytest.mark.parametrize("name", ["No/Where", "..", "Europe", "/etc/passwd", "a" * 300, "europe/berlin\0"])
    def test_unknown_zones_are_utc(self, name: str) -> None:
        assert parse_zone({"timezone": name}) == UTC

    def test_offsets(self) -> None:
        assert parse_zone({"offset": "-5.5"}) == timezone(timedelta(hours=-5.5))
        assert parse_zone({"offset": "99"}) is None
        assert parse_zone({"offset": "nan"}) is None
        assert parse_zone({"timezone": "Asia/Kolkata", "offset": "1"}) == ZoneInfo("Asia/Kolkata")


class TestReadQuery:
    def results(self, **parameters: str) -> int:
        return parse_read_query(parameters, NOW_NS, 8_000).results

    def test_how_many(self) -> None:
        assert self.results() == 100
        assert self.results(results="7") == 7
        assert self.results(results="0") == 0
        assert self.results(results="9999999") == 8_000
        assert self.results(results="-3") == 0
        assert self.results(results="many") == 100
        assert self.results(days="1") == 8_000
        assert self.results(days="1", results="5") == 5

    def test_window(self) -> None:
        hour_ns = 3_600_000_000_000
        query = parse_read_query({"minutes": "60"}, NOW_NS, 8_000)
        assert (query.start_ns, query.end_ns) == (NOW_NS - hour_ns, None)
        query = parse_read_query({"start": "2026-01-02 03:04:05", "end": "2026-01-02 03:04:05"}, NOW_NS, 8_000)
        assert (query.start_ns, query.end_ns) == (NOW_NS, NOW_NS + 1_000_000_000)
        assert parse_read_query({"days": "0"}, NOW_NS, 8_000).start_ns is None
        assert parse_read_query({"days": "9" * 11}, NOW_NS, 8_000).start_ns == 0


def test_a_text_is_not_echoed_as_a_number_that_was_sent_by_another_name() -> None:
    parameters = parse_parameters(b"", "application/json", b'{"1":5,"field1":"x","field2":"y","2":6}')
    assert parse_update(parameters, LIMITS).fields == {1: "x", 2: "6"}
    assert json_number_fields(parameters) == {2}
