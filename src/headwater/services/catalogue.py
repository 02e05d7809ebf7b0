"""Which series exist and under which number, in memory. Filled from the store at start; ingest adds, query reads.

The event loop's thread alone adds and forgets series. Other threads may ask what series there are (`select` and what
follows it in `Catalogue`): they look at copies, and see what is added meanwhile or not.

A series key with two tags and a field takes about 0.6 KB, because texts that several have in common are kept once;
every field more takes 0.1 KB.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Iterator

from headwater.model.series import CLASS_OF, TYPE_OF, Series, SeriesKey, ValueType
from headwater.services.deletion_notices import is_notice, is_of_clear, make_notice, noticed_ids
from headwater.services.measurements import Measurement, tag_value
from headwater.services.selecting import SeriesFilter
from headwater.store.cancellation import Cancellation

BLOCK = 32
"""Series ids are handed out in blocks, one key at a time: the fields of a channel then lie side by side in the
sorted part of the store, and reading a whole channel reads one range."""


@dataclasses.dataclass(slots=True)
class Unfinished:
    """Stored series of a bucket that were to be deleted when the process ended, with the notices of it."""

    series: list[Series] = dataclasses.field(default_factory=list)
    is_clear: bool = False


class Catalogue:
    """Series key and field to series id, by the Python class of the value."""

    def __init__(self, series: Iterable[Series] = ()) -> None:
        """`series`: what is stored, by ascending id."""
        self._ids: dict[SeriesKey, dict[type, dict[str, int]]] = {}
        self._buckets: dict[int, dict[str, Measurement]] = {}
        self._used_ids: dict[SeriesKey, int] = {}
        """The last id of keys whose last series was forgotten and that have others."""
        self._next_block = 1
        self.unfinished: dict[int, Unfinished] = {}
        """By bucket; to be deleted before anything else happens. They are not in the catalogue any more."""
        series = list(series)
        doomed: set[int] = set()
        for notice in filter(is_notice, series):
            doomed.update(noticed_ids(notice))
            unfinished = self._unfinished(-notice.key.bucket_id)
            unfinished.series.append(notice)
            unfinished.is_clear |= is_of_clear(notice)
        for one in series:
            self._next_block = max(self._next_block, one.id // BLOCK + 1)
            if one.id in doomed:
                self._unfinished(one.key.bucket_id).series.append(one)
            elif not is_notice(one):
                self._add(one)

    def _add(self, series: Series) -> Series:
        """Make a series known. Answers it with texts that are shared with others."""
        ids = self._ids.get(series.key)
        if ids is None:
            key = _with_shared_texts(series.key)
            ids = self._ids[key] = {}
            self._measurement(key).keys.append(key)
        field = sys.intern(series.field)
        fields = ids.setdefault(CLASS_OF[series.type], {})
        superseded = fields.pop(field, None)  # and added at the end: ids ascend
        if superseded is not None:
            self._unfinished(series.key.bucket_id).series.append(series._replace(id=superseded))
        fields[field] = series.id
        if superseded is None:
            self._measurement(series.key).add_series(field, series.type)
        self._next_block = max(self._next_block, series.id // BLOCK + 1)
        return series

    def _unfinished(self, bucket_id: int) -> Unfinished:
        return self.unfinished.setdefault(bucket_id, Unfinished())

    def _measurement(self, key: SeriesKey) -> Measurement:
        measurements = self._buckets.setdefault(key.bucket_id, {})
        found = measurements.get(key.measurement)
        if found is None:
            found = measurements[sys.intern(key.measurement)] = Measurement()
        return found

    def ids(self, key: SeriesKey) -> dict[type, dict[str, int]]:
        """Value class to field to series id, as far as such series exist. Do not change it."""
        ids = self._ids.get(key)
        return {} if ids is None else ids

    def create(self, key: SeriesKey, field: str, value_type: ValueType) -> Series:
        """A series that did not exist. The caller stores it."""
        last_id = self._last_id(key)
        if last_id is None or (last_id + 1) % BLOCK == 0:
            last_id = self._next_block * BLOCK - 1
        return self._add(Series(last_id + 1, key, field, value_type))

    def _last_id(self, key: SeriesKey) -> int | None:
        """The greatest id that was given to a series of this key since it was last without any."""
        ids = self._ids.get(key)
        if ids is None:
            return None
        last_ids = [next(reversed(fields.values())) for fields in ids.values()]
        return max(*last_ids, self._used_ids.get(key, 0))

    def find(self, key: SeriesKey, field: str, value_class: type) -> int | None:
        """The id of a series, or None when nothing was ever written to it."""
        ids = self._ids.get(key)
        return None if ids is None else ids.get(value_class, {}).get(field)

    def bucket_ids(self) -> list[int]:
        """Every bucket that has series."""
        return list(self._buckets)

    def of_bucket(self, bucket_id: int) -> Iterator[Series]:
        """Every series of a bucket. May be asked by any thread."""
        for measurement in self._buckets.get(bucket_id, {}).copy().values():
            for key in measurement.keys:
                yield from self.of_key(key)

    def of_key(self, key: SeriesKey) -> Iterator[Series]:
        """Every series of a key."""
        for value_class, fields in self._ids.get(key, {}).copy().items():
            value_type = TYPE_OF[value_class]
            for field, series_id in fields.copy().items():
                yield Series(series_id, key, field, value_type)

    def series_ids(self, bucket_id: int) -> list[int]:
        """The numbers of all series of a bucket; a hundred thousand take some ten milliseconds."""
        found: list[int] = []
        for measurement in self._buckets.get(bucket_id, {}).values():
            for key in measurement.keys:
                for fields in self._ids[key].values():
                    found += fields.values()
        return found

    def with_field(self, measurement: str, field: str, value_class: type) -> Iterator[tuple[SeriesKey, int]]:
        """Key and id of every series of that measurement and field, over all buckets."""
        for key, ids in self._ids.items():
            if key.measurement == measurement and field in ids.get(value_class, {}):
                yield key, ids[value_class][field]

    # -- asked by any thread -----------------------------------------------------------------------------------------

    def select(self, wanted: SeriesFilter, stop: Cancellation | None = None) -> list[Series]:
        """The series that meet a filter: all of a measurement's together, those of a key together."""
        found = []
        for measurement in self._chosen(wanted, stop):
            fields = measurement.fields()
            names = fields.keys() if wanted.fields is None else frozenset(wanted.fields.among(fields, stop))
            is_all = len(names) == len(fields) and wanted.types is None
            for key in measurement.matching(wanted.tags, stop) if names else ():
                found += [
                    one
                    for one in self.of_key(key)
                    if is_all or (one.field in names and (wanted.types is None or one.type in wanted.types))
                ]
        return found

    def measurements(self, wanted: SeriesFilter, stop: Cancellation | None = None) -> list[str]:
        """The measurements that have series which meet a filter, sorted."""
        if not (wanted.tags or wanted.fields or wanted.types):
            return sorted(self._names(wanted, stop))
        return sorted({series.key.measurement for series in self.select(wanted, stop)})

    def fields(self, wanted: SeriesFilter, stop: Cancellation | None = None) -> dict[str, tuple[ValueType, ...]]:
        """The fields of the series that meet a filter, sorted, each with its types."""
        types_of: dict[str, set[ValueType]] = {}
        if wanted.tags or wanted.fields or wanted.types:
            for series in self.select(wanted, stop):
                types_of.setdefault(series.field, set()).add(series.type)
        else:
            for measurement in self._chosen(wanted, stop):
                for field, types in measurement.fields().items():
                    types_of.setdefault(field, set()).update(types)
        return {field: tuple(sorted(types_of[field])) for field in sorted(types_of)}

    def tag_keys(self, wanted: SeriesFilter, stop: Cancellation | None = None) -> list[str]:
        """The names of the tags that the series which meet a filter have, sorted."""
        if not (wanted.tags or wanted.fields or wanted.types):
            return sorted({name for one in self._chosen(wanted, stop) for name in one.tag_names()})
        return sorted({name for series in self.select(wanted, stop) for name, _ in series.key.tags})

    def tag_values(self, wanted: SeriesFilter, tag: str, stop: Cancellation | None = None) -> list[str]:
        """The values of a tag that the series which meet a filter have, sorted; without the empty one."""
        return sorted({tag_value(series.key, tag) for series in self.select(wanted, stop)} - {""})

    def _names(self, wanted: SeriesFilter, stop: Cancellation | None) -> list[str]:
        names = list(self._buckets.get(wanted.bucket_id, {}))
        return names if wanted.measurement is None else wanted.measurement.among(names, stop)

    def _chosen(self, wanted: SeriesFilter, stop: Cancellation | None) -> list[Measurement]:
        measurements = self._buckets.get(wanted.bucket_id, {}).copy()
        return [measurements[name] for name in self._names(wanted, stop) if name in measurements]

    # -- forgetting --------------------------------------------------------------------------------------------------

    def forget(self, series: Iterable[Series]) -> None:
        """Series are gone, and what is written from now on is written to others: their ids are not used again while
        this process lives."""
        gone: dict[tuple[int, str], set[SeriesKey]] = {}
        for one in series:
            ids = self._ids.get(one.key, {})
            fields = ids.get(CLASS_OF[one.type], {})
            if fields.get(one.field) != one.id:
                continue
            self._used_ids[one.key] = self._last_id(one.key) or 0
            del fields[one.field]
            if not fields:
                del ids[CLASS_OF[one.type]]
            self._measurement(one.key).remove_series(one.field, one.type)
            if not ids:
                del self._ids[one.key], self._used_ids[one.key]
                gone.setdefault(one.key[:2], set()).add(one.key)
        for (bucket_id, name), keys in gone.items():
            measurements = self._buckets[bucket_id]
            measurements[name] = measurements[name].without(keys)
            if not measurements[name].keys:
                del measurements[name]
            if not measurements:
                del self._buckets[bucket_id]

    def make_notice(self, bucket_id: int, series: Iterable[Series], *, is_clear: bool) -> Series:
        """What says on disk that series which were forgotten are to be deleted. The caller stores it."""
        notice_id = self._next_block * BLOCK
        self._next_block += 1
        return make_notice(notice_id, bucket_id, (one.id for one in series), is_clear=is_clear)


def _with_shared_texts(key: SeriesKey) -> SeriesKey:
    tags = tuple((sys.intern(name), sys.intern(value)) for name, value in key.tags)
    return SeriesKey(key.bucket_id, sys.intern(key.measurement), tags)
