"""The official Arduino library (ThingSpeak 2.1.1) as far as the wire can tell: what it sends, and how it reads answers.

Written after the library's behaviour, not with its code. It reads an answer byte by byte as it comes, searches it for
`HTTP/1.1`, `Content-Length:` and an empty line as they are spelled here, and finds values in JSON by searching for
`"field1":"` and the next quotation mark. What it takes for an error it reports as the library does.
"""

from __future__ import annotations

import math
import re
import select
import socket
import struct
import time
from typing import NamedTuple

OK = 200
BAD_API_KEY = 400
BAD_URL = 404
OUT_OF_RANGE = -101
INVALID_FIELD_NUMBER = -201
SET_FIELD_NOT_CALLED = -210
CONNECT_FAILED = -301
BAD_RESPONSE = -303
TIMEOUT = -304
NOT_INSERTED = -401

_LEAST_ANSWER_BYTES = 17  # "HTTP/1.1 200 OK" and a line's end
_MAX_FIELD_BYTES = 255
_MAX_FLOAT = 999_999_000_000
_STREAM_TIMEOUT_S = 1.0
_PARTS = (
    *(f"field{number}" for number in range(1, 9)),
    *("created_at", "latitude", "longitude", "elevation", "status"),
)


class Real(NamedTuple):
    """A value of C's type `float`, which the library writes with five decimals, and in its own way without a value."""

    value: float
    is_avr: bool = False
    """AVR boards write NAN and INF, others nan and inf."""

    def __str__(self) -> str:
        (single,) = struct.unpack("f", struct.pack("f", self.value))
        text = f"{single:.5f}"
        return text.upper() if self.is_avr else text


class _Client:
    """The network client under the library: a buffer that fills while one asks how full it is."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._buffer = bytearray()

    def print(self, text: str) -> None:
        self._socket.sendall(text.encode())

    def wait_available(self, count: int, timeout_s: float) -> bool:
        deadline_s = time.monotonic() + timeout_s
        while len(self._buffer) < count:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not select.select([self._socket], [], [], left_s)[0]:
                return False
            chunk = self._socket.recv(4096)
            if not chunk:
                return False
            self._buffer += chunk
        return True

    def read(self) -> bytes:
        """The next byte; nothing when none comes within a second."""
        if not self.wait_available(1, _STREAM_TIMEOUT_S):
            return b""
        return bytes([self._buffer.pop(0)])

    def find(self, target: bytes) -> bool:
        """Read until these bytes have come by."""
        seen = b""
        while byte := self.read():
            seen = (seen + byte)[-len(target) :]
            if seen == target:
                return True
        return False

    def parse_int(self) -> int:
        """Pass over what is no digit, and read digits; what ends them stays."""
        digits = b""
        while self.wait_available(1, _STREAM_TIMEOUT_S):
            if not self._buffer[:1].isdigit():
                if digits:
                    break
                self.read()
                continue
            digits += self.read()
        return int(digits or b"0")

    def stop(self) -> None:
        self._socket.close()


class ArduinoThingSpeak:
    """`ThingSpeak` of a sketch. Every call opens a connection of its own."""

    def __init__(self, port: int, timeout_s: float = 5.0) -> None:
        self._port = port
        self._timeout_s = timeout_s
        self._next: dict[str, str] = {}
        self._last: dict[str, str] = {}
        self.last_read_status = OK

    # -- writing ----------------------------------------------------------------------------------------------------

    def write_field(self, channel_id: int, field: int, value: str | int | Real, write_key: str) -> int:
        """The number of the channel is not sent: the key alone counts."""
        if not 1 <= field <= 8:
            return INVALID_FIELD_NUMBER
        if _is_out_of_range(value):
            return OUT_OF_RANGE
        return self.write_raw(channel_id, f"field{field}={value}", write_key)

    def set_field(self, field: int, value: str | int | Real) -> int:
        if not 1 <= field <= 8:
            return INVALID_FIELD_NUMBER
        if _is_out_of_range(value):
            return OUT_OF_RANGE
        return self._set(f"field{field}", str(value))

    def set_location(self, latitude: float, longitude: float, elevation_m: float) -> None:
        for name, value in (("lat", latitude), ("long", longitude), ("elevation", elevation_m)):
            self._set(name, f"{value:.2f}")

    def set_status(self, text: str) -> int:
        return OUT_OF_RANGE if _is_out_of_range(text) else self._set("status", text)

    def set_created_at(self, text: str) -> int:
        return OUT_OF_RANGE if _is_out_of_range(text) else self._set("created_at", text)

    def set_twitter_tweet(self, user: str, tweet: str) -> None:
        self._set("twitter", user)
        self._set("tweet", tweet)

    def _set(self, name: str, text: str) -> int:
        self._next[name] = text
        return OK

    def write_fields(self, channel_id: int, write_key: str) -> int:
        """What was set, in the library's order; a part without text is left out."""
        order = (*_PARTS[:8], "lat", "long", "elevation", "status", "twitter", "tweet", "created_at")
        parts = [f"{name}={self._next[name]}" for name in order if self._next.get(name)]
        if not parts:
            return SET_FIELD_NOT_CALLED
        self._next = {}
        return self.write_raw(channel_id, "&".join(parts), write_key)

    def write_raw(self, _channel_id: int, message: str, write_key: str) -> int:
        message += "&headers=false"
        head = (
            f"POST /update HTTP/1.1\r\n{_headers(write_key)}Content-Type: application/x-www-form-urlencoded\r\n"
            f"Content-Length: {len(message.encode())}\r\n\r\n"
        )
        status, entry_id = self._exchange([head, message])
        return NOT_INSERTED if status == OK and _to_int(entry_id) == 0 else status

    # -- reading ----------------------------------------------------------------------------------------------------

    def read_raw(self, channel_id: int, suffix: str, read_key: str | None = None) -> str:
        head = f"GET /channels/{channel_id}{suffix} HTTP/1.1\r\n{_headers(read_key)}\r\n"
        self.last_read_status, content = self._exchange([head])
        return content if self.last_read_status == OK else ""

    def read_string_field(self, channel_id: int, field: int, read_key: str | None = None) -> str:
        if not 1 <= field <= 8:
            self.last_read_status = INVALID_FIELD_NUMBER
            return ""
        return self.read_raw(channel_id, f"/fields/{field}/last", read_key)

    def read_float_field(self, channel_id: int, field: int, read_key: str | None = None) -> float:
        return _to_float(self.read_string_field(channel_id, field, read_key))

    def read_long_field(self, channel_id: int, field: int, read_key: str | None = None) -> int:
        return _to_int(self.read_string_field(channel_id, field, read_key))

    def read_status(self, channel_id: int, read_key: str | None = None) -> str:
        return _value_of(self.read_raw(channel_id, "/feeds/last.txt?status=true", read_key), "status")

    def read_created_at(self, channel_id: int, read_key: str | None = None) -> str:
        return _value_of(self.read_raw(channel_id, "/feeds/last.txt", read_key), "created_at")

    def read_multiple_fields(self, channel_id: int, read_key: str | None = None) -> int:
        content = self.read_raw(channel_id, "/feeds/last.txt?status=true&location=true", read_key)
        if self.last_read_status == OK:
            self._last = {name: _value_of(content, name) for name in _PARTS}
        return self.last_read_status

    def get(self, name: str) -> str:
        """What `getFieldAsString`, `getStatus`, `getLatitude` and their like give after that."""
        return self._last[name]

    def get_float(self, name: str) -> float:
        return _to_float(self._last[name])

    def get_long(self, name: str) -> int:
        return _to_int(self._last[name])

    # -- both -------------------------------------------------------------------------------------------------------

    def _exchange(self, parts: list[str]) -> tuple[int, str]:
        try:
            client = _Client(self._port)
        except ConnectionRefusedError:
            return CONNECT_FAILED, ""
        try:
            for part in parts:
                client.print(part)
            return self._read_answer(client)
        finally:
            client.stop()

    def _read_answer(self, client: _Client) -> tuple[int, str]:
        if not client.wait_available(_LEAST_ANSWER_BYTES, self._timeout_s):
            return TIMEOUT, ""
        if not client.find(b"HTTP/1.1"):
            return BAD_RESPONSE, ""
        status = client.parse_int()
        if status != OK:
            return status, ""
        if not client.find(b"Content-Length:"):
            return BAD_RESPONSE, ""
        length = client.parse_int()
        if not client.find(b"\r\n\r\n"):
            return BAD_RESPONSE, ""
        if not client.wait_available(length, self._timeout_s):
            return TIMEOUT, ""
        return status, b"".join(client.read() for _ in range(length)).decode()


def _headers(key: str | None) -> str:
    shown = "" if key is None else f"X-THINGSPEAKAPIKEY: {key}\r\n"
    return f"Host: api.thingspeak.com\r\nUser-Agent: tslib-arduino/2.1.1 (ESP32)\r\n{shown}"


def _is_out_of_range(value: str | int | Real) -> bool:
    if isinstance(value, Real):
        return not math.isinf(value.value) and abs(value.value) > _MAX_FLOAT
    return len(str(value).encode()) > _MAX_FIELD_BYTES


def _value_of(content: str, name: str) -> str:
    """The text between the quotation marks after a name; nothing for null."""
    _, found, after = content.partition(f'"{name}":"')
    value, end, _ = after.partition('"')
    return value if found and end else ""


def _to_int(text: str) -> int:
    """As C's `atol`."""
    match = re.match(r"\s*([+-]?\d+)", text, re.ASCII)
    return int(match[1]) if match else 0


def _to_float(text: str) -> float:
    """As C's `atof`."""
    match = re.match(r"\s*[+-]?(?:\d+\.?\d*|\.\d+|inf|nan)", text, re.ASCII | re.IGNORECASE)
    return float(match[0]) if match else 0.0
