"""Answers of queries, in files and for people."""

from __future__ import annotations

import io
import json
from collections import Counter
from datetime import datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from headwater.errors import ConfigurationError
from headwater.exchange.answers import for_files, show
from headwater.exchange.formats import Format
from headwater.exchange.streams import TableStream
from headwater.exchange.writing import open_writer

TIMES = pa.array([1_768_046_400_000_000_001, None], pa.timestamp("ns"))
BATCH = pa.record_batch(
    {
        "time": TIMES,
        "at": pa.array([0, -1500], pa.timestamp("ms", tz="UTC")),
        "n": pa.array([Decimal(7), Decimal("0.5")], pa.decimal128(38, 1)),
        "x": [float("nan"), 1.25],
        "ok": [True, None],
        "text": ['a,"b"\n[red]', "ü"],
        "took": pa.array([(0, 1, 5), None], pa.month_day_nano_interval()),
        "row": pa.StructArray.from_arrays([TIMES, pa.array([1, 2])], names=["time", "a"]),
    }
)


SPANS = pa.list_(pa.month_day_nano_interval())
ROW = ['{"time":"2026-01-10T12:00:00.000000001Z","a":1}', '{"time":null,"a":2}']


def answer(batch: pa.RecordBatch = BATCH) -> TableStream:
    return TableStream(batch.schema, iter([batch]))


def written(chosen: Format, batch: pa.RecordBatch = BATCH, losses: Counter[str] | None = None) -> bytes:
    losses = Counter() if losses is None else losses
    output, table = io.BytesIO(), for_files(answer(batch), chosen, losses)
    with open_writer(chosen, output, table.schema, losses, are_records=False) as writer:
        for batch in table.batches:
            writer.write_batch(batch)
    return output.getvalue()


def test_csv() -> None:
    assert written(Format.CSV).decode() == (
        '"time","at","n","x","ok","text","took","row"\n'
        '"2026-01-10T12:00:00.000000001Z","1970-01-01T00:00:00.000Z",7.0,nan,true,"a,""b""\n[red]",'
        '"P0M1DT0.000000005S","{""time"":""2026-01-10T12:00:00.000000001Z"",""a"":1}"\n'
        ',"1969-12-31T23:59:58.500Z",0.5,1.25,,"ü",,"{""time"":null,""a"":2}"\n'
    )


def test_json_lines() -> None:
    first, second = map(json.loads, written(Format.JSON_LINES).splitlines())
    assert first["time"] == "2026-01-10T12:00:00.000000001Z"
    assert first["x"] == "nan"
    assert second == {"at": "1969-12-31T23:59:58.500Z", "n": 0.5, "x": 1.25, "text": "ü", "row": ROW[1]}


def test_parquet_and_arrow_keep_types() -> None:
    for table in (
        pq.read_table(io.BytesIO(written(Format.PARQUET))),
        pa.ipc.open_file(io.BytesIO(written(Format.ARROW))).read_all(),
    ):
        assert table.select(["time", "at", "n", "ok", "text"]) == pa.table(BATCH).select(
            ["time", "at", "n", "ok", "text"]
        )
        assert table.column("row").to_pylist() == ROW


def test_arff() -> None:
    text = written(Format.ARFF).decode()
    assert "@attribute 'n' numeric" in text
    assert "\n?,\"1969-12-31T23:59:58.500Z\",0.5,1.25,?,'ü',?," in text


def test_line_protocol_has_no_place_for_them() -> None:
    with pytest.raises(ConfigurationError, match="choose another --format"):
        written(Format.LINE_PROTOCOL)


def test_people_see_all_rows() -> None:
    output = io.StringIO()
    few = BATCH.select(["time", "at", "ok", "text"])
    show(TableStream(few.schema, iter([few])), output)
    for text in ("00001", "58.5Z", "[red]", "ü", "true"):
        assert text in output.getvalue()


BEYOND = pa.record_batch(
    [
        *(pa.array([2**63 - 1, -(2**63) + 1, 0, None], pa.timestamp(unit)) for unit in ("s", "ms", "us")),
        pa.array([2**31 - 1, -(2**31) + 1, 0, None], pa.date32()),
    ],
    names=["s", "ms", "us", "day"],
)
SHOWN = [
    ["infinity"] * 4,
    ["-infinity"] * 4,
    ["1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z", "1970-01-01T00:00:00.000000Z", "1970-01-01"],
]


def test_times_that_no_calendar_has_as_texts() -> None:
    lines = [json.loads(line) for line in written(Format.JSON_LINES, BEYOND).splitlines()]
    assert [list(line.values()) for line in lines] == [*SHOWN, []]
    csv = written(Format.CSV, BEYOND).decode().splitlines()
    assert [line.replace('"', "").split(",") for line in csv[1:]] == [*SHOWN, [""] * 4]
    output = io.StringIO()
    show(answer(BEYOND), output)
    assert "-infinity" in output.getvalue()


@pytest.mark.parametrize("chosen", [Format.PARQUET, Format.ARROW, Format.ARFF])
def test_times_that_no_calendar_has_are_counted_where_there_is_no_place_for_them(chosen: Format) -> None:
    content = written(chosen, BEYOND, losses := Counter[str]())
    assert losses == {"times that no calendar has": 8}
    if chosen is Format.PARQUET:
        assert pq.read_table(io.BytesIO(content)).column("us").to_pylist() == [None, None, datetime(1970, 1, 1), None]


def test_the_last_year_in_arff() -> None:
    batch = pa.record_batch({"at": pa.array([datetime(9999, 12, 31, 0, 0, 0, 1500)], pa.timestamp("us"))})
    content = written(Format.ARFF, batch, losses := Counter[str]())
    assert content.endswith(b'\n"9999-12-31T00:00:00.001Z"\n')
    assert losses == {"sub-millisecond parts of times": 1}


def test_times_in_lists_and_maps() -> None:
    batch = pa.record_batch(
        {
            "list": pa.array([[1, None], None, []], pa.list_(pa.timestamp("ns"))),
            "map": pa.array([[("a", 2**63 - 1)], [], None], pa.map_(pa.string(), pa.timestamp("us"))),
            "row": pa.array([{"took": [(0, 1, 0)]}, None, {"took": None}], pa.struct({"took": SPANS})),
        }
    )
    lines = [json.loads(line) for line in written(Format.JSON_LINES, batch).splitlines()]
    assert [{name: json.loads(text) for name, text in line.items()} for line in lines] == [
        {
            "list": ["1970-01-01T00:00:00.000000001Z", None],
            "map": [{"key": "a", "value": "infinity"}],
            "row": {"took": ["P0M1DT0.000000000S"]},
        },
        {"map": []},
        {"list": [], "row": {"took": None}},
    ]
