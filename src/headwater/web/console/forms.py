"""Reading forms: bytes to text values, within limits. Knows what a form is, not what any form means."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from starlette.requests import Request

from headwater.errors import BadRequest, TooLarge

MAX_FORM_FIELDS = 20_100
"""Two check boxes for each of 10,000 channels, and some more."""
ID_MAX = 2**63 - 1
"""The largest id a registry can hold."""
_DRAIN_FACTOR = 16
"""How much of an oversized form is read and thrown away, so that the browser hears the answer instead of a reset."""
_FORM_TYPE = "application/x-www-form-urlencoded"
_ID = re.compile(r"[0-9]{1,19}")


@dataclass(frozen=True, slots=True)
class Form:
    """The values of a submitted form; what was not sent is empty."""

    values: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """The one value, without blanks around it, with plain line ends."""
        return self.exact(name).strip()

    def exact(self, name: str) -> str:
        """The one value as typed: for passwords. Line ends are still made plain."""
        values = self.values.get(name, ())
        if len(values) > 1:
            raise BadRequest(f"The form has more than one {name}.")
        return values[0].replace("\r\n", "\n") if values else ""

    def has(self, name: str) -> bool:
        """Whether the form sent this at all: a ticked check box, or an input however empty."""
        return name in self.values

    def ids(self, name: str) -> frozenset[int]:
        """The ids of all ticked check boxes of this name."""
        return frozenset(parse_id(value) for value in self.values.get(name, ()))


def parse_id(text: str) -> int:
    """An id as it stands in a form; BadRequest when it cannot be one."""
    if not _ID.fullmatch(text) or int(text) > ID_MAX:
        raise BadRequest("The form names something that cannot be an id.")
    return int(text)


def parse_form(body: bytes) -> Form:
    """The form in a URL-encoded body."""
    try:
        pairs = parse_qsl(
            body.decode("utf-8"),
            keep_blank_values=True,
            encoding="utf-8",
            errors="strict",
            max_num_fields=MAX_FORM_FIELDS,
        )
    except UnicodeDecodeError as error:
        raise BadRequest("The form is not UTF-8 text.") from error
    except ValueError as error:
        raise TooLarge(f"The form has more than {MAX_FORM_FIELDS} values.") from error
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return Form(values)


async def read_form(request: Request, max_bytes: int) -> Form:
    """The form of a request. Raises BadRequest for another content type, TooLarge above `max_bytes`."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != _FORM_TYPE:
        raise BadRequest(f"Forms must be sent as {_FORM_TYPE}.")
    body = bytearray()
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= max_bytes:
            body += chunk
        elif size > max_bytes * _DRAIN_FACTOR:
            break
    if size > max_bytes:
        raise TooLarge(f"The form is larger than {max_bytes // 1024} KiB.")
    return parse_form(bytes(body))
