"""What of an answer is wanted: a parse string, as ThingHTTP calls it. Pure.

Two forms, both of which take time in proportion to the answer, whatever somebody writes:

- `START%%%END`: the text between the first START and the first END after it. Either may be empty: then it is the
  beginning, or the end, of the answer.
- `main.temp`, `list.0.name`, `list[0].name`: a path into a JSON answer, of names and positions.
"""

from __future__ import annotations

import json
import re

from headwater.errors import BadRequest

BETWEEN = "%%%"
MAX_LENGTH = 500
MAX_STEPS = 32
_STEP = r"[^.\[\]/<>(){}*^\\\"'|%\x00-\x1f]+"
_PATH = re.compile(rf"{_STEP}(?:\.{_STEP}|\[[0-9]{{1,9}}\])*|(?:\[[0-9]{{1,9}}\])(?:\.{_STEP}|\[[0-9]{{1,9}}\])*")
_STEPS = re.compile(r"[^.\[\]]+")


def check_parse_string(text: str) -> None:
    """Raises BadRequest for what is neither of the two forms."""
    if len(text) > MAX_LENGTH:
        raise BadRequest(f"the parse string may have at most {MAX_LENGTH} characters")
    if text.count(BETWEEN) == 1 or not text:
        return
    if not _PATH.fullmatch(text) or len(_STEPS.findall(text)) > MAX_STEPS:
        raise BadRequest(
            f"the parse string must be a JSON path such as main.temp or list[0].name, or START{BETWEEN}END for the "
            "text between two others; XPath and regular expressions are not supported"
        )


def cut(answer: str, parse_string: str) -> str | None:
    """The part that is wanted; None when the answer has no such part."""
    if BETWEEN in parse_string:
        start, _, end = parse_string.partition(BETWEEN)
        _, found_start, rest = answer.partition(start) if start else ("", "yes", answer)
        wanted, found_end, _ = rest.partition(end) if end else (rest, "yes", "")
        return wanted if found_start and found_end else None
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    for step in _STEPS.findall(parse_string):
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isascii() and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
