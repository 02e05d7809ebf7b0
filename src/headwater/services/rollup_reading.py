"""Window aggregates with the help of what was down-sampled: the same answer from fewer points, and a longer history.

Windows that are the union of a rule's windows are made of its results, as far as those are known to be right; points of
the source stand for the rest, and where a window has both, they are brought together. An answer is what the points
themselves would give (but for the last digits of floats), as long as these exist.

The rule with the widest windows that fit is used. None is when an aggregate does not follow from those that it keeps
(a median never does), when the series are of several buckets or are not numbers, or when a group has only some of the
types that a field has. `first` and `last` of several fields together do not follow from those of each.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from headwater.model.series import Series, SeriesKey, ValueType
from headwater.services.catalogue import Catalogue
from headwater.services.rollup_computing import NUMBERS, Span, result_name, spans_of
from headwater.services.rollup_merging import merged
from headwater.services.rollup_state import RollupState
from headwater.services.rollups import Rollups
from headwater.store import MAX_WINDOW_ROWS, Store
from headwater.store.aggregates import Aggregate, Function, answer_schema, checked, common_type, too_many_rows
from headwater.store.cancellation import Cancellation
from headwater.store.windows import EARLIEST_NS, Windows

MAX_DIRTY_SPANS = 8
"""Spans of dirty windows that are read apart; the results between more of them are not used."""
EARLIEST_USED_NS = -(2**62)
"""The year 1823: before it windows may begin before the first time that there is."""
_KEPT = {
    Function.COUNT: (Function.COUNT,),
    Function.SUM: (Function.SUM,),
    Function.MEAN: (Function.SUM, Function.COUNT),
    Function.MIN: (Function.MIN,),
    Function.MAX: (Function.MAX,),
    Function.SPREAD: (Function.MIN, Function.MAX),
    Function.FIRST: (Function.FIRST,),
    Function.LAST: (Function.LAST,),
}
"""What a rule must keep for an aggregate."""
_PARTS = {Function.MEAN: (Function.MEAN, Function.COUNT), Function.SPREAD: (Function.MIN, Function.MAX)}
"""What is read of several spans to make an aggregate of them; of the others it is themselves."""

T = TypeVar("T")
FieldName: TypeAlias = tuple[SeriesKey, str]


class Run(Protocol):
    """Runs what blocks off the event loop, and says how to break it off."""

    def __call__(self, work: Callable[[Cancellation], T]) -> Awaitable[T]: ...


class _Unfit(Exception):
    """Results that do not go together: the points themselves have to be asked."""


class _Wanted(NamedTuple):
    """A query."""

    groups: Sequence[Sequence[int]]
    fields: Sequence[Sequence[FieldName]]
    """Of each group."""
    aggregates: Sequence[Aggregate]
    windows: Windows
    value_type: ValueType
    horizon_ns: int
    """Points before it have expired: only results stand for them."""
    max_rows: int

    @property
    def functions(self) -> list[Function]:
        return [one.function for one in self.aggregates]

    @property
    def parts(self) -> list[Function]:
        """What is read of each span."""
        return list(dict.fromkeys(part for one in self.functions for part in _PARTS.get(one, (one,))))


class RollupReading:
    """Answers for `Store.windows` where results help. `run` runs what blocks."""

    def __init__(self, rollups: Rollups, catalogue: Catalogue, store: Store, run: Run) -> None:
        self._rollups = rollups
        self._catalogue = catalogue
        self._store = store
        self._run = run

    def helps(self, bucket_id: int) -> bool:
        """Whether a bucket has rules."""
        return bool(self._rollups.of(bucket_id))

    async def windows(
        self,
        groups: Sequence[Sequence[Series]],
        aggregates: Sequence[Aggregate],
        windows: Windows,
        *,
        horizon_ns: int | None = None,
        max_rows: int = MAX_WINDOW_ROWS,
    ) -> pa.Table:
        """As `Store.windows`; points before `horizon_ns` do not count, but results of them do."""
        least_ns = EARLIEST_NS if horizon_ns is None else horizon_ns
        ids = [[one.id for one in group] for group in groups]
        wanted = self._wanted(groups, ids, list(dict.fromkeys(aggregates)), windows, least_ns, max_rows)
        state = None if wanted is None else await self._rule_for(wanted)
        if wanted is not None and state is not None:
            async with state.turns.reading():
                spans = self._usable(state, windows)
                if spans:
                    targets = self._targets(state, wanted)
                    try:
                        return await self._run(lambda stop: _answer(self._store, wanted, targets, spans, stop))
                    except _Unfit:
                        pass  # answered below
        shown = replace(windows, start_ns=max(windows.start_ns, least_ns))
        return await self._run(lambda stop: self._store.windows(ids, aggregates, shown, max_rows=max_rows, stop=stop))

    def _wanted(
        self,
        groups: Sequence[Sequence[Series]],
        ids: Sequence[Sequence[int]],
        aggregates: Sequence[Aggregate],
        windows: Windows,
        horizon_ns: int,
        max_rows: int,
    ) -> _Wanted | None:
        """The query, if results could help with it."""
        buckets = {one.key.bucket_id for group in groups for one in group}
        if len(buckets) != 1 or not self._rollups.of(*buckets):
            return None
        types = {one.type for group in groups for one in group}
        if not types <= NUMBERS.keys() or not {one.function for one in aggregates} <= _KEPT.keys():
            return None
        fields = [list(dict.fromkeys((one.key, one.field) for one in group)) for group in groups]
        for names, group_ids in zip(fields, ids, strict=True):
            if not set(self._ids_of(names)) <= set(group_ids):
                return None
        has_order = any(one.function in (Function.FIRST, Function.LAST) for one in aggregates)
        if has_order and any(len(names) > 1 for names in fields):
            return None
        return _Wanted(ids, fields, aggregates, windows, common_type(types, aggregates), horizon_ns, max_rows)

    async def _rule_for(self, wanted: _Wanted) -> RollupState | None:
        (bucket_id,) = {key.bucket_id for names in wanted.fields for key, _ in names}
        needed = {kept.value for function in wanted.functions for kept in _KEPT[function]}
        for state in reversed(self._rollups.of(bucket_id)):
            if needed <= set(state.rule.aggregates) and (span := self._known(state, wanted.windows)):
                is_simple = wanted.windows.zone is None and not wanted.windows.every_months
                if is_simple:
                    fits = _is_aligned(wanted.windows, state.window_ns, span)
                else:  # the calendar of a place takes some milliseconds
                    fits = await self._run(partial(_is_aligned, wanted.windows, state.window_ns, span))
                if fits:
                    return state
        return None

    def _known(self, state: RollupState, windows: Windows) -> Span | None:
        """From when to when results may be used."""
        width = state.window_ns
        start_ns = max(windows.start_ns, state.expired_ns, EARLIEST_USED_NS)
        start_ns = -(-start_ns // width) * width
        end_ns = min(windows.end_ns, state.filled_ns) // width * width
        return (start_ns, end_ns) if start_ns < end_ns else None

    def _usable(self, state: RollupState, windows: Windows) -> list[Span]:
        """The spans in which results are right."""
        known = None if state.is_gone else self._known(state, windows)
        if known is None:
            return []
        start_ns, end_ns = known
        least_ns = max(start_ns, self._rollups.frozen_ns(state))
        dirty = spans_of(sorted(n for n in state.dirty if least_ns <= n < end_ns), state.window_ns)
        found = []
        for from_ns, until_ns in _joined(dirty, MAX_DIRTY_SPANS):
            found.append((start_ns, from_ns))
            start_ns = until_ns
        return [span for span in [*found, (start_ns, end_ns)] if span[0] < span[1]]

    def _targets(self, state: RollupState, wanted: _Wanted) -> Mapping[Function, Sequence[Sequence[int]]]:
        """For each aggregate that is kept, the series of results of each group."""
        target_id = state.rule.target_bucket_id
        return {
            Function(name): [
                self._ids_of(
                    (key._replace(bucket_id=target_id), result_name(field, Function(name))) for key, field in names
                )
                for names in wanted.fields
            ]
            for name in state.rule.aggregates
        }

    def _ids_of(self, fields: Iterable[FieldName]) -> list[int]:
        """The series of numbers of some fields."""
        return [
            series_id
            for key, field in fields
            for value_class in NUMBERS.values()
            if (series_id := self._catalogue.find(key, field, value_class)) is not None
        ]


def _is_aligned(windows: Windows, width_ns: int, span: Span, _: Cancellation | None = None) -> bool:
    """Whether windows are unions of windows of a width, in a span."""
    return all(
        one.first_ns % width_ns == 0 and (one.length == 1 or one.every_ns % width_ns == 0)
        for one in windows.progressions(span[0], span[1] - 1)
    )


def _joined(spans: Sequence[Span], most: int) -> list[Span]:
    """At most so many spans that cover the given ones: the least gaps are closed."""
    if len(spans) <= most:
        return list(spans)
    gaps = sorted(range(1, len(spans)), key=lambda n: spans[n][0] - spans[n - 1][1])
    kept = sorted(gaps[len(gaps) - most + 1 :])
    firsts, lasts = [0, *kept], [*(n - 1 for n in kept), len(spans) - 1]
    return [(spans[first][0], spans[last][1]) for first, last in zip(firsts, lasts, strict=True)]


def _answer(
    store: Store,
    wanted: _Wanted,
    targets: Mapping[Function, Sequence[Sequence[int]]],
    usable: Sequence[Span],
    stop: Cancellation,
) -> pa.Table:
    """The answer of results in these spans and of points outside of them. Blocks."""
    schema = answer_schema(wanted.value_type, [Aggregate(part) for part in wanted.parts])
    tables: list[pa.Table] = []
    boundaries: list[int] = []
    at_ns = wanted.windows.start_ns
    for start_ns, end_ns in [*usable, (wanted.windows.end_ns, wanted.windows.end_ns)]:
        if max(at_ns, wanted.horizon_ns) < start_ns:
            tables.append(_of_points(store, wanted, max(at_ns, wanted.horizon_ns), start_ns, stop))
        if start_ns < end_ns:
            tables.append(_of_results(store, wanted, targets, start_ns, end_ns, stop).cast(schema))
        boundaries += [start_ns, end_ns]
        at_ns = end_ns
    last_ns = wanted.windows.end_ns - 1
    parted = {wanted.windows.progressions(at, at)[0].first_ns for at in boundaries if at <= last_ns}
    found = merged(tables, schema, parted, wanted.value_type, wanted.aggregates)
    if found.num_rows > wanted.max_rows:
        raise too_many_rows(wanted.max_rows)
    return checked(found, wanted.value_type, wanted.aggregates)


def _of_points(store: Store, wanted: _Wanted, start_ns: int, end_ns: int, stop: Cancellation) -> pa.Table:
    windows = replace(wanted.windows, start_ns=start_ns, end_ns=end_ns)
    parts = [Aggregate(part) for part in wanted.parts]
    return store.windows(wanted.groups, parts, windows, max_rows=wanted.max_rows, stop=stop)


def _of_results(
    store: Store,
    wanted: _Wanted,
    targets: Mapping[Function, Sequence[Sequence[int]]],
    start_ns: int,
    end_ns: int,
    stop: Cancellation,
) -> pa.Table:
    """The parts of the answer in a span, out of results."""
    windows = replace(wanted.windows, start_ns=start_ns, end_ns=end_ns)

    def read(kept: Function, *functions: Function) -> pa.Table:
        aggregates = [Aggregate(function) for function in functions]
        return store.windows(targets[kept], aggregates, windows, max_rows=wanted.max_rows, stop=stop)

    is_integer = wanted.value_type is not ValueType.FLOAT
    answer: dict[str, Any] = {}
    for part in wanted.parts:
        if part is Function.MEAN:
            counts = read(Function.COUNT, Function.SUM)
            table = read(Function.SUM, Function.MEAN, Function.COUNT)  # their product: a sum that always fits
            _check_same(table, counts)
            sums = pc.multiply(table.column("mean"), table.column("count").cast(pa.float64()))
            column = pc.divide(sums, counts.column("sum").cast(pa.float64()))
        elif part in (Function.COUNT, Function.SUM):
            table = read(part, Function.SUM)
            column = table.column("sum")
        else:
            table = read(part, part)
            column = table.column(part.value)
        if part is not Function.MEAN and is_integer and pa.types.is_floating(column.type):
            raise _Unfit
        if not answer:
            answer = {"group": table.column("group"), "at_ns": table.column("at_ns")}
        _check_same(table, answer)
        answer[part.value] = column
    return pa.table(answer)


def _check_same(table: pa.Table, other: Mapping[str, pa.ChunkedArray] | pa.Table) -> None:
    """Whether two answers are of the same windows, as those of one rule are."""
    if any(not table.column(name).equals(other[name]) for name in ("group", "at_ns")):
        raise _Unfit
