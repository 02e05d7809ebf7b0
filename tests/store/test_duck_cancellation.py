"""A query that goes on is broken off soon, and nothing else notices."""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from headwater.errors import Cancelled
from headwater.model.series import Series, SeriesKey, ValueType
from headwater.store import Batch, Columns, Store
from headwater.store.aggregates import Aggregate, Function
from headwater.store.cancellation import Cancellation
from headwater.store.duck import DuckStore, open_duck_store
from headwater.store.windows import Windows

POINTS = 400_000
KEY = SeriesKey(1, "m")
SERIES = [Series(one, KEY, str(one), ValueType.FLOAT) for one in range(1, 401)]
ALL = [one.id for one in SERIES]


def points(series_ids: list[int], times: range) -> Batch:
    columns = Columns(ValueType.FLOAT)
    columns.series_ids = array("q", series_ids * len(times))
    columns.at_ns = array("q", [at for at in times for _ in series_ids])
    columns.values = array("d", columns.at_ns)
    return Batch([], {ValueType.FLOAT: columns})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckStore]:
    with closing(open_duck_store(tmp_path, hot_rows=50_000, deletions_wait_s=0)) as store:
        store.append(Batch(SERIES))
        store.append(points([1], range(POINTS)))
        store.append(points(ALL, range(1)))
        yield store


def long_windows(store: Store, stop: Cancellation) -> None:
    """Would take minutes."""
    store.windows([[1]] * 20_000, [Aggregate(Function.MEAN)], Windows(0, POINTS, every_ns=POINTS), stop=stop)


def long_rows(store: Store, stop: Cancellation) -> None:
    """Would need several GB."""
    store.rows(ALL, stop=stop)


def long_records(store: Store, stop: Cancellation) -> None:
    """Would be some hundred thousand rows of hundreds of columns."""
    for _ in store.records([{str(one): one for one in ALL}], stop=stop):
        pass


@pytest.mark.parametrize("query", [long_windows, long_rows, long_records])
def test_a_query_ends_soon_and_all_else_goes_on(store: DuckStore, query: Callable[[Store, Cancellation], None]) -> None:
    stop = Cancellation()
    ended_s: list[float] = []

    def ask() -> None:
        with pytest.raises(Cancelled, match="nobody waits"):
            query(store, stop)
        ended_s.append(time.monotonic())

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    for number in range(10):
        store.append(points([2], range(number, number + 1)))
        store.maintain()
    assert asking.is_alive()
    stop.cancel("nobody waits")
    cancelled_s = time.monotonic()
    asking.join(60)
    assert ended_s
    assert ended_s[0] - cancelled_s < 5  # about a tenth of that when nothing else is going on
    store.append(points([2], range(10, 11)))
    while store.maintain():
        pass
    assert store.rows([2]).column("at_ns").to_pylist() == list(range(11))
    assert store.newest_times([1]) == {1: POINTS - 1}


def test_a_query_that_is_cancelled_at_any_moment(store: DuckStore) -> None:
    """Also just before the engine begins, when it does not remember that it was interrupted."""
    for after_s in (0, 0, 0, 0.001, 0.002, 0.005, 0.01, 0.02):
        stop = Cancellation()
        timer = threading.Timer(after_s, stop.cancel, ["enough"])
        timer.start()
        with pytest.raises(Cancelled, match="enough"):
            long_windows(store, stop)
        timer.join()
