"""InfluxDB's line protocol: lines to values and back. Pure; knows no bucket, stream or clock.

Where the documents leave room, the rules are those of InfluxDB 2's own parser: a comma, equals sign or space is part
of a name when a backslash stands right before it, any other backslash stands for itself, a line break within a quoted
text belongs to it. Names that a server may reserve (`time`, a leading `_`) are given as they are, and so are fields of
changing types: that is for whoever stores them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from headwater.errors import BadRequest
from headwater.model.series import INTEGER_MAX, INTEGER_MIN, UNSIGNED_MAX, Unsigned, Value

PRECISIONS: Mapping[str, int] = MappingProxyType({"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000})
"""Nanoseconds in a unit of time."""
TIME_MIN_NS, TIME_MAX_NS = INTEGER_MIN + 2, INTEGER_MAX - 1
MAX_STRING_BYTES = 2**20
MAX_LINE_BYTES = 4 * 2**20
MAX_KNOWN_HEADS = 100_000
"""Beginnings of lines whose reading is remembered: devices repeat themselves."""

_BOOLEANS = dict.fromkeys(("t", "T", "true", "True", "TRUE"), True) | dict.fromkeys(
    ("f", "F", "false", "False", "FALSE"), False
)
_is_float = re.compile(r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII).fullmatch
_INTEGER = re.compile(r"-?[0-9]{1,30}", re.ASCII)
# A quantifier that ends with `+` never gives back what it took: no text makes these slow.
_HEAD = re.compile(r"(?:[^ ]|(?<=\\) )*+")
_MEASUREMENT = re.compile(r"(?:[^,]|(?<=\\),)*+")
_TAG_PART = re.compile(r"(?:[^,=]|(?<=\\)[,=])*+")
_FIELD_KEY = re.compile(r"(?:[^,= ]|(?<=\\)[,= ])*+")
_BARE = re.compile(r"[^, ]*+")
_QUOTED = re.compile(r'"((?:[^"\\]|\\[\s\S])*+)"')
_HEAD_IN_STREAM = re.compile(rb"(?:[^ \n]|(?<=\\) )*+")
_FIELDS_IN_STREAM = re.compile(rb'(?:[^=\n]|(?<=\\)=|="(?:[^"\\]|\\[\s\S])*+"|=(?!"))*+')
_ESCAPED_QUOTE = re.compile(r'\\(["\\])')
_BLANKS = " \t\0"


class Line(NamedTuple):
    """What one line says."""

    measurement: str
    tags: tuple[tuple[str, str], ...]
    """Sorted by name."""
    fields: Mapping[str, Value]
    """At least one; of a name that comes twice, the last counts."""
    at_ns: int | None
    """None where the line gives no time."""


class BadLine(BadRequest):
    """A line cannot be read. The text is InfluxDB's word for the reason."""


Heads: TypeAlias = dict[str, tuple[str, tuple[tuple[str, str], ...]]]
"""What `parse_line` remembers: hand it the same one again, and lines of known series are read faster."""


class LineSplitter:
    """Bytes in, whole lines out; keeps the unfinished end between calls.

    A line that is blank or begins with `#` is passed over. A quoted text that is never ended, or makes a line longer
    than `max_line_bytes`, ends with its first line break, so that what follows is not lost.
    """

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._max_line_bytes = max_line_bytes
        self._tail = b""
        self._next_number = 1

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Numbers (the first line of all is 1) and bytes of the lines that have ended. Raises BadLine for one that
        cannot end any more. Take all of them before feeding more."""
        text = self._tail + data
        start = 0
        if b'="' not in text:  # nearly always, and much faster
            *lines, self._tail = text.split(b"\n")
            for line in lines:
                self._next_number += 1
                if _says_something(line):
                    yield self._next_number - 1, line
        else:
            while (end := text.find(b"\n", start)) >= 0:
                if text.find(b'="', start, end) >= 0:
                    end_of_quoted = _end_of_quoted(text, start, end)
                    if end_of_quoted is not None:
                        end = end_of_quoted
                    elif len(text) - start < self._max_line_bytes:
                        break
                line = text[start:end]
                self._next_number += 1 + line.count(b"\n")
                if _says_something(line):
                    yield self._next_number - 1 - line.count(b"\n"), line
                start = end + 1
            self._tail = text[start:]
        if len(self._tail) > self._max_line_bytes and b"\n" not in self._tail:
            raise BadLine(f"line {self._next_number} has more than {self._max_line_bytes // 2**20} MB")

    def finish(self) -> Iterator[tuple[int, bytes]]:
        """The last line, if it has no line break; of a quoted text that was not ended, every line."""
        yield from self.feed(b"\n")
        text, self._tail = self._tail, b""
        for line in text.split(b"\n"):
            if _says_something(line):
                yield self._next_number, line
            self._next_number += 1


def _says_something(line: bytes) -> bool:
    if line[:1].isalpha():
        return True
    said = line.strip(b" \t\0\r")
    return said != b"" and not said.startswith(b"#")


def _end_of_quoted(text: bytes, start: int, end: int) -> int | None:
    """Where a line ends that begins at `start`, has its first line break at `end` and a quote before it; None when it
    has not ended yet."""
    while start < end and text[start] in b" \t\0":
        start += 1
    if text[start : start + 1] == b"#":
        return end
    head = _HEAD_IN_STREAM.match(text, start)
    assert head is not None
    fields = _FIELDS_IN_STREAM.match(text, head.end())
    assert fields is not None
    stop = fields.end()
    return stop if text[stop : stop + 1] == b"\n" else None


def parse_line(line: bytes, unit_ns: int, heads: Heads) -> Line:
    """One line without the line break that ends it; its time counts in units of `unit_ns`. Raises BadLine."""
    try:
        text = line.decode().lstrip(_BLANKS)
    except UnicodeDecodeError:
        raise BadLine("not UTF-8 text") from None
    text = text.rstrip("\r ")
    if "\\" in text or '"' in text:
        end = _end_of(_HEAD, text, 0)
        head = text[:end]
        fields, end = _parse_any_fields(text, _skip_spaces(text, end))
        time_text = text[end:].lstrip(" ")
    else:
        head, _, rest = text.partition(" ")
        fields_text, _, time_text = rest.lstrip(" ").partition(" ")
        fields = _parse_plain_fields(fields_text)
        time_text = time_text.lstrip(" ")
    known = heads.get(head)
    if known is None:
        known = _parse_head(head)
        if len(heads) >= MAX_KNOWN_HEADS:
            heads.clear()
        heads[head] = known
    return Line(known[0], known[1], fields, _parse_time(time_text, unit_ns) if time_text else None)


def _end_of(pattern: re.Pattern[str], text: str, start: int) -> int:
    found = pattern.match(text, start)
    assert found is not None  # each of them takes nothing at all, too
    return found.end()


def _skip_spaces(text: str, start: int) -> int:
    while text.startswith(" ", start):
        start += 1
    return start


def _parse_head(head: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    end = _end_of(_MEASUREMENT, head, 0)
    if end == 0:
        raise BadLine("missing measurement")
    measurement = head[:end].replace("\\,", ",").replace("\\ ", " ")
    tags: dict[str, str] = {}
    while end < len(head):
        start = end + 1
        end = _end_of(_TAG_PART, head, start)
        if end == start:
            raise BadLine("missing tag key")
        name = _unescape_name(head[start:end])
        if not head.startswith("=", end):
            raise BadLine("missing tag value")
        start = end + 1
        end = _end_of(_TAG_PART, head, start)
        if end == start:
            raise BadLine("missing tag value")
        if head.startswith("=", end):
            raise BadLine("invalid tag format")
        if name in tags:
            raise BadLine("duplicate tags")
        tags[name] = _unescape_name(head[start:end])
    return measurement, tuple(sorted(tags.items()))


def _parse_plain_fields(text: str) -> dict[str, Value]:
    """Fields of a line without backslashes and quotes."""
    fields: dict[str, Value] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not name or not equals:
            raise BadLine("missing field key" if equals else "missing fields" if not text else "invalid field format")
        fields[name] = _parse_bare(value)
    return fields


def _parse_any_fields(text: str, start: int) -> tuple[dict[str, Value], int]:
    """Fields from here on, and where they end."""
    fields: dict[str, Value] = {}
    if start == len(text):
        raise BadLine("missing fields")
    while True:
        end = _end_of(_FIELD_KEY, text, start)
        if end == start:
            raise BadLine("missing field key")
        if not text.startswith("=", end):
            raise BadLine("invalid field format")
        name = _unescape_name(text[start:end])
        start = end + 1
        if text.startswith('"', start):
            quoted = _QUOTED.match(text, start)
            if quoted is None:
                raise BadLine("unbalanced quotes")
            if len(quoted[1]) * 4 > MAX_STRING_BYTES and len(quoted[1].encode()) > MAX_STRING_BYTES:
                raise BadLine(f"a text has more than {MAX_STRING_BYTES} bytes")
            fields[name] = _ESCAPED_QUOTE.sub(r"\1", quoted[1])
            end = quoted.end()
        else:
            end = _end_of(_BARE, text, start)
            fields[name] = _parse_bare(text[start:end])
        if not text.startswith(",", end):
            if end < len(text) and text[end] != " ":
                raise BadLine("invalid field format")
            return fields, end
        start = end + 1


def _unescape_name(text: str) -> str:
    return text.replace("\\,", ",").replace("\\=", "=").replace("\\ ", " ") if "\\" in text else text


def _parse_bare(text: str) -> Value:
    if _is_float(text):
        number = float(text)
        if math.isinf(number):
            raise BadLine("invalid float: out of range")
        return number
    digits, unit = text[:-1], text[-1:]
    if unit == "i" and _INTEGER.fullmatch(digits):
        integer = int(digits)
        if not INTEGER_MIN <= integer <= INTEGER_MAX:
            raise BadLine(f"unable to parse integer {digits}: value out of range")
        return integer
    if unit == "u" and _INTEGER.fullmatch(digits) and digits[0] != "-":
        unsigned = Unsigned(digits)
        if unsigned > UNSIGNED_MAX:
            raise BadLine(f"unable to parse unsigned {digits}: value out of range")
        return unsigned
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if not text:
        raise BadLine("missing field value")
    raise BadLine("invalid boolean" if text[0] in "tTfF" else "invalid number")


def _parse_time(text: str, unit_ns: int) -> int:
    if not _INTEGER.fullmatch(text):
        raise BadLine("bad timestamp" if text[0] in "-0123456789" and " " not in text else "point is invalid")
    at_ns = int(text) * unit_ns
    if not TIME_MIN_NS <= at_ns <= TIME_MAX_NS:
        raise BadLine(f"time outside range {TIME_MIN_NS} - {TIME_MAX_NS}")
    return at_ns


# -- rendering ----------------------------------------------------------------------------------------------------


def render_head(measurement: str, tags: Mapping[str, str]) -> str | None:
    """What a line begins with; None for names that no line can hold."""
    if not _is_name(measurement) or measurement[0] in "#\t\0":
        return None
    parts = [measurement.replace(",", "\\,").replace(" ", "\\ ")]
    for name, value in sorted(tags.items()):
        if not _is_name(name) or not _is_name(value):
            return None
        parts.append(f"{_escape_name(name)}={_escape_name(value)}")
    return ",".join(parts)


def render_field(name: str) -> str | None:
    """A field's name as it stands before the equals sign; None for one that no line can hold."""
    return _escape_name(name) if _is_name(name) else None


def render_value(value: Value) -> str | None:
    """A value as it stands behind the equals sign; None for one that no line can hold."""
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"' if len(escaped.encode()) <= MAX_STRING_BYTES else None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Unsigned):
        return f"{value:d}u"
    if isinstance(value, int):
        return f"{value}i"
    return repr(value) if math.isfinite(value) else None


def _is_name(text: str) -> bool:
    """Whether a line can hold it as a name: a backslash at its end would make what follows part of it."""
    return text != "" and text[-1] != "\\" and "\n" not in text


def _escape_name(text: str) -> str:
    return text.replace(",", "\\,").replace("=", "\\=").replace(" ", "\\ ")
