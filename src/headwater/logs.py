"""Structured logs on top of `logging`: an event in a few words, and fields beside it. Knows no file: an
operator redirects standard error, or lets the service manager keep it.

    log = Log(__name__)
    log.info("client connected", client_id=client_id, address=address)

Whatever a peer sends, one event stays one line: control characters leave escaped. Fields whose name says that
they are secret, and texts that look like an API key, leave hidden; that is the second line of defence, the
first is not to log them.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from headwater.settings import LogFormat, LogSettings

HIDDEN = "[hidden]"
MAX_VALUE_CHARS = 2000
"""A longer text is cut: a peer chooses how long what it sends is."""

_SECRET_NAME = re.compile(r"(?i)(password|passwd|secret|token|authorization|cookie|credential|(^|_)key$)")
_API_KEY = re.compile(r"(?<![0-9A-Za-z])(?=[0-9]*[A-Z])[0-9A-Z]{16}(?![0-9A-Za-z])")
"""The shape of the keys that Headwater generates; they travel in URLs and topics."""
_SECRET_ASSIGNMENT = re.compile(r"(?i)\b([a-z_]*(?:key|token|password|secret))=[^&\s\"']+")
_HEADER = re.compile(r"(?i)\b(authorization\W{1,4}(?:(?:bearer|token|basic)\s+)?)[^\s\"']+")
_CREDENTIALS = re.compile(r"(?i)\b(bearer|token|basic)\s+(?=\S*[0-9]|\S{20})[A-Za-z0-9._~+/=-]{8,}")
"""Of the words that may follow `token` in a sentence, none has a digit or is so long."""

# C0, DEL and C1 controls, line and paragraph separators, marks that turn the direction of text, surrogates.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_BARE_VALUE = re.compile(r"[^\s\"=\\]+")

_STANDARD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_COLOURS = {logging.DEBUG: "2", logging.INFO: "32", logging.WARNING: "33", logging.ERROR: "31"}
_OWN_LOGGER = "headwater"


class Log:
    """A logger that takes fields as keyword arguments."""

    __slots__ = ("_logger",)

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **fields: object) -> None:
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        self._log(logging.WARNING, event, fields)

    def error(self, event: str, **fields: object) -> None:
        self._log(logging.ERROR, event, fields)

    def exception(self, event: str, **fields: object) -> None:
        """An error with the traceback of the exception that is being handled."""
        self._log(logging.ERROR, event, fields, exc_info=True)

    def is_enabled_for(self, level: int) -> bool:
        return self._logger.isEnabledFor(level)

    def _log(self, level: int, event: str, fields: dict[str, object], *, exc_info: bool = False) -> None:
        if self._logger.isEnabledFor(level):
            # `event` is no format string: a percent sign in it means itself.
            self._logger.log(level, "%s", event, exc_info=exc_info, extra={"fields": fields}, stacklevel=3)


def reason_of(error: BaseException) -> dict[str, object]:
    """The fields that say why something failed."""
    cause = {} if error.__cause__ is None else {"cause": repr(error.__cause__)}
    return {"reason": str(error), **cause}


class Trouble:
    """Something that may fail many times in a row. Told are the first failure, and that it works again."""

    def __init__(self, log: Log, failing: str, working: str) -> None:
        self._log = log
        self._failing = failing
        self._working = working
        self.is_on = False

    def begin(self, error: BaseException, **fields: object) -> None:
        """It failed, once or once more."""
        if not self.is_on:
            self.is_on = True
            self._log.error(self._failing, **fields, **reason_of(error))

    def end(self) -> None:
        """It went well."""
        if self.is_on:
            self.is_on = False
            self._log.info(self._working)


def configure_logging(settings: LogSettings, stream: TextIO, *, colour: bool = False) -> None:
    """Send all logs of the process to `stream`, replacing what an earlier call set up.

    Headwater's own events are logged from the configured level on; those of libraries from `warning` on,
    because their debug output shows raw traffic.
    """
    handler = _StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if settings.format is LogFormat.JSON else HumanFormatter(colour=colour))
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _StreamHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    root.setLevel(max(level, logging.WARNING))
    logging.getLogger(_OWN_LOGGER).setLevel(level)
    logging.captureWarnings(True)


class _StreamHandler(logging.StreamHandler[TextIO]):
    """Our own handler, so that it can be told from those of a test runner."""


class HumanFormatter(logging.Formatter):
    """`2026-01-31 12:00:00.000 INFO    client connected  client_id=porch address=10.0.0.7` (UTC) and, for an
    exception, its traceback below, each line set in with `  | ` so that none can pass for an event."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname:<7}"
        if self._colour:
            level = f"\x1b[{_COLOURS.get(record.levelno, '31')}m{level}\x1b[0m"
        parts = [f"{_time(record):%Y-%m-%d %H:%M:%S}.{int(record.msecs):03d} {level} {_event(record)}"]
        parts += [f"{_escape(name)}={_human_value(value)}" for name, value in _fields(record).items()]
        line = parts[0] + ("  " + " ".join(parts[1:]) if len(parts) > 1 else "")
        for trace_line in (_traceback(self, record) or "").splitlines():
            line += f"\n  | {_escape(trace_line)}"
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, event, the fields, and `exception` with a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": _time(record).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": _event(record),
        }
        for name, value in _fields(record).items():
            entry[f"{name}_" if name in entry or name == "exception" else name] = _json_value(value)
        if trace := _traceback(self, record):
            entry["exception"] = trace
        return json.dumps(entry)  # ASCII only, so nothing in it can break the line or the terminal


def _time(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _event(record: logging.LogRecord) -> str:
    return _escape(_cut(hide_secrets(record.getMessage())))


def _fields(record: logging.LogRecord) -> dict[str, object]:
    """What stands beside the event, whether it came through `Log` or as `extra` of plain `logging`."""
    given = vars(record)
    fields = {name: value for name, value in given.items() if name not in _STANDARD_ATTRIBUTES}
    own = fields.pop("fields", None)
    if isinstance(own, Mapping):
        fields.update(own)
    # uvicorn repeats its message with colour codes
    fields.pop("color_message", None)
    return {name: HIDDEN if _SECRET_NAME.search(name) else _safe(value) for name, value in fields.items()}


def _safe(value: object) -> object:
    """A number or nothing as it is, everything else as text without secrets."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes):
        value = value[:MAX_VALUE_CHARS].decode("utf-8", "backslashreplace")
    return _cut(hide_secrets(str(value)))


def hide_secrets(text: str) -> str:
    """Text without what looks like an API key, a `name=value` of a secret, or HTTP credentials."""
    text = _SECRET_ASSIGNMENT.sub(rf"\1={HIDDEN}", text)
    text = _HEADER.sub(rf"\1{HIDDEN}", text)
    text = _CREDENTIALS.sub(rf"\1 {HIDDEN}", text)
    return _API_KEY.sub(HIDDEN, text)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_VALUE_CHARS else f"{text[:MAX_VALUE_CHARS]}… ({len(text)} characters)"


def _escape(text: str) -> str:
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def _human_value(value: object) -> str:
    text = _escape(str(value))
    if _BARE_VALUE.fullmatch(text):
        return text
    quoted = text.replace('"', '\\"')
    return f'"{quoted}"'


def _json_value(value: object) -> object:
    # NaN and infinities are no JSON
    return str(value) if isinstance(value, float) and not -1e308 < value < 1e308 else value


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str | None:
    if not record.exc_info or record.exc_info == (None, None, None):
        return None
    return hide_secrets(formatter.formatException(record.exc_info))
