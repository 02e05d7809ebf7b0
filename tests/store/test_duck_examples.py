"""The way to the points without Headwater that docs/storage.md shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from headwater.model.series import Series, SeriesKey, ValueType
from headwater.store import Batch, Columns
from headwater.store.duck import open_duck_store

PAGE = (Path(__file__).parents[2] / "docs" / "storage.md").read_text(encoding="utf-8")


def batch(*points: tuple[int, float], new: tuple[Series, ...] = ()) -> Batch:
    columns = Columns(ValueType.FLOAT)
    for at_ns, value in points:
        columns.append(32, at_ns, value)
    return Batch(list(new), {ValueType.FLOAT: columns})


def test_all_of_a_series_without_headwater(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    series = Series(32, SeriesKey(1, "m"), "a", ValueType.FLOAT)
    store = open_duck_store(tmp_path / "telemetry", memory_limit_mb=256, hot_rows=1_000)
    store.append(batch(*((at, 1.0) for at in range(1_500)), new=(series,)))
    while store.maintain():
        pass
    store.append(batch(*((at, 2.0) for at in range(1_000, 2_000)), (5, 2.0), (5, 3.0)))
    store.delete([32], start_ns=10, end_ns=20)
    store.append(batch((15, 4.0)))
    (table,) = [store.rows([32])]
    expected = dict(zip(table.column("at_ns").to_pylist(), table.column("32").to_pylist(), strict=True))
    store.close()
    assert list((tmp_path / "telemetry").glob("run-*.duckdb"))

    (code,) = (text for text in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "SERIES = 32" in text)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code.replace(").df()", ").project('epoch_ns(time), value').fetchall()"), names)
    names["db"].close()
    assert dict(names["points"]) == expected
    assert (expected[5], expected[15], expected[1_200], 11 in expected) == (3.0, 4.0, 2.0, False)
