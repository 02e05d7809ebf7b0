"""Charts for other sites: what is drawn, and what a request can and cannot put into the page."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.dialects.thingspeak.chart import Look, Point, parse_look, render_chart

S = 1_000_000_000
AT_NS = 1_767_323_045 * S
POINTS: list[Point] = [(AT_NS + n * 60 * S, value) for n, value in enumerate((1.0, 3.0, -2.0, 7.5))]
SVG = "{http://www.w3.org/2000/svg}"


def look(**parameters: str) -> Look:
    return parse_look(parameters, "My channel", "Temperature", None)


def drawing(points: list[Point], **parameters: str) -> ET.Element:
    page = render_chart(points, look(**parameters)).decode()
    found = re.search(r"<svg.*</svg>", page, re.DOTALL)
    assert found is not None
    return ET.fromstring(found[0])


def texts(tree: ET.Element) -> list[str]:
    return [one.text or "" for one in tree.iter("text")]


def test_a_line() -> None:
    tree = drawing(POINTS)
    assert texts(tree)[:3] == ["My channel", "Date", "Temperature"]
    assert {"-5", "0", "5", "10"} <= set(texts(tree))
    assert [text for text in texts(tree) if ":" in text] == ["03:05", "03:06", "03:07"]
    (line,) = [path for path in tree.iter("path") if path.get("stroke") == "#d62020"]
    assert line.get("d", "").count("L") == 3
    assert len(list(tree.iter("circle"))) == 4


@pytest.mark.parametrize(("kind", "letter"), [("line", "L"), ("spline", "C"), ("nonsense", "L")])
def test_kinds_of_lines(kind: str, letter: str) -> None:
    (line,) = [path for path in drawing(POINTS, type=kind).iter("path") if path.get("stroke") == "#d62020"]
    assert line.get("d", "").count(letter) == 3


def test_steps_and_columns() -> None:
    (line,) = [path for path in drawing(POINTS, step="true").iter("path") if path.get("stroke") == "#d62020"]
    assert line.get("d", "").count("V") == 3
    for kind in ("column", "bar"):
        assert len(list(drawing(POINTS, type=kind).iter("rect"))) == 4


def test_what_may_be_chosen() -> None:
    page = render_chart(
        POINTS,
        look(
            title="T", xaxis="X", yaxis="Y", color="0f0", bgcolor="#102030", width="600", height="300", dynamic="true"
        ),
    ).decode()
    assert '<svg width="600" height="300"' in page
    assert '<meta http-equiv="refresh" content="15">' in page
    assert "background:#102030" in page
    assert 'stroke="#0f0"' in page
    assert 'fill="#f2f2f2"' in page, "light letters on a dark ground"
    assert look(dynamic="true", update="1").refresh_s == 5
    assert look(update="60").refresh_s is None
    assert (look(width="auto").width, look(width="99999").width) == (450, 4_000)
    tree = drawing(POINTS, yaxismin="0", yaxismax="4")
    assert [text for text in texts(tree) if re.fullmatch(r"-?\d+", text)] == ["0", "1", "2", "3", "4"]


def test_clock_of_a_zone() -> None:
    berlin = parse_look({}, "t", "y", ZoneInfo("Europe/Berlin"))
    assert b">04:05<" in render_chart(POINTS, berlin)


def test_few_points() -> None:
    assert "No data" in texts(drawing([]))
    assert len(list(drawing(POINTS[:1]).iter("circle"))) == 1
    assert len(list(drawing([(AT_NS, 5.0), (AT_NS + S, 5.0)]).iter("circle"))) == 2


@pytest.mark.parametrize("name", ["title", "xaxis", "yaxis", "color", "bgcolor", "type", "width"])
def test_a_request_puts_no_markup_into_the_page(name: str) -> None:
    page = render_chart(POINTS, look(**{name: "\"'><script>alert(1)</script>;}"})).decode()
    assert "<script" not in page
    assert "'>" not in page
    assert ";}" not in page.replace("alert(1)&lt;/script&gt;;}", "")


@given(
    st.lists(st.tuples(st.integers(-(10**18), 10**18), st.floats(-1e300, 1e300)), max_size=20),
    st.sampled_from(["line", "spline", "column"]),
)
def test_any_points_can_be_drawn(points: list[Point], kind: str) -> None:
    tree = drawing(sorted(points), type=kind)
    for element in tree.iter():
        for value in element.attrib.values():
            assert "nan" not in value
            assert "inf" not in value


@pytest.mark.parametrize("kind", ["line", "column"])
@pytest.mark.parametrize("least", ["0", "5e-324", "-1e308", "1.79e308", "inf", "1e-300", "1e300", "x"])
@pytest.mark.parametrize("most", ["0", "5e-324", "1.79e308", "-1.79e308", "1e-300", "1e300", ""])
def test_any_ends_of_the_axis_can_be_drawn(least: str, most: str, kind: str) -> None:
    for points in ([(AT_NS, 0.0)], [(AT_NS, -1e254), (AT_NS + S, 1e254)], POINTS):
        assert drawing(points, yaxismin=least, yaxismax=most, type=kind)
