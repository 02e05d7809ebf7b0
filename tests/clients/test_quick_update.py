"""Plain updates go past the application; nobody can tell by the answer."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server import ChannelKeys, Server

FORM = "Content-Type: application/x-www-form-urlencoded\r\n"


def post(server: Server, body: bytes, headers: str = FORM, target: str = "/update") -> tuple[list[str], bytes]:
    """The head of the answer without its date, and the body."""
    request = f"POST {target} HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    head, _, answer = server.raw_call(request.encode() + body).partition(b"\r\n\r\n")
    return re.sub(r"\r\nDate: [^\r]+", "", head.decode()).split("\r\n"), answer


def test_both_ways_answer_alike(server: Server, channel: ChannelKeys) -> None:
    quick = post(server, f"api_key={channel.write_key}&field1=1".encode())
    usual = post(server, f'{{"api_key":"{channel.write_key}","field1":1}}'.encode())
    assert quick == (usual[0], b"1")
    assert usual[1] == b"2"
    assert [feed["field1"] for feed in server.feeds(channel)] == ["1", "1"]


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ("api_key=WRONG&field1=1", FORM, "400 Bad Request"),
        ("field1=1", FORM, "400 Bad Request"),
        ("api_key={key}&field1=%ff", FORM, None),
        ("api_key={key}&field1=" + "1" * 256, FORM, "413 "),
        ("api_key={key}&status=" + "1" * 256, FORM, "413 "),
        ("api_key={key}&field1=" + "1" * 4000, FORM, "413 "),
        ("&".join(f"a{n}=1" for n in range(1100)) + "&api_key={key}", FORM, None),
    ],
)
def test_refusals_are_the_applications(
    server: Server, channel: ChannelKeys, body: str, headers: str, status: str | None
) -> None:
    head, answer = post(server, body.format(key=channel.write_key).encode(), headers)
    assert answer == b"0"
    assert head[0].startswith(f"HTTP/1.1 {status}" if status else "HTTP/1.1 4")
    assert server.feeds(channel) == []


def test_values_as_they_came(server: Server, channel: ChannelKeys) -> None:
    post(
        server,
        b"2=b+c%26&&field3=&4&field1=x",
        f"X-ThingSpeakAPIKey: {channel.write_key}  \r\n",
        "/update?field1=q&5=w",
    )
    feed = server.feeds(channel)[0]
    assert [feed.get(f"field{n}") for n in (1, 2)] == ["x", "b c&"]


def test_an_update_in_the_address(server: Server, channel: ChannelKeys) -> None:
    target = f"/update?api_key={channel.write_key}&field1=a%20b&created_at=2026-01-02T03:04:05Z"
    for path in (target, target.replace("&created_at=2026-01-02T03:04:05Z", "")):
        answer = server.raw_call(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert {feed["field1"] for feed in server.feeds(channel)} == {"a b"}


KEY = "%KEY%"
"""Where the write key of the channel stands in a request."""
NAMES = st.sampled_from(
    [
        *("field1", "1", "field2", "field8", "8", "field9", "9", "field10", "12", "field0", "01", "Field1", ""),
        *("lat", "latitude", "long", "longitude", "elevation", "status", "timezone", "offset", "headers", "callback"),
        *("Temp", "wind speed", 'in "C"', "precision", "a&b", "°", "api_key", "key", "apikey", "talkback_key"),
    ]
)
VALUES = st.sampled_from(
    [*("21.5", "20.50", "nan", "-0", "on", "", " 4 ", "a+b", "%", "&=", "ü", "\0", "1e400", "x" * 255, "x" * 256, KEY)]
) | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
SPELLINGS = st.sampled_from([quote, quote_plus, lambda text: quote(text, safe="%&=+")])
PARTS = st.builds(
    lambda name, value, spell: f"{spell(name)}={KEY if value == KEY else spell(value)}", NAMES, VALUES, SPELLINGS
) | st.sampled_from(["", "=", "field1", "1=%ff", "%ff=1", "field2=%", "created_at=2026-01-02", "created_at=soon"])
FORMS = st.lists(PARTS, max_size=6).map("&".join)


class Sent(NamedTuple):
    """A request for whichever channel."""

    method: str
    query: str
    headers: list[str]
    body: str

    def to(self, channel: ChannelKeys, *more: str) -> bytes:
        """Its bytes."""
        body = self.body.replace(KEY, channel.write_key).encode()
        target = f"/update?{self.query}" if self.query else "/update"
        lines = [f"{self.method} {target} HTTP/1.1", "Host: x", *self.headers, *more, "Connection: close"]
        if body or self.method != "GET":
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).replace(KEY, channel.write_key).encode() + body


@st.composite
def requests(draw: st.DrawFn) -> Sent:
    query, body = draw(FORMS), draw(FORMS | st.just(""))
    headers = draw(
        st.lists(
            st.sampled_from(
                [
                    *("Content-Type: application/x-www-form-urlencoded", "Content-Type: text/plain"),
                    *("Content-Type: application/json", f"THINGSPEAKAPIKEY: {KEY} ", "X-THINGSPEAKAPIKEY: wrong"),
                    f"Authorization: Bearer {KEY}",
                ]
            ),
            max_size=2,
        )
    )
    match draw(st.sampled_from(["query", "body", "header", "as it is"])):
        case "query":
            query += f"&api_key={KEY}"
        case "body":
            body = f"api_key={KEY}&{body}"
        case "header":
            headers.append(f"X-ThingSpeakAPIKey: {KEY}")
    return Sent(draw(st.sampled_from(["GET", "POST", "POST", "PUT"])), query, headers, body)


@pytest.fixture(scope="module")
def twins(server: Server) -> list[tuple[ChannelKeys, ChannelKeys]]:
    """Pairs of channels that are alike: with eight fields, and with more that have names."""
    more = {"field9": 'in "C"', "field12": "wind speed", "field3": "a&b", "field4": "precision", "field5": "lat"}
    return [
        (server.create_channel(**kind), server.create_channel(**kind))  # type: ignore[arg-type]
        for kind in ({}, {**more, "field6": "1", "field7": "°", "fields_by_name": "true"})
    ]


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(requests(), st.integers(0, 1))
def test_any_request_is_answered_and_stored_alike(
    server: Server, twins: list[tuple[ChannelKeys, ChannelKeys]], sent: Sent, which: int
) -> None:
    """The one that waits for 100 Continue is never answered past the application."""
    outcomes = []
    for channel, more in zip(twins[which], ((), ("Expect: 100-continue",)), strict=True):
        answer = server.raw_call(sent.to(channel, *more)).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
        feeds = server.feeds(channel, results=1, status="true", location="true")
        for feed in feeds:
            del feed["created_at"]
        outcomes.append((re.sub(rb"\r\nDate: [^\r]+", b"", answer), feeds))
    assert outcomes[0] == outcomes[1]
