"""Buckets and measurements as tables: which there are for an account, under which names, with which columns.

A table has `time`, a column for each tag key and one for each field. Names that differ in case only, or that are taken
already, are told apart by what is appended to them; see docs/sql.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from headwater.errors import BadRequest
from headwater.model.series import Series, SeriesKey, ValueType

TIME = "time"
MAX_NAMES_TOLD = 20
_NUMBERS = (ValueType.FLOAT, ValueType.INTEGER, ValueType.UNSIGNED)
_KINDS = {"": _NUMBERS, "string": (ValueType.STRING,), "boolean": (ValueType.BOOLEAN,)}
"""Values that share a column, and what is appended to its name beside another of the same field."""


class Bucket(NamedTuple):
    """One that may be read, by all its names."""

    id: int
    names: tuple[str, ...]
    hidden: frozenset[str] = frozenset()
    """Measurements that are for the server alone."""

    @property
    def name(self) -> str:
        """The one that no other bucket has."""
        return self.names[-1]


@dataclass(frozen=True, slots=True)
class Table:
    """A measurement of a bucket as a query sees it."""

    tags: Mapping[str, str]
    """Column to tag key."""
    fields: Mapping[str, Sequence[tuple[str, ValueType]]]
    """Column to the field and the types whose values stand in it."""
    keys: Mapping[SeriesKey, Mapping[tuple[str, ValueType], int]]
    """The series, by field and type."""


class Tables:
    """The tables that an account has. `series_of` gives a bucket's series."""

    def __init__(
        self, buckets: Sequence[Bucket], series_of: Callable[[int], Iterable[Series]], default_bucket: str | None = None
    ) -> None:
        self._buckets = buckets
        self._series_of = series_of
        self._default = default_bucket
        self._found: dict[tuple[int, str], Table] = {}

    def find(self, bucket: str | None, measurement: str) -> Table:
        """The table of that name. Raises BadRequest, with the names that there are, when there is none."""
        wanted = bucket if bucket is not None else self._default
        if wanted is None:
            raise BadRequest(f'name the bucket too, as "bucket".{_quoted(measurement)}; there are: {self._names()}')
        named = _matching(wanted, self._buckets)
        if len(named) > 1:
            others = " and ".join(_quoted(one.name) for one in named[:MAX_NAMES_TOLD])
            raise BadRequest(f'several buckets are called "{wanted}": call them {others}')
        if named:
            measurements = self._measurements(named[0])
            exact = measurement if measurement in measurements else None
            alike = [one for one in measurements if one.lower() == measurement.lower()]
            name = exact if exact is not None else alike[0] if len(alike) == 1 else None
            if name is not None:
                return self._table(named[0].id, name)
        raise BadRequest(f"there is no table {_quoted(wanted)}.{_quoted(measurement)}; there are: {self._names()}")

    def _table(self, bucket_id: int, measurement: str) -> Table:
        found = self._found.get((bucket_id, measurement))
        if found is None:
            series = (one for one in self._series_of(bucket_id) if one.key.measurement == measurement)
            found = self._found[bucket_id, measurement] = table_of(series)
        return found

    def _measurements(self, bucket: Bucket) -> set[str]:
        return {one.key.measurement for one in self._series_of(bucket.id)} - bucket.hidden

    def _names(self) -> str:
        count = Counter(bucket.names[0] for bucket in self._buckets)
        names = [
            f"{_quoted(bucket.names[0] if count[bucket.names[0]] == 1 else bucket.name)}.{_quoted(measurement)}"
            for bucket in self._buckets
            for measurement in sorted(self._measurements(bucket))
        ]
        told = ", ".join(names[:MAX_NAMES_TOLD])
        more = len(names) - MAX_NAMES_TOLD
        return (told + (f" and {more} more" if more > 0 else "")) or "none yet"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _matching(name: str, buckets: Sequence[Bucket]) -> list[Bucket]:
    """Those of exactly this name, or else those whose name differs in case only."""
    exact = [bucket for bucket in buckets if name in bucket.names]
    return exact or [bucket for bucket in buckets if name.lower() in {one.lower() for one in bucket.names}]


def table_of(series: Iterable[Series]) -> Table:
    """The table of the series of one measurement."""
    keys: dict[SeriesKey, dict[tuple[str, ValueType], int]] = {}
    types: dict[str, set[ValueType]] = {}
    for one in series:
        keys.setdefault(one.key, {})[one.field, one.type] = one.id
        types.setdefault(one.field, set()).add(one.type)
    taken = {TIME}
    tags = {_free(tag, "tag", taken): tag for tag in sorted({tag for key in keys for tag, _ in key.tags})}
    fields = {}
    for field in sorted(types):
        for name, of_types in _columns_of(field, types[field]):
            fields[_free(name, "field", taken)] = [(field, one) for one in of_types]
    return Table(tags, fields, keys)


def _columns_of(field: str, types: set[ValueType]) -> Iterator[tuple[str, Sequence[ValueType]]]:
    is_first = True
    for kind, of_kind in _KINDS.items():
        present = [one for one in of_kind if one in types]
        if present:
            yield (field if is_first else f"{field}_{kind}"), present
            is_first = False


def _free(name: str, kind: str, taken: set[str]) -> str:
    """A name that nothing else has (DuckDB does not tell upper from lower case)."""
    free, number = name, 1
    while free.lower() in taken:
        free = f"{name}_{kind}" if number == 1 else f"{name}_{kind}{number}"
        number += 1
    taken.add(free.lower())
    return free
