"""The head of an answer: header names in title case, a date, and how the connection goes on. Pure but for the clock.

The official ThingSpeak Arduino library searches an answer for the bytes `Content-Length` and reads no other spelling,
and uvicorn writes all names in lower case; so heads are written here.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple

from headwater.services.dialect import RawHeaders

_MAX_NAMES = 1_000
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_FORBIDDEN = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_CLOSES = re.compile(rb"(?:^|,)\s*close\s*(?:$|,)", re.IGNORECASE)
_NO_BODY = (204, 304)


class Head(NamedTuple):
    """A rendered head and what it promised."""

    rendered: bytes
    keeps_alive: bool
    is_chunked: bool
    content_length: int


def title_case(name: bytes) -> bytes:
    """`content-length` to `Content-Length`."""
    return b"-".join(part.capitalize() for part in name.split(b"-"))


class Heads:
    """Renders heads; remembers spelled names, and the date and repeated heads of the current second."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._names: dict[bytes, bytes] = {}
        self._date = b""
        self._date_at_s = -1
        self._repeated: dict[tuple[int, RawHeaders, str, bool], Head] = {}
        """Heads of the current second."""

    def render(self, status: int, headers: Iterable[tuple[bytes, bytes]], *, method: str, keep_alive: bool) -> Head:
        """The head of an answer to a request of that method. Raises ValueError for a value that would break it."""
        lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
        content_length: int | None = None
        says_close = is_chunked = has_date = False
        for name, value in headers:
            if _FORBIDDEN.search(value):
                raise ValueError("a header value holds a control character")
            spelled = self._spell(name)
            lines.append(b"%b: %b\r\n" % (spelled, value))
            if spelled == b"Content-Length":
                content_length = int(value)
            elif spelled == b"Transfer-Encoding":
                is_chunked = value.lower() == b"chunked"
            elif spelled == b"Connection":
                says_close = says_close or _CLOSES.search(value) is not None
            elif spelled == b"Date":
                has_date = True
        if not has_date:
            lines.append(b"Date: %b\r\n" % self._now())
        keep_alive = keep_alive and not says_close and status != HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        if not keep_alive and not says_close:
            lines.append(b"Connection: close\r\n")
        if content_length is None and not is_chunked and method != "HEAD" and status not in _NO_BODY:
            is_chunked = True
            lines.append(b"Transfer-Encoding: chunked\r\n")
        lines.append(b"\r\n")
        return Head(b"".join(lines), keep_alive, is_chunked, content_length or 0)

    def render_repeated(self, status: int, headers: RawHeaders, *, method: str, keep_alive: bool) -> Head:
        """As `render`, for headers that come again and again: such a head is put together once in a second."""
        self._now()
        key = (status, headers, method, keep_alive)
        head = self._repeated.get(key)
        if head is None:
            head = self._repeated[key] = self.render(status, headers, method=method, keep_alive=keep_alive)
        return head

    def _spell(self, name: bytes) -> bytes:
        spelled = self._names.get(name)
        if spelled is None:
            spelled = title_case(name)
            if len(self._names) < _MAX_NAMES:
                self._names[name] = spelled
        return spelled

    def _now(self) -> bytes:
        now_s = int(self._clock())
        if now_s != self._date_at_s:
            self._date, self._date_at_s = formatdate(now_s, usegmt=True).encode(), now_s
            self._repeated.clear()
        return self._date
