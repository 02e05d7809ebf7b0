"""The columns of `Store.records`. Computes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from headwater.errors import BadRequest
from headwater.model.series import ValueType
from headwater.store import ARROW_TYPES


def column_types(keys: Sequence[Mapping[str, int]], types: Mapping[int, ValueType]) -> dict[str, ValueType | None]:
    """The columns in the order in which they first appear, and of which type the values are; None where none of the
    series is in `types`. Raises BadRequest for a column with series of several types."""
    columns: dict[str, ValueType | None] = {}
    for key in keys:
        for name, series_id in key.items():
            value_type = types.get(series_id)
            known = columns.setdefault(name, value_type)
            if known is None:
                columns[name] = value_type
            elif value_type is not None and value_type is not known:
                raise BadRequest(f"the column {name} has values of several types: {known.name} and {value_type.name}")
    return columns


def records_schema(keys: Sequence[Mapping[str, int]], types: Mapping[int, ValueType]) -> pa.Schema:
    """The schema of the batches."""
    columns = column_types(keys, types)
    named = [
        (name, pa.null() if value_type is None else ARROW_TYPES[value_type]) for name, value_type in columns.items()
    ]
    return pa.schema([("key", pa.int64()), ("at_ns", pa.int64()), *named])
