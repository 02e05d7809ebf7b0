"""A store in memory, for tests and throw-away servers. Keeps every promise of the interface except that of the disk."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import pyarrow as pa

from headwater.errors import StorageError
from headwater.model.series import Series, ValueType
from headwater.store import ARROW_TYPES, MAX_WINDOW_ROWS, Batch, Columns
from headwater.store.aggregates import Aggregate, answer_schema, checked, common_type, too_many_rows
from headwater.store.aggregating import Point, aggregated, by_window
from headwater.store.cancellation import Cancellation
from headwater.store.recording import records_schema
from headwater.store.windows import Windows


class MemoryStore:
    """A `Store` of dictionaries: series, then time, then value."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._series: dict[int, Series] = {}
        self._points: dict[int, dict[int, Any]] = {}
        self._is_closed = False

    def append(self, batch: Batch) -> None:
        new_series = {series.id: series for series in batch.new_series}
        points = [point for columns in batch.columns.values() for point in _points_of(columns)]
        with self._lock:
            self._check_open()
            if len(new_series) != len(batch.new_series) or not new_series.keys().isdisjoint(self._series):
                raise StorageError("The telemetry store was given a new series with the number of another.")
            self._series.update(new_series)
            for series_id, at_ns, value in points:
                self._points.setdefault(series_id, {})[at_ns] = value

    def catalogue(self) -> Iterator[Series]:
        with self._lock:
            self._check_open()
            catalogue = sorted(self._series.values())
        yield from catalogue

    def rows(
        self,
        series_ids: Sequence[int],
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
        newest: int | None = None,
        oldest: int | None = None,
        stop: Cancellation | None = None,
    ) -> pa.Table:
        if stop is not None:
            stop.check()
        wanted = list(dict.fromkeys(series_ids))
        with self._lock:
            self._check_open()
            types = {series_id: self._series[series_id].type for series_id in wanted if series_id in self._series}
            columns = {
                series_id: {at_ns: value for at_ns, value in points.items() if _is_within(at_ns, start_ns, end_ns)}
                for series_id in types
                if (points := self._points.get(series_id)) is not None
            }
        times = sorted({at_ns for column in columns.values() for at_ns in column})
        if newest is not None:
            times = times[max(0, len(times) - newest) :]
        if oldest is not None:
            times = times[:oldest]
        table = {"at_ns": pa.array(times, pa.int64())}
        for series_id in wanted:
            arrow_type = ARROW_TYPES[types[series_id]] if series_id in types else pa.null()
            column = columns.get(series_id, {})
            table[str(series_id)] = pa.array([column.get(at_ns) for at_ns in times], arrow_type)
        return pa.table(table)

    def records(
        self,
        keys: Sequence[Mapping[str, int]],
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
        stop: Cancellation | None = None,
    ) -> Iterator[pa.RecordBatch]:
        with self._lock:
            self._check_open()
            types = {n: self._series[n].type for key in keys for n in key.values() if n in self._series}
        schema = records_schema(keys, types)
        yield pa.RecordBatch.from_pylist([], schema)
        for number, key in enumerate(keys):
            table = self.rows(list(key.values()), start_ns=start_ns, end_ns=end_ns, stop=stop)
            columns = {"key": pa.repeat(pa.scalar(number, pa.int64()), table.num_rows), "at_ns": table.column("at_ns")}
            for field in list(schema)[2:]:
                series_id = key.get(field.name)
                found = pa.nulls(table.num_rows) if series_id is None else table.column(str(series_id))
                columns[field.name] = found.cast(field.type)
            yield from pa.table(columns, schema=schema).combine_chunks().to_batches()

    def scan(
        self,
        keys: Sequence[Mapping[str, int]],
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
        stop: Cancellation | None = None,
    ) -> Iterator[pa.RecordBatch]:
        with self._lock:  # of one moment
            self._check_open()
            types = {n: self._series[n].type for key in keys for n in key.values() if n in self._series}
            points_of = {
                n: {at: value for at, value in self._points.get(n, {}).items() if _is_within(at, start_ns, end_ns)}
                for n in types
            }
        schema = records_schema(keys, types)
        schema = pa.schema([field for field in schema if not pa.types.is_null(field.type)])
        for number, key in enumerate(keys):
            if stop is not None:
                stop.check()
            columns = {name: points_of[n] for name, n in key.items() if n in points_of}
            rows = [
                {"key": number, "at_ns": at_ns} | {name: points.get(at_ns) for name, points in columns.items()}
                for at_ns in set().union(*columns.values())
            ]
            yield pa.RecordBatch.from_pylist(rows, schema)

    def windows(
        self,
        groups: Sequence[Sequence[int]],
        aggregates: Sequence[Aggregate],
        windows: Windows,
        *,
        max_rows: int = MAX_WINDOW_ROWS,
        stop: Cancellation | None = None,
    ) -> pa.Table:
        if stop is not None:
            stop.check()
        aggregates = list(dict.fromkeys(aggregates))
        with self._lock:
            self._check_open()
            types = {n: self._series[n].type for ids in groups for n in ids if n in self._series}
            points_of = {
                n: [
                    Point(at, n, value)
                    for at, value in self._points.get(n, {}).items()
                    if windows.start_ns <= at < windows.end_ns
                ]
                for n in types
            }
        value_type = common_type(types.values(), aggregates)
        if value_type is ValueType.FLOAT:
            points_of = {
                n: [point._replace(value=float(point.value)) for point in points] for n, points in points_of.items()
            }
        times = [point.at_ns for points in points_of.values() for point in points]
        progressions = windows.progressions(min(times), max(times)) if times else []
        rows = [
            [number, begins_ns, *(aggregated(one, value_type, points) for one in aggregates)]
            for number, ids in enumerate(groups)
            for begins_ns, points in by_window(
                (point for n in dict.fromkeys(ids) for point in points_of.get(n, ())), progressions
            ).items()
        ]
        if len(rows) > max_rows:
            raise too_many_rows(max_rows)
        schema = answer_schema(value_type, aggregates)
        columns = zip(*rows, strict=True) if rows else [()] * len(schema)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
        return checked(pa.table(arrays, schema=schema), value_type, aggregates)

    def maxima(self, series_ids: Sequence[int]) -> Mapping[int, int]:
        with self._lock:
            self._check_open()
            return {
                series_id: max(points.values())
                for series_id in series_ids
                if (series := self._series.get(series_id)) is not None
                and series.type in (ValueType.INTEGER, ValueType.UNSIGNED)
                and (points := self._points.get(series_id))
            }

    def newest_times(self, series_ids: Sequence[int]) -> Mapping[int, int]:
        with self._lock:
            self._check_open()
            return {series_id: max(points) for series_id in series_ids if (points := self._points.get(series_id))}

    def times(self, series_id: int, at_ns: Collection[int]) -> set[int]:
        with self._lock:
            self._check_open()
            return self._points.get(series_id, {}).keys() & at_ns

    def times_of(self, series_id: int, least: int, most: int, newest: int) -> list[int]:
        with self._lock:
            self._check_open()
            found = sorted(at for at, value in self._points.get(series_id, {}).items() if least <= value <= most)
            return found[-newest:] if newest else []

    def delete(self, series_ids: Sequence[int], *, start_ns: int | None = None, end_ns: int | None = None) -> None:
        with self._lock:
            self._check_open()
            for series_id in series_ids:
                if start_ns is None and end_ns is None:
                    self._series.pop(series_id, None)
                points = self._points.pop(series_id, {})
                kept = {at: value for at, value in points.items() if not _is_within(at, start_ns, end_ns)}
                if kept:
                    self._points[series_id] = kept

    def maintain(self) -> bool:
        with self._lock:
            self._check_open()
        return False

    def backlog(self) -> int:
        return 0

    def interrupt_maintenance(self) -> None:
        """Nothing here takes long."""

    def snapshot(self) -> Mapping[str, BinaryIO]:
        raise StorageError("Points are kept in memory only (store.engine): there is nothing to copy.")

    def close(self) -> None:
        with self._lock:
            self._is_closed = True

    def _check_open(self) -> None:
        if self._is_closed:
            raise StorageError("The telemetry store is closed.")


def _points_of(columns: Columns) -> Iterator[tuple[int, int, Any]]:
    if columns.type is ValueType.STRING:
        try:
            for text in columns.values:
                text.encode()
        except UnicodeEncodeError as error:
            raise StorageError("The telemetry store was given text that is not Unicode.") from error
    values = map(bool, columns.values) if columns.type is ValueType.BOOLEAN else columns.values
    return zip(columns.series_ids, columns.at_ns, values, strict=True)


def _is_within(at_ns: int, start_ns: int | None, end_ns: int | None) -> bool:
    return (start_ns is None or at_ns >= start_ns) and (end_ns is None or at_ns < end_ns)
