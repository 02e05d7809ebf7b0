"""Reading forms with a file in them (RFC 7578), whole and in memory. Knows what a part is, not what any file means."""

from __future__ import annotations

import re

from starlette.requests import Request

from headwater.errors import BadRequest, TooLarge
from headwater.web.console.forms import Form, read_form

MAX_PARTS = 32
MAX_VALUE_BYTES = 4096
"""Of a part that is no file."""
_TYPE = "multipart/form-data"
_BOUNDARY = re.compile(r'boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_NAME = re.compile(rb';\s*name="([^"]*)"', re.IGNORECASE)
_FILE_NAME = re.compile(rb';\s*filename="', re.IGNORECASE)


async def read_upload(request: Request, max_form_bytes: int) -> tuple[Form, bytes]:
    """The form of a request and the file in it, empty when there is none. Raises BadRequest, and TooLarge."""
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != _TYPE:
        return await read_form(request, max_form_bytes), b""
    boundary = _BOUNDARY.search(content_type)
    if boundary is None:
        raise BadRequest("The form does not say where its parts end.")
    return parse_upload(await request.body(), (boundary[1] or boundary[2]).encode("latin-1"))


def parse_upload(body: bytes, boundary: bytes) -> tuple[Form, bytes]:
    """The values and the file in the body of a form with parts."""
    parts = (b"\r\n" + body).split(b"\r\n--" + boundary, MAX_PARTS + 1)
    if len(parts) < 2 or not parts[-1].startswith(b"--"):
        raise BadRequest(f"The form has no end, or more than {MAX_PARTS} parts.")
    values: dict[str, list[str]] = {}
    file = b""
    for part in parts[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        name = _NAME.search(head)
        if name is None:
            raise BadRequest("A part of the form has no name.")
        if _FILE_NAME.search(head):
            file = content
            continue
        if len(content) > MAX_VALUE_BYTES:
            raise TooLarge(f"A value of the form has more than {MAX_VALUE_BYTES} bytes.")
        try:
            values.setdefault(name[1].decode(), []).append(content.decode())
        except UnicodeDecodeError as error:
            raise BadRequest("The form is not UTF-8 text.") from error
    return Form(values), file
