"""Entries as rows of an answer, and answers in the form that was asked for. Pure.

JSON, XML and CSV show the same rows; only times are written differently in CSV, and what is null is empty there.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from headwater.dialects.thingspeak.aggregation import Bucket, round_text
from headwater.dialects.thingspeak.forms import Form
from headwater.dialects.thingspeak.read_query import ReadQuery
from headwater.dialects.thingspeak.render import (
    render_feed_channel,
    render_fraction,
    render_time,
    render_update,
    to_json,
)
from headwater.dialects.thingspeak.xml import to_xml
from headwater.model.entry import FIELD_NUMBERS, Entry
from headwater.registry.entities import Channel

Row = dict[str, Any]


class Page(NamedTuple):
    """What an answer shows."""

    channel: Row | None
    columns: Sequence[str]
    """The names of the rows' parts, which CSV has once."""
    rows: Sequence[Row]
    is_part: bool = False
    """Of a channel that is read part by part."""
    next_cursor: str | None = None
    """Where the next part begins; None for the last one."""


def feed_page(
    channel: Channel,
    last_entry_id: int,
    entries: Iterable[Entry | Bucket],
    numbers: Collection[int],
    query: ReadQuery,
    form: Form,
) -> Page:
    """A channel with its entries, oldest first. `numbers` are the fields that the entries show."""
    page = _rows_page(entries, numbers, query, form, has_ids=query.aggregation is None)
    return page._replace(channel=render_feed_channel(channel, last_entry_id, query))


def entry_page(entry: Entry | Bucket, numbers: Collection[int], query: ReadQuery, form: Form) -> Page:
    """One entry, or what is made of several."""
    return _rows_page([entry], numbers, query, form, has_ids=isinstance(entry, Entry))


def status_page(channel: Channel, entries: Iterable[Entry], query: ReadQuery, form: Form) -> Page:
    """The status of each entry, those without one too."""
    write_time = _time_writer(query, form)
    settings = channel.settings
    head = {"name": settings.name, "latitude": settings.latitude, "longitude": settings.longitude}
    rows = [
        {"created_at": write_time(entry.at_ns), "entry_id": entry.entry_id, "status": entry.status} for entry in entries
    ]
    return Page(head, ("created_at", "entry_id", "status"), rows)


def _rows_page(
    entries: Iterable[Entry | Bucket], numbers: Collection[int], query: ReadQuery, form: Form, *, has_ids: bool
) -> Page:
    columns = ["created_at", *(["entry_id"] if has_ids else []), *(f"field{number}" for number in numbers)]
    if has_ids:
        columns += ["latitude", "longitude", "elevation"] if query.with_location else []
        columns += ["status"] if query.with_status else []
    write_time = _time_writer(query, form)
    rows = []
    for entry in entries:
        row: Row = {"created_at": write_time(entry.at_ns)}
        if isinstance(entry, Entry):
            row["entry_id"] = entry.entry_id
        for number in numbers:
            text = entry.fields.get(number)
            row[f"field{number}"] = None if text is None else round_text(text, query.decimals)
        if isinstance(entry, Entry):
            if query.with_location:
                row |= {"latitude": entry.latitude, "longitude": entry.longitude, "elevation": entry.elevation}
            if query.with_status:
                row["status"] = entry.status
        rows.append(row)
    return Page(None, columns, rows)


def _time_writer(query: ReadQuery, form: Form) -> Callable[[int], str]:
    if form is not Form.CSV:
        return lambda at_ns: render_time(at_ns, query.zone, query.precision)
    zone, ending = query.zone or UTC, " UTC" if query.zone is None else " %z"

    def write_csv_time(at_ns: int) -> str:
        at = datetime.fromtimestamp(at_ns // 1_000_000_000, UTC).astimezone(zone)
        return at.strftime(f"%Y-%m-%d %H:%M:%S{render_fraction(at_ns, query.precision)}{ending}")

    return write_csv_time


# -- forms --------------------------------------------------------------------------------------------------------


def render_page(page: Page, form: Form) -> bytes:
    """A channel with its rows."""
    if form is Form.CSV:
        return render_csv(page)
    ending = {"next_cursor": page.next_cursor} if page.is_part else {}
    if form is Form.XML:
        # Rails shows the number that a row has in its database; here there is none.
        return to_xml(
            "channel", {**(page.channel or {}), "feeds": [{**row, "id": None} for row in page.rows], **ending}
        )
    return to_json({"channel": page.channel, "feeds": page.rows, **ending})


def render_single(page: Page, form: Form) -> bytes:
    """The one row there is."""
    (row,) = page.rows
    if form is Form.CSV:
        return render_csv(page)
    return to_xml("feed", {**row, "id": None}) if form is Form.XML else to_json(row)


def render_bare(text: str | None, parameters: Mapping[str, str], query: ReadQuery) -> bytes:
    """A value alone, between the texts that were asked for around it."""
    value = "" if text is None else round_text(text, query.decimals)
    return f"{parameters.get('prepend', '')}{value}{parameters.get('append', '')}".encode()


def render_update_as(channel_id: int, entry: Entry, form: Form, shown: Iterable[int] = FIELD_NUMBERS) -> bytes:
    """One entry as MQTT subscribers get it; as CSV a line without the names of its columns."""
    row = render_update(channel_id, entry, shown=shown)
    if form is Form.XML:
        return to_xml("feed", {**row, "id": None})
    if form is Form.JSON:
        return to_json(row)
    del row["channel_id"]
    return render_csv(Page(None, list(row), [row]), with_names=False).rstrip(b"\n")


def render_csv(page: Page, *, with_names: bool = True) -> bytes:
    """Rows as lines, below one with the names of their columns."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    if with_names:
        writer.writerow(page.columns)
    writer.writerows([row[name] for name in page.columns] for row in page.rows)
    return written.getvalue().encode()
