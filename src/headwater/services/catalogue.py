"""Which series exist and under which number, in memory. Filled from the store at start; ingest adds, query reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from headwater.model.series import TYPE_OF, Series, SeriesKey, ValueType

BLOCK = 32
"""Series ids are handed out in blocks, one key at a time: the fields of a channel then lie side by side in the
sorted part of the store, and reading a whole channel reads one range."""

_CLASS_OF = {value_type: value_class for value_class, value_type in TYPE_OF.items()}


class Catalogue:
    """Series key and field to series id, by the Python class of the value."""

    def __init__(self, series: Iterable[Series] = ()) -> None:
        self._ids: dict[SeriesKey, dict[type, dict[str, int]]] = {}
        self._keys_of_bucket: dict[int, list[SeriesKey]] = {}
        self._last_id_of_key: dict[SeriesKey, int] = {}
        self._next_block = 1
        for one in series:
            self._add(one)

    def _add(self, series: Series) -> None:
        self.ids(series.key).setdefault(_CLASS_OF[series.type], {})[series.field] = series.id
        self._last_id_of_key[series.key] = max(series.id, self._last_id_of_key.get(series.key, 0))
        self._next_block = max(self._next_block, series.id // BLOCK + 1)

    def ids(self, key: SeriesKey) -> dict[type, dict[str, int]]:
        """Value class to field to series id, as far as such series exist. Do not change it."""
        ids = self._ids.get(key)
        if ids is None:
            ids = self._ids[key] = {}
            self._keys_of_bucket.setdefault(key.bucket_id, []).append(key)
        return ids

    def create(self, key: SeriesKey, field: str, value_type: ValueType) -> Series:
        """A series that did not exist. The caller stores it."""
        last_id = self._last_id_of_key.get(key)
        if last_id is None or (last_id + 1) % BLOCK == 0:
            last_id = self._next_block * BLOCK - 1
        series = Series(last_id + 1, key, field, value_type)
        self._add(series)
        return series

    def find(self, key: SeriesKey, field: str, value_class: type) -> int | None:
        """The id of a series, or None when nothing was ever written to it."""
        ids = self._ids.get(key)
        return None if ids is None else ids.get(value_class, {}).get(field)

    def bucket_ids(self) -> list[int]:
        """Every bucket that has series."""
        return [bucket_id for bucket_id, keys in self._keys_of_bucket.items() if keys]

    def of_bucket(self, bucket_id: int) -> Iterator[Series]:
        """Every series of a bucket."""
        for key in self._keys_of_bucket.get(bucket_id, ()):
            for value_class, fields in self._ids[key].items():
                for field, series_id in fields.items():
                    yield Series(series_id, key, field, TYPE_OF[value_class])

    def series_ids(self, bucket_id: int) -> list[int]:
        """The numbers of all series of a bucket; a hundred thousand take some ten milliseconds."""
        found: list[int] = []
        for key in self._keys_of_bucket.get(bucket_id, ()):
            for fields in self._ids[key].values():
                found += fields.values()
        return found

    def with_field(self, measurement: str, field: str, value_class: type) -> Iterator[tuple[SeriesKey, int]]:
        """Key and id of every series of that measurement and field, over all buckets."""
        for key, ids in self._ids.items():
            if key.measurement == measurement and field in ids.get(value_class, {}):
                yield key, ids[value_class][field]

    def forget_bucket(self, bucket_id: int) -> None:
        """A bucket and its series are gone. Their ids are not used again while this process lives."""
        for key in self._keys_of_bucket.pop(bucket_id, ()):
            self._ids.pop(key, None)
            self._last_id_of_key.pop(key, None)
