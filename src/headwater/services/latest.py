"""The newest point of each of many series. Knows only what every store can do.

The newest times are asked for first; then the values, of a span that ends at each time and is short where the time is
recent, so that the long history of a series is never read. A point that arrives between the two questions is noticed
by asking for the times again, and its series is asked for once more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from headwater.model.series import Series, Value, ValueType
from headwater.store import Store
from headwater.store.aggregates import Aggregate, Function
from headwater.store.cancellation import Cancellation
from headwater.store.windows import LATEST_NS, Windows

_LAST = Aggregate(Function.LAST)
_TRIES = 3
_TOGETHER_NS = 2**36
"""Times less than so much (69 s) before the newest of all are looked up together; then twice as much, and so on."""


class LatestPoint(NamedTuple):
    """The newest point of a series."""

    series: Series
    at_ns: int
    value: Value


def latest_points(store: Store, series: Sequence[Series], stop: Cancellation) -> list[LatestPoint]:
    """The newest point of each series that has any, in the given order."""
    of_id = {one.id: one for one in series}
    found: dict[int, tuple[int, Value]] = {}
    waiting = set(of_id)
    for _ in range(_TRIES):
        stop.check()
        times = store.newest_times(list(waiting))
        values = _values(store, [of_id[series_id] for series_id in times], times, stop)
        stop.check()
        times_now = store.newest_times(list(times))
        for series_id, value in values.items():
            if times_now.get(series_id) == times[series_id]:
                found[series_id] = times[series_id], value
        waiting = times_now.keys() - found.keys()
        if not waiting:
            break
    for series_id in waiting:  # written to all the time
        newest = store.rows([series_id], newest=1, stop=stop)
        if newest.num_rows:
            found[series_id] = newest.column("at_ns")[0].as_py(), newest.column(str(series_id))[0].as_py()
    return [LatestPoint(one, *found[one.id]) for one in series if one.id in found]


def _values(store: Store, series: Iterable[Series], times: Mapping[int, int], stop: Cancellation) -> dict[int, Value]:
    """The values at those times, unless something newer came."""
    newest_ns = max(times.values(), default=0)
    together: dict[tuple[ValueType, int], list[int]] = {}
    for one in series:
        age = ((newest_ns - times[one.id]) // _TOGETHER_NS).bit_length()
        together.setdefault((one.type, age), []).append(one.id)
    values: dict[int, Value] = {}
    for ids in together.values():
        span = Windows(min(times[n] for n in ids), max(times[n] for n in ids) + 1, every_ns=LATEST_NS)
        table = store.windows([[n] for n in ids], [_LAST], span, max_rows=2 * len(ids), stop=stop)
        # Two rows where the span has times before and after 1970: the later one stands.
        pairs = zip(table.column("group").to_pylist(), table.column(_LAST.name).to_pylist(), strict=True)
        values.update((ids[group], value) for group, value in pairs)
    return values
