"""Where telemetry is kept: the interface, and the columns that are handed to it.

Two engines implement `Store`: `headwater.store.duck` (DuckDB, durable) and `headwater.store.memory` (for tests and
for throw-away servers). Both pass the same suite, `tests/contracts/test_store.py`. A store knows series by number
and does no access checks.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import pyarrow as pa

from headwater.model.series import Series, ValueType

if TYPE_CHECKING:
    from headwater.store.aggregates import Aggregate
    from headwater.store.cancellation import Cancellation
    from headwater.store.windows import Windows

MAX_WINDOW_ROWS = 1_000_000
"""The most windows, over all groups, that one answer has unless its caller says otherwise."""

_ARRAY_CODES = {
    ValueType.FLOAT: "d",
    ValueType.INTEGER: "q",
    ValueType.UNSIGNED: "Q",
    ValueType.BOOLEAN: "b",
}


ARROW_TYPES: Mapping[ValueType, pa.DataType] = MappingProxyType(
    {
        ValueType.FLOAT: pa.float64(),
        ValueType.INTEGER: pa.int64(),
        ValueType.UNSIGNED: pa.uint64(),
        ValueType.BOOLEAN: pa.bool_(),
        ValueType.STRING: pa.string(),
    }
)
"""The type of a series' column in what `Store.rows` returns."""


class Columns:
    """Points of one value type, column by column, in the order in which they arrived.

    Shapes: three columns of equal length. `series_ids` and `at_ns` are int64 arrays; `values` is an array of the
    matching C type (booleans as 0/1 bytes), or a list of `str` for strings. Arrays, because appending to them costs
    the same as to a list and a store can use their memory without converting each value.
    """

    __slots__ = ("at_ns", "series_ids", "type", "values")

    def __init__(self, value_type: ValueType) -> None:
        self.type = value_type
        self.series_ids = array("q")
        self.at_ns = array("q")
        self.values: Any = [] if value_type is ValueType.STRING else array(_ARRAY_CODES[value_type])

    def append(self, series_id: int, at_ns: int, value: Any) -> None:
        """Add one point, or raise (`TypeError`, `OverflowError`: not of the column's type) and change nothing."""
        try:
            self.values.append(value)
            self.at_ns.append(at_ns)
            self.series_ids.append(series_id)
        except (TypeError, OverflowError):
            whole = len(self.series_ids)
            del self.values[whole:], self.at_ns[whole:]
            raise

    def __len__(self) -> int:
        return len(self.series_ids)


@dataclass(slots=True)
class Batch:
    """What one transaction stores: new series, then points."""

    new_series: list[Series] = field(default_factory=list)
    columns: dict[ValueType, Columns] = field(default_factory=dict)

    def __len__(self) -> int:
        """How many points."""
        return sum(len(columns) for columns in self.columns.values())


class Store(Protocol):
    """Durable columns of points. Every method may block on disk: call it from a worker thread.

    Every method may be called from any thread. Writes (`append`, `delete`) wait for each other; reads run beside
    them and beside each other, and see either all or nothing of a batch. Errors: `StorageError` for whatever the
    engine or the disk refuses, and for any call after `close`. A query that is given a `stop` raises `Cancelled` soon
    after that was cancelled, and one that needs more memory than the store may use raises `TooLarge`.
    """

    def append(self, batch: Batch) -> None:
        """Store a batch in one transaction. When this returns, the batch is on disk; when it raises, nothing of
        it is. A point whose series and time exist already replaces the older value, also within one batch.

        The batch must not be changed meanwhile. A new series whose id is in the catalogue already is an error.
        Points of a series that is in neither are not refused (to look would cost every point), but whether they
        are seen should the series be added later is undefined.
        """

    def catalogue(self) -> Iterator[Series]:
        """Every series that was ever stored and not deleted, by ascending id."""

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
        """Points of the given series, pivoted: one row for each time at which any of them has a value.

        Args: `start_ns` inclusive, `end_ns` exclusive; `newest` (0 or more) keeps only that many latest rows, `oldest`
        that many earliest ones; not both.
        Returns columns `at_ns` (int64, ascending) and one per series named by `str(series_id)` in the given order
        (an id given twice counts once), typed by `ARROW_TYPES`, null where a series has no value at that time. An
        id that is not in the catalogue gives a column of type null.
        """

    def records(
        self,
        keys: Sequence[Mapping[str, int]],
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
        stop: Cancellation | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Points of many series keys as records, in batches, so that any number of them needs little memory.

        Args: `keys`, for each series key the name of a column and the series whose values stand in it; all series of
        one column have one type, and none is in two places. `start_ns` inclusive, `end_ns` exclusive.

        Yields batches of at most some ten thousand rows: columns `key` (int64, the index in `keys`), `at_ns` (int64)
        and the named columns in the order in which they first appear, typed by `ARROW_TYPES` (or null, when none of its
        series is in the catalogue), null where a record has no value. Records ascend by key, then by time. The first
        batch is there also when it is empty. All that was stored before the call is in them; of what is stored
        meanwhile, each batch may have some. Raises BadRequest for a column with series of several types. It is fastest
        with keys beside each other whose series have neighbouring numbers.
        """

    def scan(
        self,
        keys: Sequence[Mapping[str, int]],
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
        stop: Cancellation | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """What `records` gives, in any order, as it is found: for work that needs no order, which costs the most.

        It is all of one moment. Columns whose series are all unknown are left out, and there may be no batch.
        """

    def windows(
        self,
        groups: Sequence[Sequence[int]],
        aggregates: Sequence[Aggregate],
        windows: Windows,
        *,
        max_rows: int = MAX_WINDOW_ROWS,
        stop: Cancellation | None = None,
    ) -> pa.Table:
        """Aggregates of the points in each window of time, for each group of series.

        The points of all series of a group are taken together; a series may be in several groups. What the
        aggregates are is said in `headwater.store.aggregates`, where windows begin in `headwater.store.windows`.

        Returns one row for each group and window that has points, ascending: columns `group` (int64, the index in
        `groups`), `at_ns` (int64, when the window begins) and one per aggregate, named by it (one given twice counts
        once), typed as `answer_schema` says for the type that all series have, or for floats if there are
        different types of numbers. Series that are not in the catalogue are as if without points.

        Raises `BadRequest` for an aggregate that strings or booleans do not have, for strings, booleans and numbers
        in one call, and for a sum or spread that an integer cannot hold; `TooLarge` for more than `max_rows` rows.
        """

    def maxima(self, series_ids: Sequence[int]) -> Mapping[int, int]:
        """The greatest value that each given integer or unsigned series has now (replaced and deleted values do not
        count); series without points, of another type or not in the catalogue are left out."""

    def newest_times(self, series_ids: Sequence[int]) -> Mapping[int, int]:
        """The latest time of each given series; series without points are left out."""

    def times(self, series_id: int, at_ns: Collection[int]) -> set[int]:
        """Those of the given times at which the series has a point."""

    def times_of(self, series_id: int, least: int, most: int, newest: int) -> list[int]:
        """When an integer series has a value from `least` to `most`: ascending, the latest so many."""

    def delete(self, series_ids: Sequence[int], *, start_ns: int | None = None, end_ns: int | None = None) -> None:
        """Delete the points of these series in [start, end), durably; without bounds, the series themselves too."""

    def maintain(self) -> bool:
        """Do the next piece of work that keeps queries fast and files small; False when there is nothing to do. It
        changes nothing that can be read, and neither writes nor reads wait for it. To be called again and again; of two
        calls at once, one waits for the other."""

    def backlog(self) -> int:
        """How many points there are more than should wait for `maintain`: 0 where it keeps up."""

    def interrupt_maintenance(self) -> None:
        """Break off a `maintain` that is going on in another thread: it raises StorageError soon, and has done
        nothing."""

    def snapshot(self) -> Mapping[str, BinaryIO]:
        """Files, open for reading, that together are the store as it is now, by their names in its directory: all
        that was stored before is in them, and they stay as they are. The caller closes them. Raises StorageError also
        when the store keeps no files."""

    def close(self) -> None:
        """Release the files, once reads that are under way have ended. May be called again, to no effect."""
