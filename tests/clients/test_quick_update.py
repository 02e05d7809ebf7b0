"""Plain updates go past the application; nobody can tell by the answer."""

from __future__ import annotations

import re

import pytest

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
