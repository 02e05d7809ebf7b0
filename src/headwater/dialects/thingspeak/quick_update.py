"""`/update` as nearly every device sends it: a form with a write key, no time of its own, the entry's number in answer.

Whatever is unusual is left to `writes.py`, which answers the same path; nothing is answered differently here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from starlette.responses import Response

from headwater.dialects.thingspeak.endpoint import REFUSED_WRITE, Endpoint, finished
from headwater.dialects.thingspeak.field_names import names_of
from headwater.dialects.thingspeak.forms import Form
from headwater.dialects.thingspeak.parameters import find_key, is_form, parse_form
from headwater.dialects.thingspeak.parse import WriteLimits, parse_update, write_limits
from headwater.errors import HeadwaterError, StorageError
from headwater.services import Services
from headwater.services.dialect import Answer, QuickPath, RawHeaders
from headwater.settings import Settings


class QuickUpdate(QuickPath):
    """Takes updates in; the answer goes out once they are on disk."""

    def __init__(self, services: Services, limits: WriteLimits, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._access = services.access
        self._ingest = services.ingest
        self._entries = services.entries
        self._update_limits = services.update_limits
        self._limits = limits
        self._clock_ns = clock_ns
        self._endpoint = Endpoint({}, limits.max_message_bytes, Form.TEXT, refusal=REFUSED_WRITE)
        self._headers: dict[int, RawHeaders] = {}
        """Of an answer, by the length of its body."""

    def take(
        self, method: str, query: bytes, headers: Sequence[tuple[bytes, bytes]], body: bytes, answer: Answer
    ) -> bool:
        if method not in ("GET", "POST") or len(body) > self._limits.max_message_bytes or self._ingest.is_full:
            return False
        if body and not is_form(headers, body):
            return False
        try:
            parameters = parse_form(query)
            if body:
                parameters.update(parse_form(body))
            if "talkback_key" in parameters:
                return False
            key = find_key(parameters, headers)
            channel = self._access.channel_of_write_key(key) if key else None
            if channel is None or self._update_limits.of(channel) is not None:
                return False
            update = parse_update(parameters, self._limits, names_of(channel.settings))
            if update.created_at_ns is not None:
                return False
            receipt = self._entries.append(channel, update, self._clock_ns())
        except HeadwaterError:
            return False  # nothing was taken; said again where errors have their form
        number = str(self._entries.last_entry_id(channel.id)).encode()

        def settle(error: Exception | None) -> None:
            if error is None:
                answer(200, self._headers_of(number), number)
                return
            failure = error if isinstance(error, HeadwaterError) else StorageError(str(error))
            response = finished(self._endpoint.render_error(failure))
            answer(response.status_code, tuple(response.raw_headers), bytes(response.body))

        receipt.add_callback(settle)
        return True

    def _headers_of(self, number: bytes) -> RawHeaders:
        headers = self._headers.get(len(number))
        if headers is None:
            response = finished(Response(number, media_type="text/plain"))
            headers = self._headers[len(number)] = tuple(response.raw_headers)
        return headers


def quick_paths(services: Services, settings: Settings) -> Mapping[str, QuickPath]:
    """The one path of this dialect that every device asks all the time."""
    return {"/update": QuickUpdate(services, write_limits(settings))}
