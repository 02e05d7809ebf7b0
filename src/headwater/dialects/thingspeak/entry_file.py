"""Entries in a CSV file: what thingspeak.com exports, what `feeds.csv` answers, and lines without a head in the order
of a bulk update. Rows to updates; pure.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from datetime import tzinfo
from typing import NamedTuple

from headwater.dialects.thingspeak.field_names import FieldNames
from headwater.dialects.thingspeak.parse import WriteLimits, parse_update
from headwater.dialects.thingspeak.times import free_time_ns, parse_any_time_ns
from headwater.errors import BadRequest, TooLarge
from headwater.model.entry import ENTRY_ID, FIELD_NUMBERS, EntryUpdate

CREATED_AT = "created_at"
_OTHERS = ("latitude", "longitude", "elevation", "status")
_WITHOUT_HEAD = (CREATED_AT, *(f"field{number}" for number in FIELD_NUMBERS), *_OTHERS)


class FileRow(NamedTuple):
    """One row: an entry, or why it is none."""

    line: int
    update: EntryUpdate | None
    reason: str = ""


def read_rows(
    content: bytes, zone: tzinfo, limits: WriteLimits, most: int, numbers: Iterable[int] = FIELD_NUMBERS
) -> Iterator[FileRow]:
    """The rows of a file, in its order. Times without a zone are of `zone`; entries of the same second are a
    nanosecond apart, so that no two have the same time: each gets the same one when the file is read again. `numbers`
    are the fields of the channel; a file without a head has eight.

    Raises BadRequest for what is no such file, TooLarge for more than `most` rows.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadRequest("the file is not UTF-8 text: save it as CSV with UTF-8") from None
    names: FieldNames = {f"field{number}": number for number in numbers}
    reader = csv.reader(io.StringIO(text, newline=""))
    columns: Sequence[str] = ()
    next_free: dict[int, int] = {}
    count = 0
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not columns:
                columns, is_head = _columns(cells, zone, names)
                if is_head:
                    continue
            count += 1
            if count > most:
                raise TooLarge(f"the file has more than {most:,} entries: use the command headwater import")
            yield _row(reader.line_num, dict(zip(columns, cells, strict=False)), names, zone, limits, next_free)
    except csv.Error as error:
        raise BadRequest(f"line {reader.line_num} is not CSV: {error}") from None


def _columns(cells: Sequence[str], zone: tzinfo, fields: FieldNames) -> tuple[Sequence[str], bool]:
    """What the columns are, and whether the first row says so."""
    if parse_any_time_ns(cells[0], zone) is not None:
        return _WITHOUT_HEAD, False
    names = [cell.strip().lower() for cell in cells]
    if CREATED_AT not in names:
        raise BadRequest(f"the first line must name the columns, {CREATED_AT} among them")
    for name in names:
        if name not in fields and name not in (ENTRY_ID, CREATED_AT, *_OTHERS):
            raise BadRequest(
                f"the column {name[:60]!r} is none of an entry's: rename it to {', '.join(fields)}, or remove it"
            )
    return names, True


def _row(
    line: int, cells: dict[str, str], names: FieldNames, zone: tzinfo, limits: WriteLimits, next_free: dict[int, int]
) -> FileRow:
    said = cells.get(CREATED_AT, "").strip()
    at_ns = parse_any_time_ns(f"{said[:-4]}Z" if said.endswith(" UTC") else said, zone)
    if at_ns is None:
        return FileRow(line, None, f"{said[:60]!r} is no time")
    texts = {name: text for name in (*names, *_OTHERS) if (text := cells.get(name, ""))}
    try:
        update = parse_update(texts, limits, names)
    except TooLarge as error:
        return FileRow(line, None, str(error))
    return FileRow(line, update._replace(created_at_ns=free_time_ns(at_ns, next_free)))
