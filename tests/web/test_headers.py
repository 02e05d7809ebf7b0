"""Heads of answers, as bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.web.headers import Head, Heads, title_case

NOW_S = 1_767_323_045.9
DATE = b"Date: Fri, 02 Jan 2026 03:04:05 GMT\r\n"


def render(*headers: tuple[bytes, bytes], status: int = 200, method: str = "GET", keep_alive: bool = True) -> Head:
    return Heads(lambda: NOW_S).render(status, headers, method=method, keep_alive=keep_alive)


def test_names_are_in_title_case_and_a_date_is_there() -> None:
    head = render((b"content-length", b"5"), (b"x-frame-options", b"DENY"))
    assert head.rendered == b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Frame-Options: DENY\r\n" + DATE + b"\r\n"
    assert head[1:] == (True, False, 5)


def test_without_a_length_the_body_is_chunked() -> None:
    head = render((b"content-type", b"text/event-stream"))
    assert b"Transfer-Encoding: chunked\r\n" in head.rendered
    assert head.is_chunked
    assert not render(method="HEAD").is_chunked
    assert not render(status=204).is_chunked
    assert not render(status=304).is_chunked


def test_the_end_of_a_connection_is_announced_once() -> None:
    for head in (
        render(keep_alive=False),
        render((b"connection", b"close")),
        render((b"connection", b"foo, Close")),
        render(status=413),
    ):
        assert head.rendered.lower().count(b"connection:") == 1
        assert not head.keeps_alive
    assert render((b"connection", b"keep-alive")).keeps_alive


def test_a_date_that_is_given_stays() -> None:
    assert render((b"date", b"then")).rendered.count(b"Date") == 1


def test_status_lines() -> None:
    assert render(status=404).rendered.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert render(status=499).rendered.startswith(b"HTTP/1.1 499 \r\n")


@pytest.mark.parametrize("value", [b"a\r\nSet-Cookie: x", b"a\nb", b"a\0"])
def test_no_value_breaks_out_of_its_line(value: bytes) -> None:
    with pytest.raises(ValueError, match="control character"):
        render((b"location", value))


@given(st.from_regex(rb"[a-z0-9]+(-[a-z0-9]+){0,3}", fullmatch=True))
def test_title_case_changes_case_only(name: bytes) -> None:
    spelled = title_case(name)
    assert spelled.lower() == name
    assert title_case(spelled) == spelled
    assert all(part[:1] == part[:1].upper() for part in spelled.split(b"-"))


def test_repeated_heads_are_the_same_and_have_the_right_date() -> None:
    now_s = 1_000_000_000.0
    heads = Heads(lambda: now_s)
    headers = ((b"content-length", b"3"), (b"x-one", b"1"))
    for _ in range(3):
        for keep_alive in (True, False):
            rendered = heads.render(200, headers, method="GET", keep_alive=keep_alive)
            assert heads.render_repeated(200, headers, method="GET", keep_alive=keep_alive) == rendered
        now_s += 0.6
