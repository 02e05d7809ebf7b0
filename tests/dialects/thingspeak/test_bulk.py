"""Bulk updates: what is read of them, and when their entries were."""

from __future__ import annotations

import json
import tracemalloc
from itertools import pairwise
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.dialects.thingspeak.bulk import entry_updates, parse_bulk_csv, parse_bulk_json
from headwater.dialects.thingspeak.field_names import STANDARD, names_of
from headwater.dialects.thingspeak.parse import WriteLimits
from headwater.errors import BadRequest, NotUtf8, TooLarge
from headwater.model.entry import EntryUpdate
from headwater.registry.entities import ChannelSettings

NOW_NS = 1_767_323_045_123_456_789
S = 1_000_000_000
LIMITS = WriteLimits()


def of_json(*updates: dict[str, object], most: int = 100) -> list[EntryUpdate]:
    body = json.dumps({"write_api_key": "K", "updates": updates}).encode()
    return entry_updates(parse_bulk_json(body), NOW_NS, LIMITS, most)


def of_csv(updates: str, time_format: str = "absolute") -> list[EntryUpdate]:
    form = {"write_api_key": "K", "time_format": time_format, "updates": updates}
    return entry_updates(parse_bulk_csv({}, urlencode(form).encode()), NOW_NS, LIMITS, 100)


def test_json() -> None:
    body = (
        b'{"write_api_key":"K","updates":[{"created_at":"2026-01-02 03:04:05","field1":21.50,"status":"ok"},'
        b'{"delta_t":"10","field2":"x","latitude":1,"field3":null,"name":[1],"field4":true}]}'
    )
    message = parse_bulk_json(body)
    assert message.write_api_key == "K"
    first, second = entry_updates(message, NOW_NS, LIMITS, 2)
    assert first == EntryUpdate({1: "21.50"}, status="ok", created_at_ns=1_767_323_045 * S)
    assert second == EntryUpdate({2: "x", 4: "true"}, latitude="1", created_at_ns=1_767_323_055 * S)


@pytest.mark.parametrize(
    ("text", "at_s"),
    [
        ("2026-01-02T03:04:05Z", 1_767_323_045),
        ("2026-01-02 03:04:05", 1_767_323_045),
        ("2026-01-02T05:04:05+02:00", 1_767_323_045),
        ("2026-01-02 03:04:05 +0000", 1_767_323_045),
        ("1767323045", 1_767_323_045),
        (1_767_323_045, 1_767_323_045),
        ("1767323045.5", 1_767_323_045.5),
    ],
)
def test_times(text: object, at_s: float) -> None:
    assert of_json({"created_at": text})[0].created_at_ns == int(at_s * S)


def test_seconds_since_the_entry_before_end_now() -> None:
    found = of_json({"delta_t": 0, "field1": 1}, {"delta_t": "10"}, {"delta_t": 2.5})
    assert [NOW_NS - (update.created_at_ns or 0) for update in found] == [12.5 * S, 2.5 * S, 0]
    found = of_json({"created_at": "1767323045"}, {"delta_t": 10}, {"delta_t": 5})
    assert [(update.created_at_ns or 0) // S - 1_767_323_045 for update in found] == [0, 10, 15]


def test_equal_times_are_kept_apart() -> None:
    found = of_json(*[{"created_at": 1_767_323_045}] * 3, {"delta_t": 0})
    assert [(update.created_at_ns or 0) - 1_767_323_045 * S for update in found] == [0, 1, 2, 3]
    found = of_json({"delta_t": 0}, {"delta_t": 0})
    assert [(update.created_at_ns or 0) - NOW_NS for update in found] == [0, 1]
    found = of_json(*({"created_at": f"1767323045.{ns:09d}"} for ns in (0, 0, 1, 0, 1, 3)))
    assert [(update.created_at_ns or 0) % S for update in found] == [0, 1, 2, 3, 4, 5], "also from those that follow"


def test_csv() -> None:
    found = of_csv("1767323045,20.1,,5|2026-01-02 03:04:15,,,,,,,,8,47.5,8.5,400,all is well, I think|", "absolute")
    assert found == [
        EntryUpdate({1: "20.1", 3: "5"}, created_at_ns=1_767_323_045 * S),
        EntryUpdate({8: "8"}, "47.5", "8.5", "400", "all is well, I think", 1_767_323_055 * S),
    ]
    assert [update.created_at_ns for update in of_csv("0,20.1,,5|10,20.4", "relative")] == [NOW_NS - 10 * S, NOW_NS]


@pytest.mark.parametrize(
    ("update", "words"),
    [
        ({"field1": 1}, "Update 1: created_at or delta_t is missing"),
        ({"delta_t": "soon"}, "Update 1: delta_t must be seconds"),
        ({"delta_t": -1}, "Update 1: delta_t must be seconds"),
        ({"delta_t": "nan"}, "Update 1: delta_t must be seconds"),
        ({"created_at": "yesterday"}, "Update 1: created_at is no time"),
    ],
)
def test_what_has_no_time(update: dict[str, object], words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        of_json(update)


def test_limits() -> None:
    with pytest.raises(TooLarge, match="at most 2"):
        of_json(*[{"delta_t": 1}] * 3, most=2)
    with pytest.raises(TooLarge, match="Update 2: field1 has more than 255 bytes"):
        of_json({"delta_t": 1}, {"delta_t": 1, "field1": "x" * 256})
    with pytest.raises(BadRequest, match="no updates"):
        of_json()
    with pytest.raises(TooLarge, match="at most 100"):
        of_csv("0|" * 101, "relative")
    assert len(of_csv("1|" * 100, "relative")) == 100


@pytest.mark.parametrize("time_format", [None, "relative"])
def test_a_key_is_known_before_the_updates_take_memory(time_format: str | None) -> None:
    """Anybody may send a body: a million empty updates took 300 MB before their key was looked at."""
    count = 100_000
    tracemalloc.start()
    try:
        if time_format is None:
            message = parse_bulk_json(b'{"write_api_key":"K","updates":[' + b"{}," * count + b"{}]}")
        else:
            body = f"updates={'0%7C' * count}&time_format={time_format}&write_api_key=K".encode()
            message = parse_bulk_csv({}, body)
        most_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert message.write_api_key == "K"
    assert most_bytes < 20 * count
    with pytest.raises(TooLarge):
        message.read_updates(100, STANDARD)


def test_a_form_may_stand_in_the_query_too() -> None:
    query = {"time_format": "absolute", "write_api_key": "K", "updates": "1767323045,1"}
    assert len(parse_bulk_csv(query, b"").read_updates(2, STANDARD)) == 1
    assert len(parse_bulk_csv(query, b"updates=1767323045,1|1767323046,2").read_updates(2, STANDARD)) == 2
    with pytest.raises(TooLarge, match="but updates"):
        parse_bulk_csv(query, b"x=" + b"%41" * 30_000)
    with pytest.raises(BadRequest, match="parameters"):
        parse_bulk_csv(query, b"x=1&" * 1_100)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"updates":1}', b'{"updates":[1]}', b'{"updates":[{"a":}]}', b"\xff"]
)
def test_bodies_that_cannot_be_read(body: bytes) -> None:
    with pytest.raises(BadRequest, match="The body must be JSON of the form"):
        parse_bulk_json(body).read_updates(10, STANDARD)


@pytest.mark.parametrize("time_format", ["", "sometimes"])
def test_csv_needs_to_say_what_its_times_are(time_format: str) -> None:
    with pytest.raises(BadRequest, match="time_format"):
        of_csv("0,1", time_format)


@given(st.binary(max_size=200))
def test_any_body_is_read_or_refused(body: bytes) -> None:
    try:
        updates = parse_bulk_json(body).read_updates(100, STANDARD)
    except BadRequest:
        return
    assert isinstance(updates, list)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=20))
def test_relative_times_keep_their_distances(deltas_s: list[int]) -> None:
    found = of_json(*({"delta_t": delta_s} for delta_s in deltas_s))
    times = [update.created_at_ns or 0 for update in found]
    assert 0 <= times[-1] - NOW_NS < len(times)
    assert [round((b - a) / S) for a, b in pairwise(times)] == deltas_s[1:]


@pytest.mark.parametrize(
    ("updates", "is_refused"),
    [
        (b"{}," * 2_700_000 + b"{}", True),
        (b"{" + b",".join(b'"n%d":1' % n for n in range(600_000)) + b"}", False),
        (b'{"status":"' + b"{" * 25_000 + b'"}', False),
    ],
    ids=["empty objects", "unknown members", "braces in a text"],
)
def test_a_large_body_is_not_made_into_objects(updates: bytes, is_refused: bool) -> None:
    message = parse_bulk_json(b'{"updates":[' + updates + b"]}")
    tracemalloc.start()
    try:
        if is_refused:
            with pytest.raises(TooLarge, match="at most 14400"):
                message.read_updates(14_400, STANDARD)
        else:
            assert len(message.read_updates(14_400, STANDARD)) == 1
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_text_that_is_none() -> None:
    with pytest.raises(NotUtf8):
        parse_bulk_json(b'{"updates":[{"field1":"\xff"}]}').read_updates(1, STANDARD)


@pytest.mark.parametrize("name", ['Temp "in"', "C:\\temp", "wind\u2028speed"])
def test_a_field_may_have_any_name(name: str) -> None:
    names = names_of(ChannelSettings(fields={1: name, 2: "b"}, takes_names=True))
    entry = {"delta_t": 0, name: 5, "field2": "x", "unknown": {"field2": "y"}, "status": None}
    body = json.dumps({"write_api_key": "K", "updates": [entry]}).encode()
    assert entry_updates(parse_bulk_json(body), NOW_NS, LIMITS, 1, names) == [
        EntryUpdate({1: "5", 2: "x"}, created_at_ns=NOW_NS)
    ]
    for bad in (b"5", b'{"delta_t":0,"\\ud800":1}', b'{"a"'):
        with pytest.raises(BadRequest):
            entry_updates(parse_bulk_json(b'{"updates":[%s]}' % bad), NOW_NS, LIMITS, 1, names)


def test_members_of_an_entry_that_is_taken_apart_are_bounded() -> None:
    names = names_of(ChannelSettings(fields={1: 'a"'}, takes_names=True))
    entry = {"delta_t": "0", "status": ":" * 200, "field1": ":" * 200, "latitude": ":" * 200} | {
        f"x{number}": ":" for number in range(900)
    }
    body = json.dumps({"updates": [entry]}).encode()
    assert entry_updates(parse_bulk_json(body), NOW_NS, LIMITS, 1, names)[0].fields == {1: ":" * 200}
    entry |= {f"y{number}": 1 for number in range(100)}
    with pytest.raises(TooLarge, match="members"):
        entry_updates(parse_bulk_json(json.dumps({"updates": [entry]}).encode()), NOW_NS, LIMITS, 1, names)
