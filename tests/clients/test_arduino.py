"""The official Arduino library against a real server: the cases of its own tests, and what its sketches rely on."""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import arduino_client as arduino
import pytest
from arduino_client import ArduinoThingSpeak, Real

from server import ChannelKeys, Server

EIGHT = {f"field{number}": f"Name {number}" for number in range(1, 9)}
FAKE_KEY = "AFAKEAPIKEYFAKEX"


@pytest.fixture
def channel(server: Server) -> ChannelKeys:
    """A private channel with all eight fields."""
    return server.create_channel(**EIGHT)


@pytest.fixture
def sketch(server: Server) -> ArduinoThingSpeak:
    return ArduinoThingSpeak(server.http_port)


class TestWrites:
    def test_a_value(self, server: Server, channel: ChannelKeys, sketch: ArduinoThingSpeak) -> None:
        assert sketch.write_field(channel.id, 1, Real(1.0), channel.write_key) == arduino.OK
        assert sketch.write_field(channel.id, 1, Real(1.0), channel.write_key) == arduino.OK, "there is no wait of 15 s"
        assert [entry["field1"] for entry in server.feeds(channel)] == ["1.00000", "1.00000"]

    @pytest.mark.parametrize("number", [0, 4_294_967_295])
    def test_the_number_of_the_channel_does_not_matter(
        self, server: Server, channel: ChannelKeys, sketch: ArduinoThingSpeak, number: int
    ) -> None:
        assert sketch.write_field(number, 1, Real(1.0), channel.write_key) == arduino.OK
        assert len(server.feeds(channel)) == 1

    def test_a_wrong_key(self, server: Server, channel: ChannelKeys, sketch: ArduinoThingSpeak) -> None:
        for key in (FAKE_KEY, channel.read_key, ""):
            assert sketch.write_field(channel.id, 1, Real(1.0), key) == arduino.BAD_API_KEY
        assert server.feeds(channel) == []

    @pytest.mark.parametrize(
        ("value", "stored"),
        [
            (Real(-999_999_000_000), "-999999012864.00000"),
            (Real(3.14159), "3.14159"),
            (Real(-3.14159), "-3.14159"),
            (Real(math.nan), "nan"),
            (Real(math.nan, is_avr=True), "NAN"),
            (Real(math.inf, is_avr=True), "INF"),
            (Real(-math.inf, is_avr=True), "-INF"),
            (-32_768, "-32768"),
            (2_147_483_647, "2147483647"),
            ("The Rain in Spain", "The Rain in Spain"),
            ("", ""),
            ("0" * 255, "0" * 255),
        ],
    )
    def test_what_the_library_s_tests_write(
        self, server: Server, channel: ChannelKeys, sketch: ArduinoThingSpeak, value: str | int | Real, stored: str
    ) -> None:
        assert sketch.write_field(channel.id, 1, value, channel.write_key) == arduino.OK
        assert server.feeds(channel)[0]["field1"] == stored

    def test_everything_in_one_update(self, server: Server, channel: ChannelKeys, sketch: ArduinoThingSpeak) -> None:
        for number in range(1, 9):
            assert sketch.set_field(number, number * 11) == arduino.OK
        sketch.set_location(40.68, -73.99, 13.5)
        sketch.set_status("all & more")  # the library encodes nothing: what follows `&` is a parameter of its own
        sketch.set_twitter_tweet("somebody", "something")
        sketch.set_created_at("2026-01-02 03:04:05")
        assert sketch.write_fields(channel.id, channel.write_key) == arduino.OK
        (entry,) = server.feeds(channel, status="true", location="true")
        assert entry == {
            **{"created_at": "2026-01-02T03:04:05Z", "entry_id": 1},
            **{f"field{number}": str(number * 11) for number in range(1, 9)},
            **{"latitude": "40.68", "longitude": "-73.99", "elevation": "13.50", "status": "all "},
        }

    def test_nothing_set_is_nothing_sent(self, channel: ChannelKeys, sketch: ArduinoThingSpeak) -> None:
        assert sketch.write_fields(channel.id, channel.write_key) == arduino.SET_FIELD_NOT_CALLED

    def test_a_message_of_one_s_own(self, server: Server, channel: ChannelKeys, sketch: ArduinoThingSpeak) -> None:
        assert sketch.write_raw(channel.id, "field2=5&status=raw", channel.write_key) == arduino.OK
        assert server.feeds(channel, status="true")[0]["status"] == "raw"


class TestReads:
    @pytest.fixture
    def filled(self, channel: ChannelKeys, sketch: ArduinoThingSpeak) -> ChannelKeys:
        """What the library's tests write before they read."""
        values = (Real(3.14159), -47, 100_000, Real(math.nan), "foobar", Real(math.inf), Real(-math.inf))
        for number, value in enumerate(values, 1):
            assert sketch.set_field(number, value) == arduino.OK
        assert sketch.write_fields(channel.id, channel.write_key) == arduino.OK
        return channel

    def test_strings(self, filled: ChannelKeys, sketch: ArduinoThingSpeak) -> None:
        expected = ["3.14159", "-47", "100000", "nan", "foobar", "inf", "-inf"]
        for number, text in enumerate(expected, 1):
            assert sketch.read_string_field(filled.id, number, filled.read_key) == text
            assert sketch.last_read_status == arduino.OK

    def test_floats(self, filled: ChannelKeys, sketch: ArduinoThingSpeak) -> None:
        read = [sketch.read_float_field(filled.id, number, filled.read_key) for number in range(1, 8)]
        assert read[:3] == [3.14159, -47.0, 100_000.0]
        assert math.isnan(read[3])
        assert read[4:] == [0.0, math.inf, -math.inf]

    def test_longs(self, filled: ChannelKeys, sketch: ArduinoThingSpeak) -> None:
        read = [sketch.read_long_field(filled.id, number, filled.read_key) for number in range(1, 8)]
        assert read == [3, -47, 100_000, 0, 0, 0, 0]

    def test_a_field_that_was_never_written(self, filled: ChannelKeys, sketch: ArduinoThingSpeak) -> None:
        assert sketch.read_string_field(filled.id, 8, filled.read_key) == ""
        assert sketch.read_long_field(filled.id, 9, filled.read_key) == 0
        assert sketch.last_read_status == arduino.INVALID_FIELD_NUMBER

    def test_a_public_channel_needs_no_key(self, server: Server, sketch: ArduinoThingSpeak) -> None:
        channel = server.create_channel(public_flag="true", **EIGHT)
        assert sketch.write_field(channel.id, 4, Real(21.5), channel.write_key) == arduino.OK
        assert sketch.read_float_field(channel.id, 4) == 21.5
        assert sketch.read_multiple_fields(channel.id) == arduino.OK

    def test_wrong_keys_and_channels(self, filled: ChannelKeys, sketch: ArduinoThingSpeak) -> None:
        for key in (FAKE_KEY, None):
            assert sketch.read_float_field(filled.id, 1, key) == 0.0
            assert sketch.last_read_status == arduino.BAD_API_KEY
            assert sketch.read_status(filled.id, key) == ""
            assert sketch.last_read_status == arduino.BAD_API_KEY
            assert sketch.read_multiple_fields(filled.id, key) == arduino.BAD_API_KEY
        for number in (0, 4_294_967_295):
            for key in (filled.read_key, None):
                assert sketch.read_multiple_fields(number, key) == arduino.BAD_URL
                assert sketch.read_float_field(number, 1, key) == 0.0
                assert sketch.last_read_status == arduino.BAD_URL

    def test_status_and_time(self, channel: ChannelKeys, sketch: ArduinoThingSpeak) -> None:
        sketch.set_status("Wind from the north")
        sketch.set_created_at("2026-01-02T03:04:05Z")
        assert sketch.write_fields(channel.id, channel.write_key) == arduino.OK
        assert sketch.read_status(channel.id, channel.read_key) == "Wind from the north"
        assert sketch.read_created_at(channel.id, channel.read_key) == "2026-01-02T03:04:05Z"

    def test_no_status(self, filled: ChannelKeys, sketch: ArduinoThingSpeak) -> None:
        assert sketch.read_status(filled.id, filled.read_key) == ""
        assert sketch.last_read_status == arduino.OK

    def test_multiple_fields(self, channel: ChannelKeys, sketch: ArduinoThingSpeak) -> None:
        for number in range(1, 8):
            sketch.set_field(number, "0" * 110)
        sketch.set_field(8, -47)
        sketch.set_location(3.1415926535, -3.1415926535, 3.1415926535)
        sketch.set_status("0" * 255)
        assert sketch.write_fields(channel.id, channel.write_key) == arduino.OK
        assert sketch.read_multiple_fields(channel.id, channel.read_key) == arduino.OK
        assert [sketch.get(f"field{number}") for number in range(1, 8)] == ["0" * 110] * 7
        assert (sketch.get("field8"), sketch.get_long("field8"), sketch.get_float("field8")) == ("-47", -47, -47.0)
        assert [sketch.get(name) for name in ("latitude", "longitude", "elevation")] == ["3.14", "-3.14", "3.14"]
        assert sketch.get("status") == "0" * 255
        assert sketch.get("created_at").startswith("20")

    def test_fields_that_an_entry_does_not_have(self, channel: ChannelKeys, sketch: ArduinoThingSpeak) -> None:
        assert sketch.write_field(channel.id, 1, "Grüße", channel.write_key) == arduino.OK
        assert sketch.read_multiple_fields(channel.id, channel.read_key) == arduino.OK
        assert [sketch.get(name) for name in ("field1", "field2", "status", "latitude")] == ["Grüße", "", "", ""]

    def test_other_paths_of_one_s_own(self, filled: ChannelKeys, sketch: ArduinoThingSpeak) -> None:
        assert sketch.read_raw(filled.id, "/fields/2/last.txt?prepend=T:", filled.read_key) == "T:-47"
        assert sketch.read_raw(filled.id, "/feeds.csv?results=1", filled.read_key).startswith("created_at,entry_id,")


@contextmanager
def _answering(answer: bytes) -> Iterator[int]:
    """The port of a server that says this to everybody; nothing at all, where that is empty."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with listener.accept()[0] as connection:
                connection.recv(65_536)
                connection.sendall(answer)
                connection.recv(65_536)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n7", arduino.OK),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n0", arduino.NOT_INSERTED),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n7", arduino.TIMEOUT),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", arduino.BAD_API_KEY),
        (b"", arduino.TIMEOUT),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n7", arduino.BAD_RESPONSE),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n7", arduino.BAD_RESPONSE),
    ],
    ids=["taken", "refused", "short", "wrong key", "silence", "HTTP/1.0", "lower case"],
)
def test_the_library_is_as_particular_as_it_is(answer: bytes, expected: int) -> None:
    """The emulation itself: an answer that sketches cannot read must not pass here."""
    with _answering(answer) as port:
        assert ArduinoThingSpeak(port, timeout_s=0.1).write_field(1, 1, "1", FAKE_KEY) == expected


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert ArduinoThingSpeak(port).write_field(1, 1, "1", FAKE_KEY) == arduino.CONNECT_FAILED
