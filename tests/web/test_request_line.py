"""Requests that are not quite HTTP, as devices in the field send them."""

from __future__ import annotations

import re
import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.web.request_line import METHODS, completed, mended
from server import ChannelKeys, Server


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"GET /update?status=all is well HTTP/1.1\r", b"GET /update?status=all%20is%20well HTTP/1.1\r"),
        (b"GET /a b  HTTP/1.0", b"GET /a%20b HTTP/1.0\r"),
        (b"GET /a HTTP/1.1\r", b"GET /a HTTP/1.1\r"),
        (b"GET /a HTTP/1.1", b"GET /a HTTP/1.1\r"),
        (b"GET /a b", b"GET /a b"),
        (b"GET /a b HTTP/2.0\r", b"GET /a b HTTP/2.0\r"),
        (b"PATCH /a b HTTP/1.1\r", b"PATCH /a b HTTP/1.1\r"),
        (b"this is not HTTP at all", b"this is not HTTP at all"),
    ],
)
def test_spaces_in_the_address(line: bytes, expected: bytes) -> None:
    assert mended(line) == expected


@given(st.from_regex(rb"(GET|PUT|get) {0,3}/? {0,3}[/a\r\n]{0,3} {0,3}(HTTP/1\\.[012])?\r? {0,2}", fullmatch=True))
def test_as_a_pattern_would(line: bytes) -> None:
    """Which takes the square of its length, and so is good for tests alone."""
    found = re.fullmatch(rb"(GET|PUT) (/.*?) +(HTTP/1\.[01])\r?", line, re.DOTALL)
    expected = line if found is None else b"%b %b %b\r" % (found[1], found[2].replace(b" ", b"%20"), found[3])
    assert mended(line) == expected


def test_a_long_line_of_spaces_takes_no_time() -> None:
    """Everybody else waits for it: a pattern took twelve seconds."""
    line = b"GET /" + b" " * 60_000 + b"x\r"
    began_s = time.process_time()
    assert mended(line) == line
    assert time.process_time() - began_s < 1


@given(st.binary(max_size=80))
def test_no_other_line_is_touched(line: bytes) -> None:
    assert mended(line) == line or line.startswith(METHODS)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"GET /a\r\n", b"GET /a HTTP/1.0\r\n\r\n"),
        (b"GET /a\n", b"GET /a HTTP/1.0\r\n\r\n"),
        (b"GET /a \r\n\r\n", b"GET /a HTTP/1.0\r\n\r\n"),
        (b"GET /a\r\nHost: x\r\n\r\n", None),
        (b"GET /a\r\nGET /b HTTP/1.1\r\n\r\n", None),
        (b"GET /a HTTP/1.1\r\n", None),
        (b"GET /a b\r\n", None),
        (b"POST /a\r\n", None),
        (b"\r\n\nGET /a\r\n", b"GET /a HTTP/1.0\r\n\r\n"),
        (b"GET https://x/a?b\r\n", b"GET https://x/a?b HTTP/1.0\r\n\r\n"),
        (b"\r\n", None),
        (b"\r\nGET /a", None),
    ],
)
def test_one_line_without_a_version(data: bytes, expected: bytes | None) -> None:
    assert completed(data) == expected


@pytest.mark.parametrize("end", [b"\r\n", b"\r\n\r\n", b"\n", b"\r|\n|\r\n"], ids=["line", "two lines", "LF", "pieces"])
def test_modems_send_one_line(server: Server, channel: ChannelKeys, end: bytes) -> None:
    """`AT+CIPSEND` of an ESP-01: no version, no headers."""
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=20) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in (update(channel, b"&field1=22") + end).split(b"|"):
            client.sendall(piece)
        answer = b""
        while chunk := client.recv(65_536):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n1")
    assert [entry["field1"] for entry in server.feeds(channel)] == ["22"]


def update(channel: ChannelKeys, rest: bytes) -> bytes:
    return b"GET /update?api_key=" + channel.write_key.encode() + rest


@pytest.mark.parametrize(
    "rest",
    [
        b"&field1=1&status=all is well HTTP/1.1\r\nHost: api.thingspeak.com\r\nConnection: close\r\n\r\n",
        b"&field1=1&status=all is well HTTP/1.1\nHost: api.thingspeak.com\nConnection: close\n\n",
        b"&field1=1&status=all%20is%20well HTTP/1.0\n\n",
    ],
)
def test_rough_requests_are_answered(server: Server, channel: ChannelKeys, rest: bytes) -> None:
    answer = server.raw_call(update(channel, rest))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n1")
    (entry,) = server.feeds(channel, status="true")
    assert (entry["field1"], entry["status"]) == ("1", "all is well")


@pytest.mark.parametrize("size", [1, 7])
def test_a_line_may_come_in_pieces(server: Server, channel: ChannelKeys, size: int) -> None:
    request = update(channel, b"&field1=1&status=all is well HTTP/1.1\nHost: x\nConnection: close\n\n")
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=20) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(request), size):
            client.sendall(request[start : start + size])
        answer = b""
        while chunk := client.recv(65_536):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert server.feeds(channel, status="true")[0]["status"] == "all is well"


def test_on_a_connection_that_is_kept(server: Server, channel: ChannelKeys) -> None:
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=20) as client:
        for number in range(1, 4):
            client.sendall(update(channel, b"&status=it is %d HTTP/1.1\r\nHost: x\r\n\r\n" % number))
            answer = client.recv(65_536)
            while not answer.partition(b"\r\n\r\n")[2]:
                answer += client.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert answer.endswith(b"\r\n\r\n%d" % number)
    assert [entry["status"] for entry in server.feeds(channel, status="true")] == ["it is 1", "it is 2", "it is 3"]


def test_post_with_line_feeds_alone(server: Server, channel: ChannelKeys) -> None:
    body = b"field1=7&api_key=%b " % channel.write_key.encode()
    head = b"POST /update HTTP/1.1\nHost: x\nContent-Type: text/html\nContent-Length: %d\nConnection: close\n\n" % len(
        body
    )
    assert server.raw_call(head + body).endswith(b"\r\n\r\n1")


@pytest.mark.parametrize(
    "body", [b"5;a\nhello\r\n0\r\n\r\n", b"5\r\nhello\n0\r\n\r\n", b"5\r\nhello\r\n0\r\nX: y\n\r\n"]
)
def test_between_chunks_a_line_ends_as_http_says(server: Server, body: bytes) -> None:
    """What a proxy in front takes for one request must not be two here."""
    head = b"POST /update HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    inner = b"GET /update HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert server.raw_call(head + body + inner).count(b"HTTP/1.1 ") < 2


def test_after_chunks_lines_may_end_with_line_feeds_again(server: Server) -> None:
    head = b"POST /update HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\n5\r\nhello\r\n0\r\n\r\n"
    inner = b"GET /update HTTP/1.1\r\nHost: x\nConnection: close\n\n"
    assert server.raw_call(head + inner).count(b"HTTP/1.1 400") == 2


def pipelined(channel: ChannelKeys) -> tuple[bytes, list[str]]:
    """Rough requests behind one another, and the statuses that they give."""
    body = b"status=%0A%0AGET /no x HTTP/1.1&api_key=" + channel.write_key.encode()
    raw_body = b"\n\nGET /nothing here HTTP/1.1\n\n&api_key=" + channel.write_key.encode() + b"&status=of a body"
    post = b"POST /update HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"
    requests = [
        b"\r\n" + update(channel, b"&status=it is 1 HTTP/1.1\r\nHost: x\r\n\r\n"),
        update(channel, b"&status=it is 2 HTTP/1.1\nHost: x\n\n"),
        post % (len(body), body),
        b"\r\n\r\n" + update(channel, b"&status=it is 4 HTTP/1.1\r\nHost: x\r\n\r\n"),
        post % (len(raw_body), raw_body),
        update(channel, b"&status=it is 6 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
    ]
    statuses = ["it is 1", "it is 2", "\n\nGET /no x HTTP/1.1", "it is 4", "of a body", "it is 6"]
    return b"".join(requests), statuses


@pytest.mark.parametrize("size", [1, 3, 50, 10_000])
def test_behind_one_another(server: Server, channel: ChannelKeys, size: int) -> None:
    """However they are cut, each line is looked at, and nothing within a body."""
    request, statuses = pipelined(channel)
    answer = b""
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=20) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(request), size):
            client.sendall(request[start : start + size])
        while chunk := client.recv(65_536):
            answer += chunk
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == answer.count(b"HTTP/1.1 ") == len(statuses)
    assert [entry["status"] for entry in server.feeds(channel, status="true")] == statuses


def test_empty_lines_without_end_are_no_request(server: Server) -> None:
    """They keep no connection open, and take no memory."""
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=20) as client:
        client.sendall(b"\r\n" * 100_000)
        client.sendall(b"\r\nGET /no such page HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert client.recv(65_536).startswith(b"HTTP/1.1 404 ")


def test_too_many_behind_one_another(server: Server, channel: ChannelKeys) -> None:
    one = update(channel, b"&status=a b HTTP/1.1\r\nHost: x\r\n\r\n")
    began_s = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=20) as client:
        try:
            client.sendall(one * 2_000)
            while client.recv(65_536):
                pass
        except (ConnectionResetError, BrokenPipeError):
            pass
    assert time.monotonic() - began_s < 10
    assert len(server.feeds(channel)) < 2_000
