"""Groups of series: those that agree in measurement, field or some tags are taken together. Pure; knows no store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from headwater.model.series import Series
from headwater.services.measurements import tag_value


@dataclass(frozen=True, slots=True)
class GroupBy:
    """What the series of one group have in common."""

    tags: tuple[str, ...] | None = ()
    """The names of tags; None for all that a series has."""
    measurement: bool = True
    field: bool = False


class Group(NamedTuple):
    """Series that are taken together. Of what they were not grouped by, nothing is said."""

    measurement: str | None
    field: str | None
    tags: tuple[tuple[str, str], ...]
    """In the order of `GroupBy.tags`, with the empty text for a tag that is missing; or all tags that there are."""
    series_ids: tuple[int, ...]


def grouped(series: Iterable[Series], by: GroupBy) -> list[Group]:
    """The groups, sorted by measurement, then by the values of the tags, then by field."""
    ids_of: dict[tuple[str, tuple[tuple[str, str], ...], str], list[int]] = {}
    for one in series:
        key = one.key
        tags = key.tags if by.tags is None else tuple([(name, tag_value(key, name)) for name in by.tags])
        common = key.measurement if by.measurement else "", tags, one.field if by.field else ""
        ids_of.setdefault(common, []).append(one.id)
    return [
        Group(name if by.measurement else None, field if by.field else None, tags, tuple(ids_of[name, tags, field]))
        for name, tags, field in sorted(ids_of)
    ]
