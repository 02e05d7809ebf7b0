"""The options of a field's chart: the form's values to the parameters of a chart's address, and what is wrong. Pure.

Options are kept as those parameters, so the code for another page's frame is the same chart. Those that a chart does
not have are not there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from html import escape
from urllib.parse import urlencode

from headwater.registry.entities import Channel
from headwater.web.console.forms import Form
from headwater.web.console.snippets import Addresses

TYPES = {"line": "Line", "spline": "Spline", "step": "Step", "column": "Column", "bar": "Bar"}
COMBINATIONS = {"average": "Average of", "median": "Median of", "sum": "Sum of", "timescale": "First value of"}
MINUTES = {
    "10": "10 minutes",
    "15": "15 minutes",
    "20": "20 minutes",
    "30": "30 minutes",
    "60": "1 hour",
    "240": "4 hours",
    "720": "12 hours",
    "1440": "1 day",
}
DATA_OPTIONS = frozenset({"results", "days", *COMBINATIONS})
"""With one of these, a chart shows other data than those beside it."""
TITLE_MAX = 120
WIDTH, HEIGHT = 450, 260
"""Of a frame, as thingspeak.com has it."""
_COLOUR = re.compile(r"#?([0-9a-fA-F]{6}|[0-9a-fA-F]{3})", re.ASCII)
_BOUND_MAX = Decimal("1e15")
_WHOLE = {"results": (1, 8000), "days": (1, 36_500), "round": (0, 15)}
_COLOURS = ("color", "bgcolor")
_BOUNDS = ("yaxismin", "yaxismax")


def parse_chart_form(form: Form) -> tuple[dict[str, str], dict[str, str]]:
    """The options that a form stands for, and what is wrong with it by input."""
    options: dict[str, str] = {}
    errors: dict[str, str] = {}
    if title := " ".join(form.text("title").split()):
        options["title"] = title
        if len(title) > TITLE_MAX:
            errors["title"] = f"At most {TITLE_MAX} characters, please."
    for name in _COLOURS:
        if text := form.text(name):
            found = _COLOUR.fullmatch(text)
            options[name] = f"#{found[1].lower()}" if found else text
            if found is None:
                errors[name] = "Enter a colour like #08666e."
    kind = form.text("type")
    if kind == "step":
        options["step"] = "true"
    elif kind in TYPES and kind != "line":
        options["type"] = kind
    for name, (least, most) in _WHOLE.items():
        if text := form.text(name):
            options[name] = text
            if not (text.isascii() and text.isdigit() and len(text) <= 6 and least <= int(text) <= most):
                errors[name] = f"Enter a whole number from {least} to {most:,}."
    combination, minutes = form.text("combine"), form.text("minutes")
    if combination in COMBINATIONS and minutes in MINUTES:
        options[combination] = minutes
    for name in _BOUNDS:
        if text := form.text(name).replace(",", "."):
            options[name] = text
            if _number(text) is None:
                errors[name] = "Enter a number."
    low, high = (_number(options.get(name, "")) for name in _BOUNDS)
    if low is not None and high is not None and low >= high:
        errors["yaxismax"] = "Enter more than the minimum."
    return options, errors


def form_values(options: Mapping[str, str]) -> dict[str, str]:
    """What the form begins with."""
    combination = next((name for name in COMBINATIONS if name in options), "")
    kind = "step" if "step" in options else options.get("type", "line")
    return {
        **{name: options.get(name, "") for name in ("title", *_COLOURS, *_WHOLE, *_BOUNDS)},
        "type": kind,
        "combine": combination,
        "minutes": options.get(combination, "60"),
    }


def frame_code(channel: Channel, number: int, options: Mapping[str, str], at: Addresses) -> str:
    """The HTML that shows the chart on another page. That of a private channel holds a read key, if there is one."""
    parameters = dict(options) | {"dynamic": "true"}
    if not channel.settings.is_public and channel.read_keys:
        parameters = {"api_key": channel.read_keys[0]} | parameters
    address = f"{at.base_url}/channels/{channel.id}/charts/{number}?{urlencode(parameters)}"
    return f'<iframe width="{WIDTH}" height="{HEIGHT}" src="{escape(address)}"></iframe>'


def _number(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() and abs(number) <= _BOUND_MAX and len(text) <= 32 else None
