"""Forms with a file in them, as browsers send them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import BadRequest, HeadwaterError, TooLarge
from headwater.web.console.uploads import MAX_PARTS, MAX_VALUE_BYTES, parse_upload


def part(name: str, content: bytes, file_name: str | None = None) -> bytes:
    head = f'--x\r\nContent-Disposition: form-data; name="{name}"'
    if file_name is not None:
        head += f'; filename="{file_name}"\r\nContent-Type: text/csv'
    return head.encode() + b"\r\n\r\n" + content + b"\r\n"


@given(st.binary(max_size=200).filter(lambda content: b"\r\n--x" not in content))
def test_a_file_comes_through_byte_by_byte(content: bytes) -> None:
    body = part("csrf", b"token") + part("file", content, "a.csv") + part("zone", "Århus".encode()) + b"--x--\r\n"
    form, file = parse_upload(body, b"x")
    assert file == content
    assert (form.text("csrf"), form.text("zone")) == ("token", "Århus")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--x\r\n",
        part("a", b"b"),
        b"--x\r\nContent-Type: text/plain\r\n\r\n1\r\n--x--",
        part("a", b"\xff") + b"--x--",
        part("a", b"1") * (MAX_PARTS + 1) + b"--x--",
    ],
)
def test_what_is_no_such_form(body: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_upload(body, b"x")


def test_a_value_has_a_limit() -> None:
    with pytest.raises(TooLarge):
        parse_upload(part("a", b"1" * (MAX_VALUE_BYTES + 1)) + b"--x--", b"x")


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(HeadwaterError):
        parse_upload(body, b"x")
