"""`headwater backup` and `headwater restore`, with the real command line beside a real server that is written to."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as paho
import pytest

from server import ADMIN_PASSWORD, ADMIN_TOKEN, ChannelKeys, Server, headwater, running_server, start_server, wait_until

SMALL_RUNS = {"HEADWATER_STORE_HOT_POINTS": "1000"}


class Writer(threading.Thread):
    """Publishes numbered entries, each after the one before was acknowledged."""

    def __init__(self, server: Server, channel: ChannelKeys) -> None:
        super().__init__()
        self._server = server
        self._channel = channel
        self._stopping = threading.Event()
        self.acknowledged = 0

    def run(self) -> None:
        with self._server.mqtt_client() as client:
            topic = f"channels/{self._channel.id}/publish"
            while not self._stopping.is_set():
                try:
                    self._server.publish_acknowledged(client, topic, f"field1={self.acknowledged + 1}".encode())
                except (OSError, AssertionError):  # the server was ended
                    return
                self.acknowledged += 1

    def stop(self) -> None:
        self._stopping.set()
        self.join()


@contextmanager
def writing(server: Server, channel: ChannelKeys, at_least: int) -> Iterator[Writer]:
    writer = Writer(server, channel)
    writer.start()
    try:
        wait_until(lambda: writer.acknowledged >= at_least, 60, "entries")
        yield writer
    finally:
        writer.stop()


def values(server: Server, channel: ChannelKeys) -> list[int]:
    return [int(entry["field1"]) for entry in server.feeds(channel, results=8000)]


class Client:
    """Signed in with the administrator's token; its session lasts if it has a client id that does."""

    def __init__(self, server: Server, client_id: str, *, is_lasting: bool) -> None:
        self.received: list[str] = []
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id, clean_session=not is_lasting)
        self._client.username_pw_set("any", ADMIN_TOKEN)
        self._client.on_message = lambda _client, _data, message: self.received.append(message.payload.decode())
        connected = threading.Event()
        self._client.on_connect = lambda *_: connected.set()
        self._client.connect("127.0.0.1", server.mqtt_port)
        self._client.loop_start()
        assert connected.wait(10)

    def subscribe(self, topic_filter: str) -> None:
        subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.subscribe(topic_filter, 1)
        assert subscribed.wait(10)

    def publish(self, topic: str, payload: str, *, retain: bool = False) -> None:
        """Return when it is acknowledged."""
        self._client.publish(topic, payload, 1, retain).wait_for_publish(10)

    def leave(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def test_a_backup_of_a_server_that_is_written_to_holds_all_that_was_acknowledged(tmp_path: Path) -> None:
    backup = tmp_path / "b.tar.zst"
    with running_server(tmp_path / "data", **SMALL_RUNS) as server:
        channel = server.create_channel()
        device = server.create_device([channel], [channel])
        headwater("account", "add", "anna", "--password-stdin", "--data", server.data, stdin=ADMIN_PASSWORD)
        desk = Client(server, "desk", is_lasting=True)
        desk.subscribe("plant/#")
        desk.leave()
        pump = Client(server, "pump", is_lasting=False)
        pump.publish("plant/log", "while away")
        pump.publish("site/state", "running", retain=True)
        pump.leave()
        with writing(server, channel, at_least=700) as writer:
            before = writer.acknowledged
            told = headwater("backup", backup, "--data", server.data)
            wait_until(lambda: writer.acknowledged > before + 10)
        assert "keep it private" in told
        assert backup.stat().st_mode & 0o777 == 0o600
        assert sorted(path.name for path in tmp_path.iterdir()) == ["b.tar.zst", "data", "data.log"]
        assert not (server.data / ".backup").exists()
        assert not list((server.data / "telemetry").glob("snapshot*"))
        assert "exists already" in headwater("backup", backup, "--data", server.data, code=2)
        ca = server.ca_path.read_bytes()
    restored = tmp_path / "restored"
    assert "as it was at" in headwater("restore", backup, "--data", restored)
    assert "not empty" in headwater("restore", backup, "--data", restored, code=2)
    with running_server(restored, **SMALL_RUNS) as server:
        found = values(server, channel)
        assert len(found) >= before
        assert found == list(range(1, len(found) + 1))
        server.sign_in()
        with server.mqtt_client(device) as client:
            server.publish_acknowledged(client, f"channels/{channel.id}/publish", b"field1=5")
        desk = Client(server, "desk", is_lasting=True)
        wait_until(lambda: desk.received == ["while away"])
        desk.subscribe("site/#")
        wait_until(lambda: desk.received == ["while away", "running"])
        desk.leave()
        assert server.ca_path.read_bytes() == ca
        assert "anna" in headwater("account", "list", "--data", restored)


def test_without_a_server_the_command_makes_the_backup_itself(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running_server(data) as server:
        channel = server.create_channel()
        with writing(server, channel, at_least=10) as writer:
            pass
    headwater("backup", tmp_path / "one.tar", "--data", data)
    with tarfile.open(tmp_path / "one.tar") as tar:
        names = set(tar.getnames())
    assert {"manifest.json", "registry.db", "broker.db", "session.key", "telemetry/points.duckdb"} < names
    headwater("restore", tmp_path / "one.tar", "--data", tmp_path / "new")
    with running_server(tmp_path / "new") as server:
        assert values(server, channel) == list(range(1, writer.acknowledged + 1))


def test_an_older_backup_is_replaced_only_by_a_whole_one(tmp_path: Path) -> None:
    data, backup = tmp_path / "data", tmp_path / "b.tar"
    with running_server(data):
        pass
    backup.write_bytes(b"older")
    (data / "broker.db").write_bytes(b"damaged" * 1000)
    assert "broker.db" in headwater("backup", backup, "--data", data, "--replace", code=1)
    assert backup.read_bytes() == b"older"
    assert not (tmp_path / "b.tar.new").exists()
    (data / "broker.db").unlink()
    headwater("backup", backup, "--data", data, "--replace")
    assert tarfile.is_tarfile(backup)


@pytest.mark.parametrize("name", ["b.tar", "b.tar.zst"])
def test_a_disk_that_is_full_leaves_no_half_of_it(tmp_path: Path, name: str) -> None:
    with running_server(tmp_path / "data") as server:
        command = [sys.executable, "-m", "headwater", "backup", str(tmp_path / name), "--data", str(server.data)]
        (server.data / "certificates" / "ballast").write_bytes(random.Random(1).randbytes(2**20))
        limited = ["bash", "-c", 'ulimit -f 16; exec "$@"', "bash", *command]  # in KB
        done = subprocess.run(limited, capture_output=True, text=True, timeout=60, check=False)
        wait_until(lambda: not (server.data / ".backup").exists())
        headwater("backup", tmp_path / "next.tar", "--data", server.data)
    assert done.returncode == 1
    assert done.stderr.startswith("headwater: File too large")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("b.tar*"))


def test_there_must_be_something_to_back_up(tmp_path: Path) -> None:
    data = tmp_path / "empty"
    data.mkdir()
    for named in (data, tmp_path / "nowhere"):
        assert "there is no data" in headwater("backup", tmp_path / "b.tar", "--data", named, code=2)
    assert list(tmp_path.iterdir()) == [data]
    assert not list(data.iterdir())


def test_nothing_is_restored_under_a_running_server(tmp_path: Path) -> None:
    (tmp_path / "b.tar").write_bytes(b"")
    with running_server(tmp_path / "data") as server:
        assert "a server runs" in headwater("restore", tmp_path / "b.tar", "--data", server.data, code=1)
    assert "not a backup" in headwater("restore", __file__, "--data", tmp_path / "new", code=1)
    assert "No such file" in headwater("restore", tmp_path / "none", "--data", tmp_path / "new", code=1)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_ends_in_the_middle_of_a_backup_leaves_no_half_of_it(
    tmp_path: Path, ending: signal.Signals
) -> None:
    data, backup = tmp_path / "data", tmp_path / "b.tar"
    server = start_server(data, **SMALL_RUNS)
    channel = server.create_channel()
    # Enough to see the beginning of the file before its end.
    ballast_bytes = 128 * 2**20
    (data / "certificates" / "ballast").write_bytes(random.Random(1).randbytes(2**20) * 128)
    with writing(server, channel, at_least=100) as writer:
        command = [sys.executable, "-m", "headwater", "backup", str(backup), "--data", str(data)]
        taking = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        unfinished = tmp_path / "b.tar.new"
        wait_until(lambda: unfinished.exists() and unfinished.stat().st_size > 0, 30, "the first bytes")
        # Stopped, it takes no more: the server waits in the middle.
        taking.send_signal(signal.SIGSTOP)
        is_unfinished = unfinished.stat().st_size < ballast_bytes
        acknowledged = writer.acknowledged
        if ending is signal.SIGKILL:
            server.kill()
        else:
            assert server.stop() == 0, server.log
        taking.send_signal(signal.SIGCONT)
        _, told = taking.communicate(timeout=30)
    assert is_unfinished, "the backup was too quick for this test"
    assert taking.returncode == 1
    assert "the server ended before" in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "data.log"]
    with running_server(data, **SMALL_RUNS) as server:
        assert values(server, channel)[:acknowledged] == list(range(1, acknowledged + 1))
        headwater("backup", backup, "--data", data)
