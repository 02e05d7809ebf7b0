"""Windows of a rule computed: from points of the source to records of the target. Knows no rule's state.

The numbers of one field, whatever their types, are taken together; each aggregate of them is a field of the target
with the same measurement and tags: `field1.mean`. Strings and booleans are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from headwater.errors import BadRequest
from headwater.model.entry import NUMBERING
from headwater.model.record import Record
from headwater.model.series import SeriesKey, Unsigned, Value, ValueType
from headwater.services.catalogue import Catalogue
from headwater.store import Store
from headwater.store.aggregates import Aggregate, Function
from headwater.store.windows import Windows

NUMBERS: Mapping[ValueType, type] = MappingProxyType(
    {ValueType.FLOAT: float, ValueType.INTEGER: int, ValueType.UNSIGNED: Unsigned}
)
"""The types of values that are computed with, and their classes."""
FUNCTIONS = (
    Function.COUNT,
    Function.SUM,
    Function.MEAN,
    Function.MIN,
    Function.MAX,
    Function.FIRST,
    Function.LAST,
)
"""What a rule may keep, in this order."""
_COUNT = Aggregate(Function.COUNT)
Span: TypeAlias = tuple[int, int]
"""From when to when: the beginning of a window, and the end of one."""


class Field(NamedTuple):
    """A field of the source, and where its results lie."""

    key: SeriesKey
    """Of the results."""
    name: str
    classes: frozenset[type]
    """Of its values."""
    source_ids: tuple[int, ...]
    results: Mapping[tuple[Function, type], int]
    """Series of results that exist, by aggregate and class of values."""


@dataclass(slots=True)
class Computed:
    """What is to be written and deleted so that the target is right again."""

    records: list[Record] = field(default_factory=list)
    gone: dict[Span, list[int]] = field(default_factory=dict)
    """Series of results without points in a span any more."""


def result_name(name: str, function: Function) -> str:
    """The field of the target with an aggregate of a field."""
    return f"{name}.{function.value}"


def kept_functions(wanted: Iterable[Function]) -> tuple[Function, ...]:
    """What is kept for these aggregates: from counts, and with a mean the sum, follow those of wider windows."""
    found = {*wanted, Function.COUNT}
    if Function.MEAN in found:
        found.add(Function.SUM)
    return tuple(function for function in FUNCTIONS if function in found)


def fields_of(catalogue: Catalogue, source_id: int, target_id: int, functions: Sequence[Function]) -> list[Field]:
    """Every field with numbers that the source has or had."""
    found: dict[tuple[SeriesKey, str], dict[type, int]] = {}
    for one in catalogue.of_bucket(source_id):
        if one.key.measurement == NUMBERING:
            continue  # the server's own note of numbers that are gone, which nobody is shown
        if value_class := NUMBERS.get(one.type):
            found.setdefault((one.key._replace(bucket_id=target_id), one.field), {})[value_class] = one.id
    for one in catalogue.of_bucket(target_id):  # also what the source has no series of any more
        name, dot, function = one.field.rpartition(".")
        if dot and function == Function.COUNT:
            found.setdefault((one.key, name), {})
    return [
        Field(
            key,
            name,
            frozenset(ids),
            tuple(ids.values()),
            {
                (function, cls): series_id
                for function in functions
                for cls in NUMBERS.values()
                if (series_id := catalogue.find(key, result_name(name, function), cls)) is not None
            },
        )
        for (key, name), ids in found.items()
    ]


def compute(
    store: Store, fields: Sequence[Field], functions: Sequence[Function], window_ns: int, spans: Sequence[Span]
) -> Computed:
    """All windows in some spans anew. Blocks."""
    computed = Computed()
    for start_ns, end_ns in spans:
        windows = Windows(start_ns, end_ns, window_ns)
        for together in _by_type(fields).values():
            found = _compute(store, together, functions, windows, computed)
            _add_gone(store, together, functions, windows, found, computed.gone)
    return computed


def spans_of(begins_ns: Sequence[int], window_ns: int) -> list[Span]:
    """Ascending windows as spans without gaps."""
    if not begins_ns:
        return []
    breaks = [(last + window_ns, first) for last, first in pairwise(begins_ns) if first != last + window_ns]
    ends = [end for end, _ in breaks] + [begins_ns[-1] + window_ns]
    return list(zip([begins_ns[0], *(first for _, first in breaks)], ends, strict=True))


def _by_type(fields: Iterable[Field]) -> dict[frozenset[type], list[Field]]:
    """The store answers in the type that all series of a call have in common: one call for each, so integers stay."""
    found: dict[frozenset[type], list[Field]] = {}
    for one in fields:
        found.setdefault(one.classes, []).append(one)
    return found


def _compute(
    store: Store, fields: Sequence[Field], functions: Sequence[Function], windows: Windows, computed: Computed
) -> dict[int, list[int]]:
    """Add the results of fields of one type. Answers in which windows each has points, by its index."""
    if not fields[0].classes:
        return {}
    groups = [one.source_ids for one in fields]
    try:
        rows = _rows(store, groups, functions, windows)
    except BadRequest:  # a sum of integers that does not fit: the others are to be had exactly all the same
        rows = _rows_with_wide_sums(store, groups, functions, windows)
    found: dict[int, list[int]] = {}
    for number, at_ns, values in rows:
        one = fields[number]
        named: dict[str, Value] = {}
        for function, value in values.items():
            value_class = _result_class(one, function)
            if function is Function.SUM and value.__class__ is not int and value_class is not float:
                if (narrow := one.results.get((function, value_class))) is not None:
                    computed.gone.setdefault((at_ns, at_ns + windows.every_ns), []).append(narrow)
                value_class = float
            named[result_name(one.name, function)] = value_class(value)
        computed.records.append(Record(one.key, at_ns, named))
        found.setdefault(number, []).append(at_ns)
    return found


def _rows(
    store: Store, groups: Sequence[Sequence[int]], functions: Sequence[Function], windows: Windows
) -> Iterator[tuple[int, int, dict[Function, Any]]]:
    table = store.windows(groups, [Aggregate(function) for function in functions], windows)
    columns = [column.to_pylist() for column in table.columns]
    return (
        (number, at, dict(zip(functions, values, strict=True))) for number, at, *values in zip(*columns, strict=True)
    )


def _rows_with_wide_sums(
    store: Store, groups: Sequence[Sequence[int]], functions: Sequence[Function], windows: Windows
) -> Iterator[tuple[int, int, dict[Function, Any]]]:
    """The same one field at a time, with sums as floats where they do not fit."""
    others = [function for function in functions if function is not Function.SUM]
    for number, ids in enumerate(groups):
        try:
            rows = _rows(store, [ids], functions, windows)
        except BadRequest:
            rows = _rows(store, [ids], [*others, *({Function.MEAN} - {*others})], windows)
            for _, at_ns, values in rows:
                values[Function.SUM] = values[Function.MEAN] * values[Function.COUNT]
                yield number, at_ns, {function: values[function] for function in functions}
        else:
            yield from ((number, at_ns, values) for _, at_ns, values in rows)


def _result_class(one: Field, function: Function) -> type:
    if function is Function.COUNT:
        return int
    is_float = function is Function.MEAN or len(one.classes) != 1
    return float if is_float else next(iter(one.classes))


def _add_gone(
    store: Store,
    fields: Sequence[Field],
    functions: Sequence[Function],
    windows: Windows,
    found: Mapping[int, Sequence[int]],
    gone: dict[Span, list[int]],
) -> None:
    """Results that stand where there are no points any more, or in series of a type that the field no longer has."""
    counted = [(n, series_id) for n, one in enumerate(fields) if (series_id := one.results.get((Function.COUNT, int)))]
    if not counted:
        return
    table = store.windows([[series_id] for _, series_id in counted], [_COUNT], windows)
    standing: dict[int, list[int]] = {}
    for index, at_ns in zip(table.column("group").to_pylist(), table.column("at_ns").to_pylist(), strict=True):
        standing.setdefault(counted[index][0], []).append(at_ns)
    for number, times in standing.items():
        one, kept = fields[number], set(found.get(number, ()))
        for span in spans_of([at_ns for at_ns in times if at_ns not in kept], windows.every_ns):
            gone.setdefault(span, []).extend(one.results.values())
        stale = [i for (function, cls), i in one.results.items() if cls is not _result_class(one, function)]
        if stale and kept:
            gone.setdefault((windows.start_ns, windows.end_ns), []).extend(stale)
