"""Bad input on real sockets: each is answered as the specification says, and disturbs nobody else.

What is meant to do harm to the MQTT broker is in `tests/hostile`.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headwater.mqtt.encode import render_packet, render_remaining_length
from headwater.mqtt.packets import Connect, Publish, Subscribe, Subscription
from server import ADMIN_TOKEN, ChannelKeys, Server, running_server, wait_until

GROWTH_LIMIT_BYTES = 20_000_000


@pytest.fixture
def bystander(server: Server, channel: ChannelKeys) -> Iterator[Callable[[], None]]:
    """A client that was connected before; afterwards it publishes, and must be acknowledged in good time."""
    with server.mqtt_client() as client:
        numbers = iter(range(1, 1_000))

        def check() -> None:
            started_s = time.monotonic()
            server.publish_acknowledged(client, f"channels/{channel.id}/publish", b"field1=1", next(numbers))
            assert time.monotonic() - started_s < 1

        check()
        yield check
        check()


def answer_of(client: socket.socket) -> bytes:
    """Everything the server says until it closes."""
    answer = b""
    try:
        while chunk := client.recv(4_096):
            answer += chunk
    except ConnectionResetError:
        pass
    return answer


def memory_bytes(server: Server) -> int:
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1_024 for line in lines if line.startswith("VmRSS:"))


CONNECT = render_packet(Connect("x", username="u", password=ADMIN_TOKEN.encode()))


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b""),
        (b"\x30\xff\xff\xff\x7f", b""),
        (b"\x00\x00", b""),
        (b"\x10\xff\xff\xff\xff\x7f", b""),
        (b"\x10\xff\xff\xff\x7f", b""),
        (CONNECT.replace(b"MQTT", b"MQTX"), b""),
        (CONNECT.replace(b"MQTT\x04", b"MQTT\x06"), b"\x20\x03\x00\x84\x00"),
        (CONNECT.replace(b"MQTT\x04", b"MQTT\x02"), b"\x20\x02\x00\x01"),
        (CONNECT.replace(b"MQTT\x04\xc2", b"MQTT\x04\xc3"), b""),
        (render_packet(Connect("", clean_session=False)), b"\x20\x02\x00\x02"),
        (render_packet(Connect("x" * 129)), b"\x20\x02\x00\x02"),
        (render_packet(Connect("x", username="u", password=b"wrong")), b"\x20\x02\x00\x05"),
        (CONNECT + CONNECT, b"\x20\x02\x00\x00"),
    ],
    ids=[
        "HTTP", "PUBLISH first", "reserved type", "five length bytes", "CONNECT of 256 MB", "wrong protocol name",
        "level 6", "level 2", "reserved flag", "empty id to keep", "long id", "wrong password",
        "second CONNECT",
    ],
)  # fmt: skip
def test_first_packets(server: Server, bystander: Callable[[], None], sent: bytes, answer: bytes) -> None:
    with server.mqtt_socket() as client:
        client.sendall(sent)
        assert answer_of(client) == answer


@pytest.mark.parametrize(
    "sent",
    [
        b"\x30\x00",
        b"\x30\x03\x00\x05a",
        b"\x36\x05\x00\x01a\x00\x01",
        b"\x38\x03\x00\x01a",
        b"\x32\x05\x00\x01a\x00\x00",
        b"\x32\x03\x00\x01a",
        render_packet(Publish("channels/+/publish", b"field1=1")),
        b"\x30\x06\x00\x02\xc3\x28hi",
        b"\x30\x05\x00\x03a\x00b",
        b"\x30\x05\x00\x03\xed\xa0\x80",
        render_packet(Publish("a" * 2_000, b"")),
        render_packet(Publish("/".join("a" * 40), b"")),
        b"\x30" + render_remaining_length(300_000) + b"\x00\x01a",
        b"\x80\x06\x00\x01\x00\x01a\x00",
        b"\x82\x02\x00\x01",
        b"\x82\x06\x00\x01\x00\x01a\x03",
        b"\x82\x06\x00\x00\x00\x01a\x00",
        b"\x82\x09\x00\x01\x00\x04#/ab\x00",
        b"\xc0\x01\x00",
        b"\xc1\x00",
        b"\x20\x02\x00\x00",
        b"\xd0\x00",
        b"\xf0\x00",
        b"\x00\x00",
        b"\x50\x02\x00\x00",
    ],
    ids=[
        "PUBLISH without topic", "topic beyond packet", "QoS 3", "DUP with QoS 0", "packet id 0", "no packet id",
        "wildcard in topic", "non-UTF-8 topic", "NUL in topic", "surrogate in topic", "long topic", "deep topic",
        "oversized packet", "SUBSCRIBE flags", "SUBSCRIBE without filter", "SUBSCRIBE QoS 3", "SUBSCRIBE id 0",
        "bad filter", "PINGREQ with body", "PINGREQ flags", "CONNACK from client", "PINGRESP from client", "AUTH",
        "type 0", "PUBREC with id 0",
    ],
)  # fmt: skip
def test_packets_that_end_the_connection(server: Server, bystander: Callable[[], None], sent: bytes) -> None:
    with server.mqtt_client() as client:
        client.sendall(sent)
        assert answer_of(client) == b""


def test_truncated_packet_waits_and_harms_nobody(server: Server, bystander: Callable[[], None]) -> None:
    packet = render_packet(Publish("channels/1/publish", b"field1=1", 1, 7))
    with server.mqtt_client() as client:
        client.sendall(packet[:-3])
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)
        bystander()


def test_a_client_that_never_sends_connect_is_dropped(data, tmp_path) -> None:  # type: ignore[no-untyped-def]
    with running_server(data, HEADWATER_MQTT_CONNECT_TIMEOUT_S="0.3") as server:
        with server.mqtt_socket() as silent, server.mqtt_socket() as slow:
            slow.sendall(CONNECT[:5])
            started_s = time.monotonic()
            assert answer_of(silent) == b""
            assert answer_of(slow) == b""
            assert 0.2 < time.monotonic() - started_s < 30
        assert "no CONNECT in time" in server.log


class TestUpdates:
    """Over MQTT 3.1.1 nothing can be refused aloud: nothing is stored, and the owner reads why."""

    @pytest.mark.parametrize(
        ("topic", "payload", "reason"),
        [
            ("channels/{id}/publish", b"field1=" + b"x" * 3_000, "3007 bytes"),
            ("channels/{id}/publish", b"field1=" + b"x" * 256, "field1 has more than 255 bytes"),
            ("channels/{id}/publish/fields/field2", b"x" * 256, "field2 has more than 255 bytes"),
            ("channels/{id}/publish", b"field1=\xff\xfe", "not UTF-8"),
            ("channels/{id}/publish", b'{"field1":1}', "has none of field1"),
            ("channels/{id}/publish/fields/field9", b"1", "none of channels"),
            ("channels/{id}/subscribe", b"field1=1", "none of channels"),
            ("channels/99999999/publish", b"field1=1", "no channel 99999999"),
            ("channels/9999999999999999999999/publish", b"field1=1", "none of channels"),
            ("channels/{id}/publish/0123456789ABCDEF", b"field1=1", "not the channel's write key"),
            ("somewhere/else", b"1", "no right to publish"),
            ("$SYS/broker", b"1", "no right to publish"),
        ],
    )
    def test_refused_publish(
        self, server: Server, channel: ChannelKeys, bystander: None, topic: str, payload: bytes, reason: str
    ) -> None:
        device = server.create_device([channel], name=f"refused {reason}")
        with server.mqtt_client(device) as client:
            server.publish_acknowledged(client, topic.format(id=channel.id), payload)
        assert {entry["field1"] for entry in server.feeds(channel)} <= {"1"}  # the bystander's
        shown = server.visit("/devices").body.decode()
        assert reason.replace("'", "&#39;") in shown

    @pytest.mark.parametrize(("path", "body"), [("/update", b"0"), ("/update.json", None)])
    @pytest.mark.parametrize("size", [256, 2_990, 3_000])
    def test_field_too_long_over_rest(
        self, server: Server, channel: ChannelKeys, path: str, body: bytes | None, size: int
    ) -> None:
        answer = server.call("POST", path, "field1=" + "x" * size, api_key=channel.write_key)
        assert answer.status == 413
        if body is None:
            assert answer.json()["error"]["error_code"] == "error_request_too_large"
        else:
            assert answer.body == body
        assert server.feeds(channel) == []

    @pytest.mark.parametrize(
        ("body", "content_type"),
        [
            (b"field1=%ff%fe", "application/x-www-form-urlencoded"),
            (b"\xff\xfe", "application/x-www-form-urlencoded"),
            (b'{"field1":"\\ud800"}', "application/json"),
            (b'{"field1":"\xff"}', "application/json"),
        ],
        ids=["bad percent", "not UTF-8", "surrogate", "JSON of other bytes"],
    )
    def test_bodies_that_are_no_text(
        self, server: Server, channel: ChannelKeys, body: bytes, content_type: str
    ) -> None:
        answer = server.call("POST", "/update.json", body, {"Content-Type": content_type}, api_key=channel.write_key)
        assert answer.status == 422
        assert answer.json()["error"]["error_code"] == "error_invalid_byte_sequence"
        plain = server.call("POST", "/update", body, {"Content-Type": content_type}, api_key=channel.write_key)
        assert (plain.status, plain.body) == (422, b"0")
        assert server.feeds(channel) == []

    @pytest.mark.parametrize(
        ("body", "content_type"),
        [
            (b'{"field1":', "application/json"),
            (b"[" * 2_000, "application/json"),
            (b"&".join([b"a"] * 1_100), "application/x-www-form-urlencoded"),
        ],
        ids=["cut JSON", "deep JSON", "many parameters"],
    )
    def test_bad_bodies(self, server: Server, channel: ChannelKeys, body: bytes, content_type: str) -> None:
        answer = server.call("POST", "/update.json", body, {"Content-Type": content_type}, api_key=channel.write_key)
        assert answer.status == 400
        assert answer.json()["error"]["error_code"] == "error_bad_request"
        assert server.feeds(channel) == []

    @pytest.mark.parametrize(
        "body", [b"field1=%ff%fe", b"field1=\xff\xfe", b'{"field1":"\xff"}'], ids=["percent", "raw", "JSON"]
    )
    def test_what_is_not_utf_8(self, server: Server, channel: ChannelKeys, body: bytes) -> None:
        for path in ("/update.json", "/channels.json", "/update"):
            answer = server.call("POST", path, body, api_key=channel.write_key)
            assert answer.status == 422
            if path == "/update":
                assert answer.body == b"0"
            else:
                error = answer.json()["error"]
                assert (error["error_code"], error["message"]) == (
                    "error_invalid_byte_sequence",
                    "Unprocessable Entity",
                )
        below = f"/channels/{channel.id}"
        key = channel.write_key.encode()
        for path, bulk in (
            (".json", b'{"write_api_key":"%b","updates":[{"created_at":"2026-01-01","field1":"\xff"}]}' % key),
            (".csv", b"write_api_key=%b&time_format=relative&updates=0,%%ff" % key),
        ):
            assert server.call("POST", f"{below}/bulk_update{path}", bulk).status == 422
        assert server.call("GET", f"{below}/feeds.json?api_key={channel.read_key}&start=%ff").status == 422
        assert server.feeds(channel) == []


class TestHttp:
    def test_a_body_of_100_mb_is_not_kept(self, server: Server, channel: ChannelKeys, bystander: None) -> None:
        before = memory_bytes(server)
        head = f"POST /update?api_key={channel.write_key} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n"
        with socket.create_connection(("127.0.0.1", server.http_port), timeout=20) as client:
            client.sendall(head.encode())
            try:
                for _ in range(100):
                    client.sendall(bytes(1_000_000))
            except (ConnectionResetError, BrokenPipeError):
                pass
            answer = answer_of(client)
        assert answer.startswith(b"HTTP/1.1 413 ") or answer == b""
        assert memory_bytes(server) - before < GROWTH_LIMIT_BYTES

    def test_the_answer_comes_before_the_body(self, server: Server, channel: ChannelKeys) -> None:
        """A client that asks first (`Expect: 100-continue`) never has to send what would be refused."""
        head = (
            f"POST /update?api_key={channel.write_key} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
            "Content-Length: 100000000\r\n\r\n"
        )
        answer = server.raw_call(head.encode())
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert answer.endswith(b"\r\n\r\n0")

    def test_an_endless_head_is_cut(self, server: Server, bystander: None) -> None:
        with socket.create_connection(("127.0.0.1", server.http_port), timeout=20) as client:
            client.sendall(b"GET / HTTP/1.1\r\n")
            try:
                for n in range(100):
                    client.sendall(b"X-%d: " % n + b"a" * 8_000 + b"\r\n")
            except (ConnectionResetError, BrokenPipeError):
                pass
            assert answer_of(client)[:12] in (b"HTTP/1.1 431", b"")

    def test_a_head_that_never_ends_times_out(self, data) -> None:  # type: ignore[no-untyped-def]
        with running_server(data, HEADWATER_WEB_HEADER_TIMEOUT_S="0.3") as server:
            assert server.raw_call(b"GET / HTTP/1.1\r\nHost: x\r\n").startswith(b"HTTP/1.1 408 ")

    def test_a_flood_of_requests_at_once_is_not_kept(self, server: Server, bystander: None) -> None:
        before = memory_bytes(server)
        with socket.create_connection(("127.0.0.1", server.http_port), timeout=20) as client:
            try:
                for _ in range(50):
                    client.sendall(b"GET /update HTTP/1.1\r\nHost: x\r\n\r\n" * 20_000)
            except (ConnectionResetError, BrokenPipeError):
                pass
        assert memory_bytes(server) - before < GROWTH_LIMIT_BYTES

    def test_endless_trailers_are_not_kept(self, server: Server, bystander: None) -> None:
        before = memory_bytes(server)
        with socket.create_connection(("127.0.0.1", server.http_port), timeout=20) as client:
            client.sendall(b"POST /update HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                client.sendall(b"a: b\r\n" * 10_000_000)
        assert memory_bytes(server) - before < GROWTH_LIMIT_BYTES

    def test_an_answer_that_nobody_reads_is_given_up(self, data) -> None:  # type: ignore[no-untyped-def]
        with (
            running_server(data, HEADWATER_WEB_WRITE_TIMEOUT_S="0.3", HEADWATER_WEB_MAX_CONNECTIONS="1") as server,
            socket.socket() as client,
        ):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            client.connect(("127.0.0.1", server.http_port))
            client.setblocking(False)

            def is_given_up() -> bool:
                try:  # ever more answers, until the server has no place for them
                    client.send(b"GET /static/headwater.css HTTP/1.1\r\nHost: x\r\n\r\n")
                except BlockingIOError:
                    pass
                except (ConnectionResetError, BrokenPipeError):
                    return True
                return False

            wait_until(is_given_up, 20, "the connection to be given up")
            assert server.call("GET", "/ca.crt").status == 200

    def test_closed_in_the_middle(self, server: Server, channel: ChannelKeys, bystander: None) -> None:
        for part in (b"POST /up", b"POST /update HTTP/1.1\r\nContent-Length: 100\r\n\r\nfield1="):
            with socket.create_connection(("127.0.0.1", server.http_port)) as client:
                client.sendall(part)

    def test_plain_http_on_the_tls_port(self, server: Server, bystander: None) -> None:
        with socket.create_connection(("127.0.0.1", server.https_port), timeout=10) as client:
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert b"200" not in answer_of(client)


def test_one_bad_filter_does_not_refuse_the_others(server: Server, channel: ChannelKeys) -> None:
    filters = (f"channels/{channel.id}/subscribe", "channels/99999999/subscribe", "$nobody/#", "mine/#")
    subscribe = Subscribe(3, tuple(Subscription(topic_filter, 1) for topic_filter in filters))
    with server.mqtt_client() as client:
        client.sendall(render_packet(subscribe))
        assert client.recv(100) == b"\x90\x06\x00\x03\x01\x80\x80\x01"
