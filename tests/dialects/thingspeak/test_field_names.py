"""What a field may be called: by number, by name, and in a channel that is like any other."""

from __future__ import annotations

from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.dialects.thingspeak.field_names import (
    RESERVED,
    STANDARD,
    find_field,
    is_usual_spelling,
    names_of,
)
from headwater.dialects.thingspeak.parse import (
    WriteLimits,
    json_number_fields,
    parse_entry_change,
    parse_publish,
    parse_update,
)
from headwater.errors import BadRequest, RequestError, TooLarge
from headwater.model.entry import FIELD_NUMBERS, EntryUpdate
from headwater.registry.entities import ChannelSettings

LIMITS = WriteLimits(max_message_bytes=100_000)
WEATHER = ChannelSettings(
    fields={1: "temperature", 2: "Wind speed", 9: "rain/h", 12: "status", 13: "twin", 14: "twin"}, takes_names=True
)
own_names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).map(str.strip)
some_fields = st.dictionaries(st.integers(1, 256), own_names.filter(bool))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def test_what_most_channels_have_is_not_worked_out() -> None:
    assert names_of(ChannelSettings(fields={1: "a", 8: "b"})) is STANDARD
    assert ChannelSettings(fields={1: "a"}).numbers is FIELD_NUMBERS
    assert ChannelSettings(fields={12: "a", 9: "b"}).numbers == (*range(1, 9), 9, 12)


class TestPublish:
    def parse(self, payload: bytes, settings: ChannelSettings = WEATHER) -> EntryUpdate:
        return parse_publish(payload, LIMITS, names_of(settings))

    @pytest.mark.parametrize(
        ("payload", "fields"),
        [
            (b"temperature=21.5&field2=3", {1: "21.5", 2: "3"}),
            (b"Wind speed=3&Wind%20speed=4", {2: "4"}),
            (b"Wind+speed=a%20b", {2: "a b"}),
            (b"rain/h=1", {9: "1"}),
            (b"rain%2Fh=1&12=x", {9: "1", 12: "x"}),
            (b"field9=1&9=2&field10=3&field14=4", {9: "2", 14: "4"}),
            (b"field10=3", {}),
            (b"field1=0&Temperature=1&twin=2&unknown=3", {1: "0"}),
        ],
    )
    def test_fields(self, payload: bytes, fields: dict[int, str]) -> None:
        assert self.parse(payload) == EntryUpdate(fields)

    def test_what_a_parameter_means_already_stays(self) -> None:
        assert self.parse(b"status=ok&field12=x") == EntryUpdate({12: "x"}, status="ok")
        taken = ChannelSettings(fields={1: "field2", 2: "1", 3: "lat", 4: "api_key"}, takes_names=True)
        assert self.parse(b"field2=a&1=b&lat=5", taken) == EntryUpdate({2: "a", 1: "b"}, latitude="5")
        assert parse_update({"api_key": "K"}, LIMITS, names_of(taken)).fields == {}
        later = ChannelSettings(fields={1: "precision", 2: "remove"}, takes_names=True)
        assert parse_update({"precision": "ms"}, LIMITS, names_of(later)).fields == {}
        assert parse_entry_change({"remove": "field1"}, (), LIMITS, names_of(later)).texts == {"field1": None}

    def test_names_are_unknown_parameters_where_they_are_not_taken(self) -> None:
        plain = ChannelSettings(fields={1: "temperature", 9: "rain"})
        assert self.parse(b"temperature=1&field9=2", plain) == EntryUpdate({9: "2"})
        with pytest.raises(BadRequest, match="none of field1"):
            self.parse(b"temperature=1", plain)

    def test_limits_hold_for_each(self) -> None:
        with pytest.raises(TooLarge, match="field9"):
            self.parse(b"rain/h=" + b"x" * 256)

    @given(
        some_fields, st.dictionaries(st.integers(1, 256), texts), st.booleans(), st.sampled_from([quote, quote_plus])
    )
    def test_encoded_names_come_back(self, named, values, takes_names, encode) -> None:  # type: ignore[no-untyped-def]
        settings = ChannelSettings(fields=named, takes_names=takes_names)
        names = names_of(settings)
        spelled = {name: number for name, number in names.items() if number in values and name not in RESERVED}
        payload = "&".join(f"{encode(name)}={encode(values[number])}" for name, number in spelled.items())
        if not spelled:
            return
        expected = {number: values[number] for number in spelled.values()}
        try:
            found = parse_publish(payload.encode(), LIMITS, names)
        except TooLarge:
            return
        if names is STANDARD:  # whose names are never encoded
            assert found.fields.items() <= expected.items()
        else:
            assert found.fields == expected
        assert (
            parse_update({name: values[number] for name, number in spelled.items()}, LIMITS, names).fields == expected
        )

    @given(st.binary(max_size=500), some_fields)
    def test_no_payload_does_worse_than_a_request_error(self, payload: bytes, named: dict[int, str]) -> None:
        settings = ChannelSettings(fields=named, takes_names=True)
        try:
            found = parse_publish(payload, LIMITS, names_of(settings))
        except RequestError:
            return
        assert set(found.fields) <= set(settings.numbers)

    @given(st.binary(max_size=500))
    def test_a_channel_of_eight_is_what_it_was(self, payload: bytes) -> None:
        assert _outcome(payload, STANDARD) == _outcome(payload, names_of(ChannelSettings(fields={3: "x"})))


def _outcome(payload: bytes, names) -> object:  # type: ignore[no-untyped-def]
    try:
        return parse_publish(payload, LIMITS, names)
    except RequestError as error:
        return str(error)


def test_updates_over_rest() -> None:
    names = names_of(WEATHER)
    parameters = {"temperature": "21.5", "9": "2", "field77": "x", "Wind speed": "3"}
    assert parse_update(parameters, LIMITS, names).fields == {1: "21.5", 9: "2", 2: "3"}
    assert parse_update(parameters, LIMITS).fields == {}
    assert json_number_fields({"rain/h": "x"}, names) == frozenset()


def test_spellings_of_a_name_that_may_be_subscribed_to() -> None:
    for level in ("it's 5 °C", "it%27s%205%20%C2%B0C", "it's%205%20%C2%B0C"):
        assert is_usual_spelling(level, "it's 5 °C")
    assert not is_usual_spelling("%69t's 5 °C", "it's 5 °C")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", 1), ("field1", 1), ("field9", 9), ("12", 12), ("field8", 8), ("temperature", 1), ("Wind speed", 2),
        ("Wind%20speed", 2), ("rain%2Fh", 9), ("status", 12), ("field10", None), ("10", None), ("twin", None),
        ("Temperature", None), ("", None), ("field0", None), ("field٣", None), ("field01", None),
    ],
)  # fmt: skip
def test_fields_of_paths_and_topics(text: str, number: int | None) -> None:
    assert find_field(WEATHER, text) == number
    by_number_alone = ChannelSettings(fields=WEATHER.fields)
    assert find_field(by_number_alone, text) == number  # reading by name needs no switch
