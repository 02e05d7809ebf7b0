"""The examples of docs/exchange.md, run with the programs that are there."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tables import read, written

from headwater.exchange.formats import Format, format_of
from headwater.model.series import ValueType

PAGE = (Path(__file__).parents[2] / "docs" / "exchange.md").read_text(encoding="utf-8")
HOUR_NS = 3_600_000_000_000
FLOAT, INTEGER = ValueType.FLOAT, ValueType.INTEGER
POINTS = {
    ("climate", (("room", room),), name, value_type, 1_704_067_200_000_000_001 + hour * HOUR_NS): value
    for room in ("attic", "cellar")
    for hour in range(3)
    for name, value_type, value in (("temperature", FLOAT, 20.0 + hour), ("count", INTEGER, hour))
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the examples' files, which is the current one."""
    for ending in ("csv", "parquet", "arrow", "line", "arff", "jsonl"):
        path = tmp_path / f"weather.{ending}"
        path.write_bytes(written(format_of(path, None), POINTS, Counter()))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def example(language: str, word: str) -> str:
    (found,) = [text for text in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if word in text]
    return str(found)


def test_duckdb(here: Path) -> None:
    query, copy = example("sql", "room:tag").strip().removesuffix(";").split(";\n")
    with duckdb.connect() as connection:
        assert connection.execute(query).fetchall() == [("attic", 21.0), ("cellar", 21.0)]
        connection.execute(copy)
    found = read(Format.PARQUET, (here / "copy.parquet").read_bytes(), here)
    temperatures = {point: value for point, value in POINTS.items() if point[2] == "temperature"}
    assert found == {("copy", *point[1:]): value for point, value in temperatures.items()}


def test_duckdb_reads_the_texts_too(here: Path) -> None:
    with duckdb.connect() as connection:
        for name in ("weather.csv", "weather.jsonl"):
            found = connection.execute(
                f"SELECT max(temperature), sum(\"count:integer\"), max(time)::VARCHAR FROM '{name}'"
            )
            warmest, count, last = found.fetchall()[0]
            assert (warmest, count) == (22.0, 6)
            assert last.startswith("2024-01-01 02:00:00")


def test_pyarrow(here: Path) -> None:
    names: dict[str, Any] = {}
    exec(example("python", "pyarrow"), names)
    assert names["table"].column("temperature").to_pylist() == [20.0, 21.0, 22.0] * 2
    assert str(names["table"].schema.field("time").type) == "timestamp[ns, tz=UTC]"


def test_pandas(here: Path) -> None:
    pytest.importorskip("pandas")
    exec(example("python", "pandas"), {})
    found = read(Format.CSV, (here / "hourly.csv").read_bytes())
    assert sorted(found.values()) == [20.0, 21.0, 22.0]
    assert {point[:3] for point in found} == {("hourly", (), "temperature")}
