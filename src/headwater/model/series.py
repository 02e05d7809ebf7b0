"""Series: which numbers belong together. Knows no store."""

from __future__ import annotations

import enum
from typing import NamedTuple, TypeAlias


class ValueType(enum.IntEnum):
    """What one series holds. The numbers are stored in data files: never renumber."""

    FLOAT = 1
    INTEGER = 2
    UNSIGNED = 3
    BOOLEAN = 4
    STRING = 5


class Unsigned(int):
    """An integer that was written as unsigned (line protocol's `u`); 0 to 2**64-1."""


Value: TypeAlias = float | int | str

TYPE_OF: dict[type, ValueType] = {
    float: ValueType.FLOAT,
    int: ValueType.INTEGER,
    Unsigned: ValueType.UNSIGNED,
    bool: ValueType.BOOLEAN,
    str: ValueType.STRING,
}
"""The value type of a Python value, by exact class (`bool` is not an `int` here)."""

CLASS_OF = {value_type: value_class for value_class, value_type in TYPE_OF.items()}
"""The other way round."""

INTEGER_MIN, INTEGER_MAX, UNSIGNED_MAX = -(2**63), 2**63 - 1, 2**64 - 1


class SeriesKey(NamedTuple):
    """What the fields of one record share: bucket, measurement and tag set."""

    bucket_id: int
    measurement: str
    tags: tuple[tuple[str, str], ...] = ()
    """Pairs sorted by tag name."""


class Series(NamedTuple):
    """One field of one series key, with its one value type and the store's small number for it."""

    id: int
    key: SeriesKey
    field: str
    type: ValueType
