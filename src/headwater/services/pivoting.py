"""Puts answers of several queries into the rows of one table: a row for each group and window. Pure; knows no store."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from headwater.services.grouping import Group
from headwater.services.query import Windowed


def pivot(answers: Sequence[tuple[Windowed, str]]) -> Windowed:
    """One table of a column each from several answers, which were grouped by the same: what was asked of different
    fields, or of fields with different types, at the same windows.

    Groups that agree in measurement, field and tags are one; it has the series of all. The table has `group`, `at_ns`
    (ascending) and, by its number from "0" on, the column that is named with each answer, null where that answer has
    no such row.
    """
    ids_of: dict[tuple[str | None, str | None, tuple[tuple[str, str], ...]], dict[int, None]] = {}
    for windowed, _ in answers:
        for group in windowed.groups:
            ids_of.setdefault(group[:3], {}).update(dict.fromkeys(group.series_ids))
    groups = [Group(*key, tuple(ids_of[key])) for key in sorted(ids_of, key=_order)]
    number_of = {group[:3]: number for number, group in enumerate(groups)}
    parts = []
    for number, (windowed, column) in enumerate(answers):
        renumbered = pa.array([number_of[group[:3]] for group in windowed.groups], pa.int64())
        table = windowed.table
        parts.append(
            pa.table(
                {
                    "group": renumbered.take(table.column("group").combine_chunks()),
                    "at_ns": table.column("at_ns"),
                    str(number): table.column(column),
                }
            )
        )
    names = [str(number) for number in range(len(answers))]
    together = pa.concat_tables(parts, promote_options="default")
    rows = together.group_by(["group", "at_ns"], use_threads=False).aggregate([(name, "first") for name in names])
    rows = rows.select(["group", "at_ns", *(f"{name}_first" for name in names)])
    table = rows.rename_columns(["group", "at_ns", *names]).sort_by([("group", "ascending"), ("at_ns", "ascending")])
    return Windowed(groups, table)


def _order(
    key: tuple[str | None, str | None, tuple[tuple[str, str], ...]],
) -> tuple[str, tuple[tuple[str, str], ...], str]:
    """As `grouped` sorts them."""
    measurement, field, tags = key
    return measurement or "", tags, field or ""
