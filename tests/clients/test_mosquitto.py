"""mosquitto_pub and mosquitto_sub, unmodified, against a real server."""

from __future__ import annotations

import json
import subprocess
import threading

import pytest

from server import ChannelKeys, Credentials, Server, require_program, wait_until


def connection_arguments(server: Server, tls: bool) -> list[str]:
    if tls:
        return ["-h", "localhost", "-p", str(server.mqtts_port), "--cafile", str(server.ca_path)]
    return ["-h", "localhost", "-p", str(server.mqtt_port)]


def credential_arguments(device: Credentials) -> list[str]:
    return ["-i", device.client_id, "-u", device.username, "-P", device.password]


def mosquitto_pub(server: Server, *arguments: str, tls: bool = False) -> subprocess.CompletedProcess[str]:
    command = [require_program("mosquitto_pub"), *connection_arguments(server, tls), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=20)


class Subscriber:
    """mosquitto_sub in the background, and what it printed."""

    def __init__(self, server: Server, device: Credentials | None, topic: str, qos: int = 0, tls: bool = False) -> None:
        command = ["stdbuf", "-oL", require_program("mosquitto_sub"), *connection_arguments(server, tls)]
        command += [*(credential_arguments(device) if device else ()), "-t", topic, "-q", str(qos), "-v", "-d"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        wait_until(lambda: any("Subscribed" in line for line in self.lines), what="SUBACK")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def messages(self) -> list[tuple[str, str]]:
        return [
            (topic, payload)
            for topic, _, payload in (line.partition(" ") for line in self.lines)
            if topic.startswith("channels/")
        ]

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=10)
        self._reader.join(timeout=10)
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("qos", [0, 1])
def test_publish_is_stored(server: Server, channel: ChannelKeys, device: Credentials, qos: int, tls: bool) -> None:
    published = mosquitto_pub(
        server,
        *credential_arguments(device),
        *("-q", str(qos), "-t", f"channels/{channel.id}/publish", "-m", "field1=21.50&field2=60&status=ok"),
        tls=tls,
    )
    assert published.returncode == 0, published.stderr
    wait_until(lambda: server.feeds(channel), what="the entry")
    (entry,) = server.feeds(channel, status="true")
    assert {key: entry[key] for key in entry if key != "created_at"} == {
        "entry_id": 1,
        "field1": "21.50",
        "field2": "60",
        "status": "ok",
    }


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("qos", [0, 1])
def test_subscriber_gets_entries_live(
    server: Server, channel: ChannelKeys, device: Credentials, qos: int, tls: bool
) -> None:
    listener = server.create_device(subscribe=[channel])
    subscriber = Subscriber(server, listener, f"channels/{channel.id}/subscribe", qos, tls)
    try:
        publish = ("-q", "1", "-t", f"channels/{channel.id}/publish", "-m", "field1=21.5&lat=48.1")
        assert mosquitto_pub(server, *credential_arguments(device), *publish).returncode == 0
        wait_until(lambda: subscriber.messages, what="the message")
        ((topic, payload),) = subscriber.messages
    finally:
        subscriber.close()
    assert topic == f"channels/{channel.id}/subscribe"
    created_at = json.loads(payload)["created_at"]
    nulls = "".join(f'"field{n}":null,' for n in range(2, 9))
    assert payload == (
        f'{{"channel_id":{channel.id},"created_at":"{created_at}","entry_id":1,"field1":"21.5",{nulls}'
        '"latitude":"48.1","longitude":null,"elevation":null,"status":null}'
    )


def test_field_subscribers_get_bare_values(server: Server, channel: ChannelKeys, device: Credentials) -> None:
    listener = server.create_device(subscribe=[channel])
    subscriber = Subscriber(server, listener, f"channels/{channel.id}/subscribe/fields/+")
    try:
        base = f"channels/{channel.id}/publish"
        credentials = credential_arguments(device)
        mosquitto_pub(server, *credentials, "-q", "1", "-t", base, "-m", "field1=1.50&field8=on")
        mosquitto_pub(server, *credentials, "-q", "1", "-t", f"{base}/fields/field2", "-m", "7")
        wait_until(lambda: len(subscriber.messages) >= 3, what="three messages")
    finally:
        subscriber.close()
    fields = f"channels/{channel.id}/subscribe/fields"
    assert subscriber.messages == [(f"{fields}/field1", "1.50"), (f"{fields}/field8", "on"), (f"{fields}/field2", "7")]


@pytest.mark.parametrize("suffix", ["", "/fields/field1"])
def test_write_key_in_the_topic(server: Server, channel: ChannelKeys, suffix: str) -> None:
    """The older scheme: no credentials at all, the key is the last level."""
    topic = f"channels/{channel.id}/publish{suffix}/{channel.write_key}"
    message = "5" if suffix else "field1=5"
    assert mosquitto_pub(server, "-q", "1", "-t", topic, "-m", message).returncode == 0
    assert [entry["field1"] for entry in server.feeds(channel)] == ["5"]


def test_the_read_key_in_the_topic(server: Server, channel: ChannelKeys) -> None:
    """Nobody signs in on either side; the last entry comes first."""
    base = f"channels/{channel.id}"
    write = ("-q", "1", "-t", f"{base}/publish/{channel.write_key}", "-m")
    assert mosquitto_pub(server, *write, "field1=1&created_at=2026-01-02T03:04:05Z").returncode == 0
    subscriber = Subscriber(server, None, f"{base}/subscribe/csv/{channel.read_key}")
    try:
        wait_until(lambda: subscriber.messages, what="the last entry")
        assert mosquitto_pub(server, *write, "field1=2&created_at=2026-01-02T03:04:06Z").returncode == 0
        wait_until(lambda: len(subscriber.messages) == 2, what="the next")
    finally:
        subscriber.close()
    topic = f"{base}/subscribe/csv/{channel.read_key}"
    assert subscriber.messages == [(topic, f"2026-01-02T03:04:0{n + 4}Z,{n},{n},,,,,,,,,,,") for n in (1, 2)]


def test_another_channels_key_in_the_topic_writes_nothing(server: Server, channel: ChannelKeys) -> None:
    other = server.create_channel()
    for key in (other.write_key, channel.read_key, "0" * 16):
        topic = f"channels/{channel.id}/publish/{key}"
        assert mosquitto_pub(server, "-q", "1", "-t", topic, "-m", "field1=5").returncode == 0
    assert server.feeds(channel) == []


def test_wrong_password_is_refused(server: Server, device: Credentials) -> None:
    wrong = credential_arguments(device._replace(password="wrong"))
    refused = mosquitto_pub(server, *wrong, "-t", "channels/1/publish", "-m", "field1=1")
    assert refused.returncode == 5
    assert "not authorised" in refused.stderr.lower()


def test_a_stranger_to_our_ca_does_not_connect(server: Server, device: Credentials) -> None:
    """Without our CA the client refuses the server, as it should."""
    command = [require_program("mosquitto_pub"), "-h", "localhost", "-p", str(server.mqtts_port)]
    command += ["--capath", "/etc/ssl/certs", *credential_arguments(device), "-t", "channels/1/publish", "-m", "x"]
    assert subprocess.run(command, capture_output=True, timeout=20).returncode != 0
