"""Line protocol: InfluxDB's rules by example, and what is rendered reads back as it was."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headwater.line_protocol import (
    PRECISIONS,
    TIME_MAX_NS,
    TIME_MIN_NS,
    BadLine,
    Line,
    LineSplitter,
    parse_line,
    render_field,
    render_head,
    render_value,
)
from headwater.model.series import INTEGER_MAX, INTEGER_MIN, UNSIGNED_MAX, Unsigned


def parsed(text: str) -> Line:
    return parse_line(text.encode(), 1, {})


def fields(text: str) -> dict[str, Any]:
    return dict(parsed(f"m {text}").fields)


def lines_of(data: bytes, step: int = 1 << 20, limit: int = 1 << 22) -> list[tuple[int, bytes]]:
    splitter = LineSplitter(limit)
    found = [line for at in range(0, len(data), step) for line in splitter.feed(data[at : at + step])]
    return found + list(splitter.finish())


def test_a_line() -> None:
    line = parsed('weather,station=b,room=attic temp=21.5,count=3i,total=7u,ok=t,note="wet" 1700000000000000000')
    assert line == Line(
        "weather",
        (("room", "attic"), ("station", "b")),
        {"temp": 21.5, "count": 3, "total": 7, "ok": True, "note": "wet"},
        1700000000000000000,
    )
    assert [type(value) for value in line.fields.values()] == [float, int, Unsigned, bool, str]
    assert parsed("m f=1").at_ns is None
    assert parsed(" \t\0m   f=1   5  \r") == Line("m", (), {"f": 1.0}, 5)
    assert parse_line(b"m f=1 5", PRECISIONS["ms"], {}).at_ns == 5_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"a\ b,t\,k=v\=w f\ g=1", Line("a b", (("t,k", "v=w"),), {"f g": 1.0}, None)),
        (r"a\=b f=1", Line(r"a\=b", (), {"f": 1.0}, None)),
        ("a=b f=1", Line("a=b", (), {"f": 1.0}, None)),
        (r"va\lue,t=va\lue f=1", Line(r"va\lue", (("t", r"va\lue"),), {"f": 1.0}, None)),
        (r"a\\\ b f=1", Line(r"a\\ b", (), {"f": 1.0}, None)),
        (r'm f="a\"b\\c\d,e=f g"', Line("m", (), {"f": r'a"b\c\d,e=f g'}, None)),
        ('m f="two\nlines",g=1', Line("m", (), {"f": "two\nlines", "g": 1.0}, None)),
        ('"m",t="v f"=1', Line('"m"', (("t", '"v'),), {'f"': 1.0}, None)),
        ("m f=1,f=2", Line("m", (), {"f": 2.0}, None)),
        ("m,time=x time=1", Line("m", (("time", "x"),), {"time": 1.0}, None)),
    ],
)
def test_names_and_texts(text: str, expected: Line) -> None:
    assert parsed(text) == expected


def test_numbers() -> None:
    for text in ("1", "1.", ".5", "-1.2e+78", "-0"):
        assert fields(f"f={text}") == {"f": float(text)}
    assert fields(f"a={INTEGER_MIN}i,b={INTEGER_MAX}i,c={UNSIGNED_MAX}u") == {
        "a": INTEGER_MIN,
        "b": INTEGER_MAX,
        "c": UNSIGNED_MAX,
    }
    for text in ("t", "T", "true", "True", "TRUE"):
        assert fields(f"f={text},g=F") == {"f": True, "g": False}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (",t=v f=1", "missing measurement"),
        ("m", "missing fields"),
        ("m,t f=1", "missing tag value"),
        ("m,t= f=1", "missing tag value"),
        ("m,=v f=1", "missing tag key"),
        ("m, f=1", "missing tag key"),
        ("m,t=a=b f=1", "invalid tag format"),
        ("m,t=a,t=b f=1", "duplicate tags"),
        ("m f", "invalid field format"),
        ("m =1", "missing field key"),
        ("m f=", "missing field value"),
        ("m f=1,", "invalid field format"),
        ('m f="abc', "unbalanced quotes"),
        ('m f="abc"d', "invalid field format"),
        ("m f=1 x", "point is invalid"),
        ("m f=1 5 6", "point is invalid"),
        ("m f=1 5x", "bad timestamp"),
        (f"m f=1 {TIME_MAX_NS + 1}", "time outside range"),
        (f"m f=1 {TIME_MIN_NS - 1}", "time outside range"),
        ("m f=trueish", "invalid boolean"),
        (f"m f={INTEGER_MAX + 1}i", "unable to parse integer"),
        (f"m f={UNSIGNED_MAX + 1}u", "unable to parse unsigned"),
        ("m f=1e999", "invalid float"),
        *((f"m f={bad}", "invalid number") for bad in ("1.0i", "9e10i", "1ii", "9i10", "--1u", "0.-1", "1.1.1")),
        *((f"m f={bad}", "invalid number") for bad in ("-", "+1", "1_0", "abc", "-1u", "١")),
        *((f"m f={bad}", "invalid") for bad in ("nan", "NaN", "inf", "-Inf", "Infinity")),
    ],
)
def test_what_is_no_line(text: str, reason: str) -> None:
    with pytest.raises(BadLine, match=reason):
        parsed(text)


def test_not_text() -> None:
    with pytest.raises(BadLine, match="UTF-8"):
        parse_line(b"m f=\xff", 1, {})


def test_lines_of_a_stream() -> None:
    data = b'# a comment="\n\n  \na f="x\ny",g=1 1\r\nb f=2\n \t#="\nc,t="q f=3\nlast f=4'
    expected = [(4, b'a f="x\ny",g=1 1\r'), (6, b"b f=2"), (8, b'c,t="q f=3'), (9, b"last f=4")]
    for step in (1, 2, 7, 1000):
        assert lines_of(data, step) == expected


def test_a_quoted_text_that_never_ends_costs_one_line() -> None:
    data = b'a f="x\nb f=2\nc f=3\n'
    expected = [(1, b'a f="x'), (2, b"b f=2"), (3, b"c f=3")]
    assert lines_of(data) == lines_of(data, 1) == expected
    assert lines_of(data, limit=8) == expected


def test_a_line_that_is_too_long() -> None:
    splitter = LineSplitter(100)
    assert list(splitter.feed(b"a f=1\n" + b"0123456789" * 10)) == [(1, b"a f=1")]
    with pytest.raises(BadLine, match="line 2 has more than"):
        list(splitter.feed(b"0"))


NAMES = st.text(min_size=1, max_size=6) | st.text(alphabet='\\,= "#\nab\t\r\0', min_size=1, max_size=6)
VALUES = (
    st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(INTEGER_MIN, INTEGER_MAX)
    | st.integers(0, UNSIGNED_MAX).map(Unsigned)
    | st.booleans()
    | st.text()
    | st.text(alphabet='\\",= \nab', max_size=8)
)


@given(
    NAMES,
    st.dictionaries(NAMES, NAMES, max_size=3),
    st.dictionaries(NAMES, VALUES, min_size=1, max_size=3),
    st.integers(TIME_MIN_NS, TIME_MAX_NS),
    st.integers(1, 20),
)
@example("m", {}, {'a="': '"\n="'}, 0, 3)
def test_what_is_rendered_reads_back(
    measurement: str, tags: dict[str, str], values: dict[str, Any], at_ns: int, step: int
) -> None:
    head = render_head(measurement, tags)
    names = {name: render_field(name) for name in values}
    has_bad_name = any("\n" in name or name[-1] == "\\" for name in (measurement, *tags, *tags.values()))
    assert (head is None) == (has_bad_name or measurement[0] in "#\t\0")
    if head is None or None in names.values():
        return
    text = ",".join(f"{names[name]}={render_value(value)}" for name, value in values.items())
    line = f"{head} {text} {at_ns}".encode()
    (first, again) = lines_of(line + b"\n" + line, step)
    assert first[1] == again[1] == line
    back = parse_line(line, 1, {})
    assert back == Line(measurement, tuple(sorted(tags.items())), values, at_ns)
    for name, value in values.items():
        assert type(back.fields[name]) is type(value)
        if isinstance(value, float):
            assert math.copysign(1, value) == math.copysign(1, back.fields[name])


@given(st.text(alphabet='\\",= \nab1i.\0#\r', max_size=40).map(str.encode) | st.binary(max_size=40), st.integers(1, 50))
def test_anything_is_read_or_refused_and_no_line_is_lost(data: bytes, step: int) -> None:
    found = lines_of(data, step)
    assert found == lines_of(data)
    for _, line in found:
        assert line in data
        try:
            assert parse_line(line, 1, {}).fields
        except BadLine:
            continue
