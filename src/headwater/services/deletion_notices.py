"""Deletions of whole series, written down before they are carried out. Values only; knows no store.

A notice is itself a series, without points: so it is on disk in one transaction with the first points that are written
after the series were forgotten, and no interruption shows old points beside new ones. Its bucket is the negative of
the one that it is about, which no other series has; its measurement says which numbers the series have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from headwater.model.series import Series, SeriesKey, ValueType

_CLEAR, _DELETE = "clear", "delete"


def make_notice(notice_id: int, bucket_id: int, series_ids: Iterable[int], *, is_clear: bool) -> Series:
    """The notice that these series of a bucket are to be deleted; `is_clear`: they are all that it has."""
    spans = ",".join(f"{first}-{last}" for first, last in _spans(sorted(series_ids)))
    return Series(notice_id, SeriesKey(-bucket_id, spans), _CLEAR if is_clear else _DELETE, ValueType.BOOLEAN)


def is_notice(series: Series) -> bool:
    return series.key.bucket_id < 0


def is_of_clear(notice: Series) -> bool:
    """Whether it is about all that the bucket has."""
    return notice.field == _CLEAR


def noticed_ids(notice: Series) -> Iterator[int]:
    """The numbers of the series that are to be deleted."""
    for span in notice.key.measurement.split(","):
        first, last = map(int, span.split("-"))
        yield from range(first, last + 1)


def _spans(ascending: Iterable[int]) -> Iterator[tuple[int, int]]:
    first = last = None
    for number in ascending:
        if first is None or last is None or number != last + 1:
            if first is not None and last is not None:
                yield first, last
            first = number
        last = number
    if first is not None and last is not None:
        yield first, last
