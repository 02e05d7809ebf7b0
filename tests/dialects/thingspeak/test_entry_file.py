"""CSV files of entries: the forms that exist, what stands in them, and what cannot be read."""

from __future__ import annotations

import csv
import io
from datetime import UTC
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.dialects.thingspeak.entry_file import FileRow, read_rows
from headwater.dialects.thingspeak.parse import WriteLimits
from headwater.errors import BadRequest, HeadwaterError, TooLarge

SITE = (
    "created_at,entry_id,field1,field2,latitude,longitude,elevation,status\n"
    "2023-05-01T00:00:00+00:00,1,21.50,,,,,\n"
    '2023-05-01T02:00:15+02:00,2,nan,"1,5",51.5,-0.12,30,"two\nlines"\n'
)
AT_NS = 1_682_899_200_000_000_000
"""The time of the first entry."""


def read(text: str | bytes, zone: str = "UTC", most: int = 1000) -> list[FileRow]:
    content = text.encode() if isinstance(text, str) else text
    return list(read_rows(content, ZoneInfo(zone), WriteLimits(), most))


def test_the_sites_export() -> None:
    first, second = read("\ufeff" + SITE.replace("\n", "\r\n"))
    assert first.update is not None
    assert second.update is not None
    assert (first.update.created_at_ns, first.update.fields) == (AT_NS, {1: "21.50"})
    assert second.update.created_at_ns == AT_NS + 15 * 10**9
    assert second.update.fields == {1: "nan", 2: "1,5"}
    assert second.update[1:4] == ("51.5", "-0.12", "30")
    assert second.update.status is not None
    assert second.update.status.split() == ["two", "lines"]


def test_what_feeds_csv_answers() -> None:
    (row,) = read("created_at,entry_id,field3\n2023-05-01 00:00:00 UTC,7,5\n", zone="Asia/Tokyo")
    assert row.update is not None
    assert (row.update.created_at_ns, row.update.fields) == (AT_NS, {3: "5"})


def test_lines_of_a_bulk_update_without_a_head() -> None:
    (row,) = read("2023-05-01T00:00:00Z,1,2,,,,,,8,51.5,-0.12,30,ok\n")
    assert row.update is not None
    assert row.update.fields == {1: "1", 2: "2", 8: "8"}
    assert row.update[1:5] == ("51.5", "-0.12", "30", "ok")


def test_times_without_a_zone_are_of_the_one_that_was_chosen() -> None:
    text = "created_at,field1\n2023-05-01 02:00:00,1\n"
    (row,) = read(text, zone="Europe/Berlin")
    assert row.update is not None
    assert row.update.created_at_ns == AT_NS


def test_entries_of_one_second_are_a_nanosecond_apart_each_time() -> None:
    text = "created_at,field1\n" + "2023-05-01T00:00:00Z,1\n" * 3
    times = [row.update.created_at_ns for row in read(text) if row.update is not None]
    assert times == [AT_NS, AT_NS + 1, AT_NS + 2]
    text += "2023-05-01T00:00:00.000000001Z,1\n"
    assert read(text)[-1].update.created_at_ns == AT_NS + 3  # type: ignore[union-attr]


def test_a_line_that_is_no_entry_says_where_and_why() -> None:
    rows = read(f"created_at,field1\nyesterday,1\n\n2023-05-01T00:00:00Z,2\n2023-05-02T00:00:00Z,{'x' * 300}\n")
    assert [(row.line, row.update is None) for row in rows] == [(2, True), (4, False), (5, True)]
    assert rows[0].reason == "'yesterday' is no time"
    assert rows[2].reason == "field1 has more than 255 bytes"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"created_at,field1\n2023-05-01T00:00:00Z,\xff\n", "UTF-8"),
        ("field1,field2\n1,2\n", "created_at among them"),
        ("created_at,temperature\n", "'temperature'"),
        ('created_at,field1\n2023-05-01T00:00:00Z,"' + "x" * 200_000 + '"\n', "is not CSV"),
    ],
)
def test_what_is_no_such_file(text: str | bytes, reason: str) -> None:
    with pytest.raises(BadRequest, match=reason):
        read(text)


def test_only_so_many_at_once() -> None:
    with pytest.raises(TooLarge, match="more than 2 entries"):
        read("created_at,field1\n" + "2023-05-01T00:00:00Z,1\n" * 3, most=2)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    try:
        rows = list(read_rows(content, UTC, WriteLimits(), 50))
    except HeadwaterError:
        return
    assert all((row.update is None) == bool(row.reason) for row in rows)


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=40), min_size=1, max_size=8))
def test_texts_come_back_as_they_were(texts: list[str]) -> None:
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow(["created_at", *(f"field{number}" for number in range(1, len(texts) + 1))])
    writer.writerow(["2023-05-01T00:00:00Z", *texts])
    (row,) = read(written.getvalue())
    assert row.update is not None
    assert row.update.fields == {number: text for number, text in enumerate(texts, 1) if text}


def test_fields_that_the_channel_has() -> None:
    content = b"created_at,field1,field12\n2023-05-01T00:00:00Z,1,12\n"
    (row,) = read_rows(content, UTC, WriteLimits(), 10, [*range(1, 9), 12])
    assert row.update is not None
    assert row.update.fields == {1: "1", 12: "12"}
    with pytest.raises(BadRequest, match="'field12' is none of an entry's"):
        list(read_rows(content, UTC, WriteLimits(), 10))
