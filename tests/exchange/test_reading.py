"""Files from elsewhere: what their columns become, and what is said of lines that cannot be read."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tables import blocks, points_of, read

from headwater.errors import BadRequest
from headwater.exchange.arff import read_cells
from headwater.exchange.block import pack, unpack
from headwater.exchange.columns import Column, Role, parse_label, parse_labels, short_labels
from headwater.exchange.formats import Format
from headwater.exchange.reading import BadLines
from headwater.exchange.times import parse_time, parse_times
from headwater.model.series import ValueType

FLOAT, INTEGER, BOOLEAN, STRING = ValueType.FLOAT, ValueType.INTEGER, ValueType.BOOLEAN, ValueType.STRING


@pytest.mark.parametrize(
    ("content", "chosen", "message"),
    [
        (b"m f=1\n", Format.LINE_PROTOCOL, "line 1: it has no time"),
        (b"m f=\xff 1\n", Format.LINE_PROTOCOL, "line 1: not UTF-8"),
        (b"m f=" + b"1" * 6_000_000, Format.LINE_PROTOCOL, "line 1 has more than 4 MB"),
        (b"", Format.CSV, "the file is empty"),
        (b"a,b\n1,2\n", Format.CSV, "no column 'time'"),
        (b"time,a\n1,2\n", Format.CSV, "give a measurement with --measurement"),
        (b"time,measurement,a\n1,m,2\n3,m\n", Format.CSV, "row 3: it has 2 cells instead of 3"),
        (b"time,measurement,a\n1,m,2\nx,m,2\n", Format.CSV, "row 3: 'time' is 'x', which is no time"),
        (
            b"time,measurement,a:integer\n1,m,2.5\n",
            Format.CSV,
            "row 2: 'a:integer' is '2.5', which is no int",
        ),
        (b"time,measurement,a\n1,m,\xff\n", Format.CSV, "row 2: 'a' is not UTF-8"),
        (b'time,measurement,a\n1,m,"' + b"x" * 20_000_000, Format.CSV, "a row has more than 4 MB"),
        (b"created_at,field1,humidity\n", Format.CSV, "the column 'humidity' is none of an entry's"),
        (b'{"time":1,"measurement":"m","a":1}\n{"a"', Format.JSON_LINES, "line 2: it is not JSON"),
        (b'{"time":1,"measurement":"m","a":[1]}', Format.JSON_LINES, "line 1: 'a' is [1], which is no string"),
        (b"[" * 100_000, Format.JSON_LINES, "line 1: it is not JSON"),
        (b"x" * 20_000_000, Format.JSON_LINES, "line 1 has more than 16 MB"),
        (b"not arrow", Format.ARROW, "not an Arrow file"),
        (b"ARROW1\0\0 not arrow", Format.ARROW, "not an Arrow file"),
        (b"@relation x\n@attribute", Format.ARFF, "line 2 is not an attribute"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(content: bytes, chosen: Format, message: str) -> None:
    with pytest.raises(BadRequest) as refused:
        blocks(chosen, content)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_columns_of_a_foreign_csv() -> None:
    content = (
        b'\xef\xbb\xbfwhen;room;temp;ok;note;n\r\n2024-01-01;attic;"21";TRUE;x;5\r\n2024-01-01 00:00:01;;;;"";\r\n'
    )
    kinds = {"when": "time", "room": "tag", "n": "integer"}
    found = read(Format.CSV, content, measurement="m", kinds=kinds)
    day_ns = 1_704_067_200_000_000_000
    key = ("m", (("room", "attic"),))
    assert found == {
        (*key, "temp", FLOAT, day_ns): 21.0,
        (*key, "ok", BOOLEAN, day_ns): 1,
        (*key, "note", STRING, day_ns): "x",
        (*key, "n", INTEGER, day_ns): 5,
        ("m", (), "note", STRING, day_ns + 1_000_000_000): "",
    }


def test_whole_numbers_as_times() -> None:
    for content in (b"time,measurement,a\n5,m,1\n", b'{"time":5,"measurement":"m","a":1}'):
        chosen = Format.CSV if content.startswith(b"time") else Format.JSON_LINES
        assert read(chosen, content, unit_ns=1_000_000) == {("m", (), "a", FLOAT, 5_000_000): 1.0}


def test_types_of_a_foreign_parquet_file(tmp_path: Path) -> None:
    table = pa.table(
        {
            "time": pa.array([1, 2], pa.timestamp("ms")),
            "room": pa.array(["a", None]).dictionary_encode(),
            "small": pa.array([1, 2], pa.int8()),
            "half": pa.array([0.5, None], pa.float32()),
            "nothing": pa.nulls(2),
        }
    )
    output = io.BytesIO()
    pq.write_table(table, output)
    found = read(Format.PARQUET, output.getvalue(), tmp_path, measurement="m", kinds={"room": "tag"})
    assert found == {
        ("m", (("room", "a"),), "small", INTEGER, 1_000_000): 1,
        ("m", (("room", "a"),), "half", FLOAT, 1_000_000): 0.5,
        ("m", (), "small", INTEGER, 2_000_000): 2,
    }
    output = io.BytesIO()
    pq.write_table(table.append_column("at", table.column("time")), output)
    with pytest.raises(BadRequest, match="'at' is of type timestamp"):
        read(Format.PARQUET, output.getvalue(), tmp_path, measurement="m")


def test_an_arrow_stream_and_one_that_is_cut_off() -> None:
    table = pa.table({"time": [1, 2], "measurement": ["m", "m"], "a": [1.0, 2.0]})
    output = io.BytesIO()
    with pa.ipc.new_stream(output, table.schema) as stream:
        stream.write_table(table)
    assert len(read(Format.ARROW, output.getvalue())) == 2
    with pytest.raises(BadRequest, match="cut off"):
        read(Format.ARROW, output.getvalue()[:-60])


def test_what_is_cut_off_is_told() -> None:
    content = gzip.compress(b"m f=1 1\n" * 1000)
    with pytest.raises(BadRequest, match="damaged or cut off"):
        blocks(Format.LINE_PROTOCOL, content[:-30])


def test_bad_lines_end_the_reading_or_are_counted() -> None:
    lines = b'{"time":1,"measurement":"m","a":1}\n[1]\n{"time":"noon"}\n{"a":1}\n{"time":1,"a":1}\n\n' + b"x\n" * 5
    with pytest.raises(BadRequest, match="line 2: it is not an object; correct it"):
        read(Format.JSON_LINES, lines)
    bad = BadLines(may_skip=True)
    found = blocks(Format.JSON_LINES, lines, bad=bad, may_skip=True)
    assert len(points_of(found)) == 1
    assert bad.count == 9
    assert bad.told[:4] == [
        "line 2: it is not an object",
        "line 3: 'time' is 'noon', which is no time",
        "line 4: it has no time",
        "line 5: it has no measurement: give one with --measurement",
    ]


@pytest.mark.parametrize(
    ("member", "label"),
    [
        ("1.5", "a:integer"),
        (str(2**63), "a:integer"),
        ("true", "a:integer"),
        ("-1", "a:unsigned"),
        ("1", "a:string"),
        ('"x"', "a:boolean"),
        ("true", "a:float"),
        ('"x"', "a:float"),
        ("1", "a:tag"),
        ("{}", "a"),
    ],
)
def test_json_values_of_another_type(member: str, label: str) -> None:
    with pytest.raises(BadRequest, match=r"line 1: .* which is no"):
        read(Format.JSON_LINES, f'{{"time":1,"measurement":"m","{label}":{member}}}'.encode())


def test_rows_keep_their_numbers_when_others_are_passed_over() -> None:
    content = b'time,measurement,"a:float"\n1,m\n2,m,"x\ny"\n3,m,3\n4\n5,m,z\n'
    bad = BadLines(may_skip=True)
    found = blocks(Format.CSV, content, bad=bad, may_skip=True)
    assert [point[4] for point in points_of(found)] == [3]
    assert sorted(told.partition(":")[0] for told in bad.told) == ["row 2", "row 3", "row 5", "row 6"]
    assert found[-1].end_row == 5


def test_labels() -> None:
    assert parse_label("a:b:tag") == Column(Role.TAG, "a:b")
    assert parse_label("a:b") == Column(Role.FIELD, "a:b")
    assert parse_label("time:float") == Column(Role.FIELD, "time", FLOAT)
    two = [Column(Role.FIELD, "a", FLOAT), Column(Role.FIELD, "a", INTEGER), Column(Role.FIELD, "b", INTEGER)]
    assert short_labels(two, has_types=True) == ["a:float", "a:integer", "b"]
    assert short_labels(two, has_types=False) == ["a", "a:integer", "b:integer"]
    with pytest.raises(BadRequest, match="no column 'x'"):
        parse_labels(["time"], {"x": "tag"})
    with pytest.raises(BadRequest, match="2 columns for the same field 'a'"):
        parse_labels(["a", "a"], {})


def test_times() -> None:
    texts = ["2024-01-01T00:00:00Z", "2024-01-01 01:00:00.000000001+01:00", "2024-01-01 00:00:00 UTC", "1704067200"]
    day_ns = 1_704_067_200_000_000_000
    assert [parse_time(text, 1_000_000_000) for text in texts] == [day_ns, day_ns + 1, day_ns, day_ns]
    assert parse_times(pa.array([*texts, None, "noon"]), 1_000_000_000).to_pylist() == [
        day_ns,
        day_ns + 1,
        day_ns,
        day_ns,
        None,
        None,
    ]
    for text in ("2500-01-01", "", "2024-13-01", "9" * 40, "²"):
        assert parse_time(text, 1) is None


def test_cells_of_arff() -> None:
    assert read_cells(r"""1, 'it\'s, "so"',?,"2024" ,'?'""") == ["1", 'it\'s, "so"', None, "2024", "?"]
    assert read_cells("'a") is None
    assert read_cells("1,,2") is None


def test_a_block_that_is_none() -> None:
    (block,) = blocks(Format.LINE_PROTOCOL, b'm f=1,g="x" 1\n')
    block.columns[FLOAT].series_ids[0] = 7
    with pytest.raises(BadRequest, match="no block"):
        unpack(io.BytesIO(pack(block)).read)
    for content in (b"\xff\xff\xff\xff", b"\0\0\0\1\0", b"\0\0"):
        with pytest.raises(BadRequest, match="no block"):
            unpack(io.BytesIO(content).read)
