"""A field's chart as a page for frames of other sites: one SVG, no script. Pure.

What comes from a request gets into the page as escaped text or as a number, and colours only in the form of colours.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from html import escape
from typing import NamedTuple

from headwater.dialects.thingspeak.parameters import is_true, parse_int

_COLOUR = re.compile(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})", re.ASCII)
_MAX_TEXT = 120
_MIN_SIZE, _MAX_SIZE = 100, 4_000
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 14.0, 36.0, 46.0
_S = 1_000_000_000
_STEPS_S = (
    *(1, 5, 15, 30, 60, 300, 900, 1800, 3600, 10_800, 21_600, 43_200),
    *(86_400, 172_800, 604_800, 2_592_000, 31_536_000),
)
_MOST_MARKS = 100
"""So many points are marked on a line; more would hide it."""
_LEAST_BOUND, _GREATEST_BOUND = 1e-300, 1e300
_TYPES = ("line", "spline", "column", "bar")


class Look(NamedTuple):
    """What a chart looks like."""

    title: str
    x_title: str
    y_title: str
    colour: str
    background: str
    kind: str
    is_step: bool
    width: int
    height: int
    has_own_size: bool
    """Else it fills its frame."""
    refresh_s: int | None
    least: float | None
    most: float | None
    zone: tzinfo


Point = tuple[int, float]
"""Time in nanoseconds, and value."""


def parse_look(parameters: Mapping[str, str], title: str, y_title: str, zone: tzinfo | None) -> Look:
    """The parameters of a chart; what cannot be read counts as not given."""
    kind = parameters.get("type", "").lower()
    refresh_s = max(5, parse_int(parameters.get("update")) or 15) if is_true(parameters.get("dynamic", "")) else None
    width, height = _size(parameters.get("width")), _size(parameters.get("height"))
    return Look(
        parameters.get("title", title)[:_MAX_TEXT],
        parameters.get("xaxis", "Date")[:_MAX_TEXT],
        parameters.get("yaxis", y_title)[:_MAX_TEXT],
        _colour(parameters.get("color"), "#d62020"),
        _colour(parameters.get("bgcolor"), "#ffffff"),
        kind if kind in _TYPES else "line",
        is_true(parameters.get("step", "")),
        width or 450,
        height or 250,
        width is not None or height is not None,
        refresh_s,
        _bound(parameters.get("yaxismin")),
        _bound(parameters.get("yaxismax")),
        zone or UTC,
    )


def _size(text: str | None) -> int | None:
    pixels = parse_int(text)
    return None if pixels is None else max(_MIN_SIZE, min(pixels, _MAX_SIZE))


def _colour(text: str | None, default: str) -> str:
    found = _COLOUR.fullmatch(text or "")
    return f"#{found[1].lower()}" if found else default


def _bound(text: str | None) -> float | None:
    """An end of the axis. Of numbers that are greater or smaller than anything that is measured, there are no steps."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if number == 0 or _LEAST_BOUND <= abs(number) <= _GREATEST_BOUND else None


def render_chart(points: Sequence[Point], look: Look) -> bytes:
    """The page."""
    size = f'width="{look.width}" height="{look.height}"' if look.has_own_size else 'width="100%" height="100%"'
    refresh = f'<meta http-equiv="refresh" content="{look.refresh_s}">' if look.refresh_s else ""
    title = escape(look.title)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width">{refresh}<title>{title}</title>'
        f"<style>html,body{{margin:0;height:100%;overflow:hidden;background:{look.background}}}"
        f"svg{{display:block;font:11px system-ui,sans-serif}}</style></head><body>"
        f'<svg {size} viewBox="0 0 {look.width} {look.height}" role="img" aria-label="{title}">'
        f"{''.join(_drawing(points, look))}</svg></body></html>"
    ).encode()


def _drawing(points: Sequence[Point], look: Look) -> list[str]:
    ink = _ink(look.background)
    right, bottom = look.width - _RIGHT, look.height - _BOTTOM
    drawn = [
        f'<text x="{look.width / 2:g}" y="20" text-anchor="middle" font-size="14" font-weight="600" fill="{ink}">'
        f"{escape(look.title)}</text>",
        f'<text x="{(_LEFT + right) / 2:g}" y="{look.height - 8}" text-anchor="middle" fill="{ink}">'
        f"{escape(look.x_title)}</text>",
        f'<text transform="translate(14 {(_TOP + bottom) / 2:g}) rotate(-90)" text-anchor="middle" fill="{ink}">'
        f"{escape(look.y_title)}</text>",
    ]
    if not points:
        middle = f'x="{(_LEFT + right) / 2:g}" y="{(_TOP + bottom) / 2:g}"'
        return [*drawn, f'<text {middle} text-anchor="middle" fill="{ink}" opacity=".7">No data</text>']
    first_ns, last_ns = points[0][0], points[-1][0]
    span_ns = (last_ns - first_ns) or 1
    ticks = _value_ticks(points, look)
    low = ticks[0] if look.least is None else look.least
    high = ticks[-1] if look.most is None else look.most
    half_span = (high / 2 - low / 2) or 0.5  # halves, because the range of two huge numbers may be infinite

    def x_of(at_ns: int) -> float:
        return _LEFT + (at_ns - first_ns) / span_ns * (right - _LEFT) if last_ns > first_ns else (_LEFT + right) / 2

    def y_of(value: float) -> float:
        return bottom - max(0.0, min(1.0, (value / 2 - low / 2) / half_span)) * (bottom - _TOP)

    for tick in ticks:
        if low <= tick <= high:
            at = f'y="{y_of(tick):.1f}"'
            drawn.append(f'<path d="M{_LEFT:g} {y_of(tick):.1f}H{right:g}" stroke="{ink}" stroke-opacity=".15"/>')
            drawn.append(f'<text x="{_LEFT - 6:g}" {at} dy=".35em" text-anchor="end" fill="{ink}">{tick:.10g}</text>')
    for at_ns, label in _time_ticks(first_ns, last_ns, look):
        at = f'x="{x_of(at_ns):.1f}"'
        drawn.append(f'<path d="M{x_of(at_ns):.1f} {bottom:g}v5" stroke="{ink}" stroke-opacity=".4"/>')
        drawn.append(f'<text {at} y="{bottom + 17:g}" text-anchor="middle" fill="{ink}">{label}</text>')
    drawn.append(f'<path d="M{_LEFT:g} {bottom:g}H{right:g}" stroke="{ink}" stroke-opacity=".4"/>')
    places = [(x_of(at_ns), y_of(value)) for at_ns, value in points]
    if look.kind in ("column", "bar"):
        width = max(1.0, min(40.0, (right - _LEFT) / len(points) * 0.7))
        zero = y_of(max(low, min(high, 0.0)))
        return drawn + [_column(x, y, width, zero, look.colour) for x, y in places]
    drawn.append(f'<path d="{_path(places, look)}" fill="none" stroke="{look.colour}" stroke-width="2"/>')
    if len(places) <= _MOST_MARKS:
        drawn += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{look.colour}"/>' for x, y in places]
    return drawn


def _column(x: float, y: float, width: float, zero: float, colour: str) -> str:
    left, top = f'x="{x - width / 2:.1f}"', f'y="{min(y, zero):.1f}"'
    return f'<rect {left} {top} width="{width:.1f}" height="{abs(zero - y):.1f}" fill="{colour}"/>'


def _ink(background: str) -> str:
    """Black or white, whichever can be read on a colour."""
    digits = background[1:] if len(background) == 7 else "".join(digit * 2 for digit in background[1:])
    red, green, blue = (int(digits[place : place + 2], 16) for place in (0, 2, 4))
    return "#111111" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#f2f2f2"


def _path(places: Sequence[tuple[float, float]], look: Look) -> str:
    (x, y), *rest = places
    steps = [f"M{x:.1f} {y:.1f}"]
    if look.is_step:
        steps += [f"H{x:.1f}V{y:.1f}" for x, y in rest]
    elif look.kind == "spline":
        around = [places[0], *places, places[-1]]
        for before, start, end, after in zip(around, around[1:], around[2:], around[3:], strict=False):
            handles = (
                (start[0] + (end[0] - before[0]) / 6, start[1] + (end[1] - before[1]) / 6),
                (end[0] - (after[0] - start[0]) / 6, end[1] - (after[1] - start[1]) / 6),
            )
            steps.append("C" + " ".join(f"{x:.1f} {y:.1f}" for x, y in (*handles, end)))
    else:
        steps += [f"L{x:.1f} {y:.1f}" for x, y in rest]
    return "".join(steps)


def _value_ticks(points: Sequence[Point], look: Look) -> list[float]:
    """Round values from below the least to above the greatest."""
    low = min(value for _, value in points) if look.least is None else look.least
    high = max(value for _, value in points) if look.most is None else look.most
    if look.kind in ("column", "bar") and look.least is None:
        low = min(low, 0.0)
    if high - low <= abs(high) * 1e-12:
        margin = abs(low) * 0.01 or 1.0
        low, high = low - margin, low + margin
    rough = high / 4 - low / 4
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(magnitude * factor for factor in (1, 2, 5, 10) if magnitude * factor >= rough or factor == 10)
    first = math.floor(low / step)
    ticks = [float(f"{(first + number) * step:.12g}") for number in range(math.ceil(high / step) - first + 1)]
    return [tick for tick in ticks if math.isfinite(tick)]


def _time_ticks(first_ns: int, last_ns: int, look: Look) -> list[tuple[int, str]]:
    """About one for each 80 pixels, on the clock of the chart's zone."""
    most = max(2, int((look.width - _LEFT - _RIGHT) / 80))
    span_s = max((last_ns - first_ns) // _S, 1)
    step_s = next((step for step in _STEPS_S if span_s / step <= most), -(-span_s // most))
    pattern = "%H:%M:%S" if step_s < 60 else "%H:%M" if step_s < 86_400 else "%d %b" if step_s < 2_592_000 else "%b %Y"
    if last_ns == first_ns:
        return [(first_ns, _local(first_ns, look.zone).strftime("%d %b %H:%M"))]
    offset = _local(first_ns, look.zone).utcoffset()
    shift_s = int(offset.total_seconds()) if offset else 0
    begin_s = -(-(first_ns // _S + shift_s) // step_s) * step_s - shift_s
    ticks = range(begin_s, last_ns // _S + 1, step_s)
    return [(at_s * _S, _local(at_s * _S, look.zone).strftime(pattern)) for at_s in ticks if at_s * _S >= first_ns]


def _local(at_ns: int, zone: tzinfo) -> datetime:
    return datetime.fromtimestamp(at_ns // _S, UTC).astimezone(zone)
