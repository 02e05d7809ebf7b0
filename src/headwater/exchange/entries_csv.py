"""The CSV that thingspeak.com gives of a channel: rows to entries. Knows no channel and gives no numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from headwater.errors import BadRequest
from headwater.exchange.block import POINTS_AT_ONCE, Block, BlockBuilder
from headwater.exchange.times import parse_times
from headwater.model.entry import ENTRY_ID, LOCATION, MAX_FIELDS, MEASUREMENT, spell
from headwater.model.series import INTEGER_MAX

if TYPE_CHECKING:
    from headwater.exchange.reading import BadLines

CREATED_AT = "created_at"
_STATUS = "status"
_TEXTS = (*(f"field{number}" for number in range(1, MAX_FIELDS + 1)), *LOCATION, _STATUS)


def entry_columns() -> tuple[str, ...]:
    """What an entry has beside its time and its number."""
    return _TEXTS


class EntryRows:
    """Entries one by one, texts as they are. Those of one second are a nanosecond apart: no two have the same time."""

    def __init__(self, labels: Sequence[str], bad: BadLines) -> None:
        unknown = [label for label in labels if label not in (CREATED_AT, ENTRY_ID, *_TEXTS)]
        if unknown:
            raise BadRequest(
                f"the column {unknown[0]!r} is none of an entry's ({CREATED_AT}, {ENTRY_ID}, field1 to "
                f"field{MAX_FIELDS}, {', '.join((*LOCATION, _STATUS))}): rename it or leave it out"
            )
        self._labels = labels
        self._bad = bad
        self._rows = 0
        self._said_at_ns: int | None = None
        self._last_at_ns = 0

    def pass_over(self, count: int) -> None:
        """So many rows of the file are not in what comes."""
        self._rows += count

    def blocks(self, texts: Sequence[pa.Array], numbers: Sequence[int]) -> Iterator[Block]:
        """The points of some rows, of which `numbers` are the places in the file. The number of an entry that has none
        is 0."""
        columns = dict(zip(self._labels, (cells.to_pylist() for cells in texts), strict=True))
        times = parse_times(texts[self._labels.index(CREATED_AT)], 1_000_000_000).to_pylist()
        names = [name for name in _TEXTS if name in columns]
        builder = BlockBuilder()
        for row, (number, said_at_ns) in enumerate(zip(numbers, times, strict=True)):
            self._rows += 1
            id_text = (columns[ENTRY_ID][row] if ENTRY_ID in columns else None) or "0"
            if said_at_ns is None:
                self._bad.add(f"row {number}", f"{str(columns[CREATED_AT][row])[:60]!r} in created_at is no time")
                continue
            if not (id_text.isascii() and id_text.isdigit()) or len(id_text) > 18 or int(id_text) >= INTEGER_MAX:
                self._bad.add(f"row {number}", f"{id_text[:60]!r} in entry_id is no number of an entry")
                continue
            at_ns = self._free_time(said_at_ns)
            builder.add(MEASUREMENT, (), ENTRY_ID, at_ns, int(id_text))
            for name in names:
                if text := columns[name][row]:
                    self._add(builder, name, at_ns, text)
            if len(builder) >= POINTS_AT_ONCE:
                yield builder.take(self._rows, are_entries=True)
        yield builder.take(self._rows, are_entries=True)

    def _free_time(self, said_at_ns: int) -> int:
        self._last_at_ns = self._last_at_ns + 1 if said_at_ns == self._said_at_ns else said_at_ns
        self._said_at_ns = said_at_ns
        return self._last_at_ns

    def _add(self, builder: BlockBuilder, name: str, at_ns: int, text: str) -> None:
        if name == _STATUS:
            builder.add(MEASUREMENT, (), name, at_ns, text)
            return
        number, keeps_text = spell(text)
        if number is not None:
            builder.add(MEASUREMENT, (), name, at_ns, number)
        if keeps_text:
            builder.add(MEASUREMENT, (), f"{name}.text", at_ns, text)
