"""An acknowledgement means "on disk": the server is killed without warning while it acknowledges."""

from __future__ import annotations

import selectors
import socket
import time
from pathlib import Path

from headwater.mqtt.encode import render_packet
from headwater.mqtt.packets import Publish
from server import ChannelKeys, Server, running_server, start_server

CONNECTIONS = 20
KILLS = 10
WINDOW = 200
MIN_ACKNOWLEDGED = 500
PUBACK_BYTES = 4


class Publisher:
    """Publishes numbered entries with QoS 1 as fast as acknowledgements allow."""

    def __init__(self, server: Server, topic: str, number: int) -> None:
        self.client = server.mqtt_client()
        self.client.setblocking(False)
        self.acknowledged = 0
        self._topic = topic
        self._number = number
        self._sent = 0
        self._unsent = b""

    def send(self) -> None:
        while self._unsent or self._sent - self.acknowledged < WINDOW:
            if not self._unsent:
                payload = f"field1={self._number}&field2={self._sent}".encode()
                packet_id = self._sent % 65_535 + 1
                self._unsent = render_packet(Publish(self._topic, payload, 1, packet_id))
                self._sent += 1
            try:
                self._unsent = self._unsent[self.client.send(self._unsent) :]
            except BlockingIOError:
                return

    def receive(self) -> bool:
        """Count acknowledgements; False once the server is gone."""
        try:
            answer = self.client.recv(65_536)
        except (ConnectionResetError, BrokenPipeError):
            return False
        self.acknowledged += len(answer) // PUBACK_BYTES
        return bool(answer)


def publish_until_killed(server: Server, channels: list[ChannelKeys], kill_after_s: float) -> list[int]:
    """Publish, kill the server in the middle, and answer how many messages each connection got acknowledged."""
    publishers = [Publisher(server, f"channels/{c.id}/publish", n) for n, c in enumerate(channels)]
    started_s = time.monotonic()
    with selectors.DefaultSelector() as selector:
        for publisher in publishers:
            selector.register(publisher.client, selectors.EVENT_READ, publisher)
            publisher.send()
        is_killed = False
        while selector.get_map():
            for key, _ in selector.select(timeout=0.05):
                publisher = key.data
                try:
                    if publisher.receive():
                        publisher.send()
                        continue
                except (ConnectionResetError, BrokenPipeError):
                    pass
                selector.unregister(publisher.client)
            has_enough = sum(publisher.acknowledged for publisher in publishers) >= MIN_ACKNOWLEDGED
            if not is_killed and has_enough and time.monotonic() - started_s > kill_after_s:
                server.kill()  # acknowledgements that are in our receive buffers already still count
                is_killed = True
    for publisher in publishers:
        publisher.client.close()
    return [publisher.acknowledged for publisher in publishers]


def read_newer(server: Server, channel: ChannelKeys, than: int) -> list[tuple[int, str]]:
    """Entry id and text of the second field of every entry after that number."""
    last = server.call("GET", f"/channels/{channel.id}.json", api_key=channel.write_key).json()["last_entry_id"] or 0
    return [(e["entry_id"], e["field2"]) for e in server.feeds(channel, results=last - than)]


def test_every_acknowledged_entry_survives_sigkill(data: Path) -> None:
    """The same channels are written to before and after every kill: what a restart has to know about them counts."""
    server = start_server(data, HEADWATER_THINGSPEAK_MAX_RESULTS="1000000")
    channels = [server.create_channel(str(n)) for n in range(CONNECTIONS)]
    known = [0] * CONNECTIONS
    try:
        for kill in range(KILLS):
            acknowledged = publish_until_killed(server, channels, kill_after_s=0.1 + 0.03 * kill)
            server = start_server(data, HEADWATER_THINGSPEAK_MAX_RESULTS="1000000")
            for n, (channel, count) in enumerate(zip(channels, acknowledged, strict=True)):
                entries = read_newer(server, channel, known[n])
                # Everything acknowledged, in order and once; what was stored but not acknowledged yet may follow.
                assert len(entries) >= count
                assert entries == [(known[n] + m + 1, str(m)) for m in range(len(entries))]
                known[n] += len(entries)
        for channel, count in zip(channels, known, strict=True):
            assert len(read_newer(server, channel, 0)) == count
    finally:
        if server.process.returncode is None:
            assert server.stop() == 0


def test_an_http_answer_means_stored(data: Path) -> None:
    server = start_server(data)
    channel = server.create_channel()
    entry_id = server.call("POST", "/update", "field1=21.50", api_key=channel.write_key).body
    server.kill()
    server = start_server(data)
    try:
        assert [(str(e["entry_id"]).encode(), e["field1"]) for e in server.feeds(channel)] == [(entry_id, "21.50")]
        assert server.call("GET", "/update", api_key=channel.write_key, field1=2).body == b"2"
    finally:
        assert server.stop() == 0


def test_sigterm_answers_what_is_in_flight(data: Path) -> None:
    """Everything that was acknowledged or not, but received, is stored; the process ends with 0 in good time."""
    server = start_server(data)
    channel = server.create_channel()
    with server.mqtt_client() as client:
        packets = [
            render_packet(Publish(f"channels/{channel.id}/publish", f"field1={n}".encode(), 1, n + 1))
            for n in range(500)
        ]
        client.sendall(b"".join(packets))
        first = client.recv(PUBACK_BYTES)
        started_s = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started_s < 10
        answers = first + _read_to_end(client)
    acknowledged = len(answers) // PUBACK_BYTES
    server = start_server(data)
    try:
        assert len(server.feeds(channel, results=8000)) >= acknowledged > 0
    finally:
        assert server.stop() == 0


def _read_to_end(client: socket.socket) -> bytes:
    answer = b""
    while chunk := client.recv(65_536):
        answer += chunk
    return answer


def test_a_full_disk_refuses_what_comes_and_shows_what_there_is(tmp_path: Path) -> None:
    """Played by asking for more free room than any disk of the tests has."""
    with running_server(tmp_path) as server:
        channel = server.create_channel()
        assert server.call("GET", f"/update?api_key={channel.write_key}&field1=1").body == b"1"
    with running_server(tmp_path, HEADWATER_STORE_MIN_FREE_MB="1000000") as server:
        for number in range(3):
            refused = server.call("GET", f"/update?api_key={channel.write_key}&field1={number}")
            assert (refused.status, refused.body) == (503, b"0")
        with server.mqtt_client() as client:
            client.sendall(render_packet(Publish(f"channels/{channel.id}/publish", b"field1=5", 1, 7)))
            assert client.recv(100) == b"", "no acknowledgement, but the end of the connection"
        assert [entry["field1"] for entry in server.feeds(channel)] == ["1"]
        assert server.log.count("storing failed") == 1
        assert "free some room" in server.log
    with running_server(tmp_path) as server:
        assert server.call("GET", f"/update?api_key={channel.write_key}&field1=2").body == b"2"
