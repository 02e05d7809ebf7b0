"""Stored requests and the values that are filled in."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import BadRequest
from headwater.services.outbound_checks import check_request
from headwater.services.request_template import RequestTemplate, check_template, fill

URL = "https://example.com/a/%%one%%?q=%%two%%&r=1#%%one%%"


def template(**values: Any) -> RequestTemplate:
    return RequestTemplate(**{"url": "https://example.com/"} | values)


def test_everything_that_is_entered_is_sent() -> None:
    made = template(
        url=URL,
        method="PUT",
        username="ada",
        password="secret",
        content_type="text/plain",
        host="inner.example",
        headers=(("X-A", "<%%one%%>"),),
        body="%%two%% and %%three%%",
    )
    check_template(made)
    request = fill(made, {"one": "1/2", "two": "a&b=c"})
    assert request.method == "PUT"
    assert request.url == "https://example.com/a/1%2F2?q=a%26b%3Dc&r=1#%%one%%"
    assert request.headers == (("X-A", "<1/2>"), ("Content-Type", "text/plain"), ("Host", "inner.example"))
    assert request.body == b"a&b=c and %%three%%"
    assert (request.username, request.password) == ("ada", "secret")


def test_which_places_stand_for_fields() -> None:
    made = template(
        url="https://example.com/%%channel_7_field_1%%",
        headers=(("A", "%%channel_8_field_2%%"),),
        body="%%channel_9_field3%% %%datetime%% 100%% %%channel_7_field_1%%",
    )
    assert made.fields() == {
        "channel_7_field_1": (7, 1),
        "channel_8_field_2": (8, 2),
        "channel_9_field3": (9, 3),
    }
    assert made.places() == {*made.fields(), "datetime"}


@given(st.text(max_size=60))
def test_no_value_changes_whom_or_what_a_request_asks(value: str) -> None:
    value = value.encode("utf-8", "replace").decode()
    made = template(url="https://example.com/a/%%v%%/b?q=%%v%%&r=1", headers=(("X-A", "%%v%%"),), body="%%v%%")
    request = fill(made, {"v": value})
    parts = urlsplit(request.url)
    assert parts.netloc == "example.com"
    assert parts.path.count("/") == 3
    assert len(parse_qsl(parts.query, keep_blank_values=True)) == 2
    assert not {"..", "."} & set(parts.path.split("/"))
    assert not set("\r\n\x00") & set(request.headers[0][1])
    assert check_request(request, 10_000).host == "example.com"


@given(st.text(max_size=60))
def test_a_value_stays_one_value_in_the_body(value: str) -> None:
    value = value.encode("utf-8", "replace").decode()
    as_json = fill(template(content_type="application/json", body='{"a":"%%v%%"}'), {"v": value})
    assert json.loads(as_json.body) == {"a": value}
    as_form = fill(template(content_type="application/x-www-form-urlencoded", body="a=%%v%%&b=1"), {"v": value})
    assert parse_qsl(as_form.body.decode(), keep_blank_values=True) == [("a", value), ("b", "1")]
    untyped = fill(template(body='{"a":"%%v%%"}'), {"v": value}), fill(template(body="a=%%v%%&b=1"), {"v": value})
    assert [request.body for request in untyped] == [as_json.body, as_form.body]
    by_header = template(headers=(("content-type", "text/xml"),), body="<a>%%v%%</a>")
    assert b"<b>" not in fill(by_header, {"v": f"<b>{value}"}).body


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"url": ""}, "http://"),
        ({"url": "ftp://example.com"}, "http://"),
        ({"url": "http://user:pass@example.com"}, "user name"),
        ({"url": "http://%%channel_1_field_1%%/"}, "behind the host"),
        ({"url": "%%channel_1_field_1%%"}, "behind the host"),
        ({"url": "http://example.com%%channel_1_field_1%%"}, "behind the host"),
        ({"url": "http://example.com:%%port%%/"}, "behind the host"),
        ({"url": "http://example.com/" + "a" * 5000}, "URL"),
        ({"method": "TRACE"}, "method"),
        ({"method": "get"}, "method"),
        ({"http_version": "2"}, "HTTP version"),
        ({"headers": (("X", "a\r\nb"),)}, "header X"),
        ({"headers": (("X Y", "a"),)}, "header"),
        ({"headers": (("X", "a"),) * 17}, "16 headers"),
        ({"headers": (("Content-Length", "1"),)}, "Content-Length"),
        ({"content_type": "text/plain\n"}, "content type"),
        ({"host": "a/b"}, "Host"),
        ({"username": "a:b"}, "colon"),
        ({"password": "a\x00"}, "password"),
        ({"body": "x" * 20_000}, "body"),
        ({"body": "\x00"}, "body"),
        ({"body": " ".join(f"%%place{n}%%" for n in range(21))}, "20 different"),
        ({"parse_string": "//xpath"}, "XPath"),
    ],
)
def test_what_could_never_be_sent_is_refused(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRequest, match=reason):
        check_template(template(**values))


def test_no_secret_shows() -> None:
    made = template(url="https://example.com/?key=hidden", password="hidden", body="hidden", headers=(("A", "hidden"),))
    assert "hidden" not in repr(made)
