"""Answers as text."""

from __future__ import annotations

import io
import json
from decimal import Decimal

import pyarrow as pa
import pytest

from headwater.query.output import write_answer

TIMES = pa.array([1_768_046_400_000_000_001, None], pa.timestamp("ns"))
BATCH = pa.record_batch(
    {
        "time": TIMES,
        "at": pa.array([0, -1500], pa.timestamp("ms", tz="UTC")),
        "n": pa.array([Decimal(7), Decimal("0.5")], pa.decimal128(38, 1)),
        "x": [float("nan"), 1.25],
        "ok": [True, None],
        "text": ['a,"b"\n[red]', "ü"],
        "row": pa.StructArray.from_arrays([TIMES, pa.array([1, 2])], names=["time", "a"]),
    }
)


def written(form: str) -> str:
    output = io.StringIO()
    write_answer(BATCH.schema, iter([BATCH]), form, output)
    return output.getvalue()


def test_csv() -> None:
    assert written("csv") == (
        "time,at,n,x,ok,text,row\n"
        '2026-01-10T12:00:00.000000001,1970-01-01T00:00:00Z,7,,true,"a,""b""\n[red]",'
        '"{""time"": ""2026-01-10T12:00:00.000000001"", ""a"": 1}"\n'
        ',1969-12-31T23:59:58.5Z,0.5,1.25,,ü,"{""time"": null, ""a"": 2}"\n'
    )


def test_json_lines() -> None:
    first, second = map(json.loads, written("json").splitlines())
    assert first["time"] == "2026-01-10T12:00:00.000000001"
    assert first["x"] is None
    assert second == {
        "time": None, "at": "1969-12-31T23:59:58.5Z", "n": 0.5, "x": 1.25, "ok": None, "text": "ü",
        "row": {"time": None, "a": 2},
    }  # fmt: skip


@pytest.mark.parametrize("form", ["csv", "json", "table"])
def test_every_format_has_all_rows(form: str) -> None:
    assert "ü" in written(form) or "\\u00fc" in written(form)
    assert "[red]" in written(form)


def test_times_that_no_calendar_has() -> None:
    batch = pa.record_batch({"at": pa.array([2**63 - 1, -(2**63) + 1, 0], pa.timestamp("us"))})
    output = io.StringIO()
    write_answer(batch.schema, iter([batch]), "csv", output)
    assert output.getvalue().split() == ["at", "infinity", "-infinity", "1970-01-01T00:00:00"]
