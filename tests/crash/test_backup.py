"""`headwater backup` beside a server that stores entries, while one of the two is killed: what was acknowledged stays,
and a backup that is there is whole."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPException
from pathlib import Path

import pytest

from headwater.model.series import Series, SeriesKey, ValueType
from headwater.store import Batch, Columns
from headwater.store.duck import open_duck_store
from server import ChannelKeys, Server, running_server, start_server

from .test_crash import CRASHES

BACKUPS = max(2, CRASHES // 5)
BACKUPS_PER_SERVER = 5
ROWS = 400_000
"""So many points besides make a backup take a while."""


pytestmark = pytest.mark.timeout(600)


def headwater(*arguments: str | Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "headwater", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def fill(telemetry: Path, channel_id: int, chance: random.Random) -> None:
    """More points in the channel's bucket, of another measurement."""
    columns = Columns(ValueType.FLOAT)
    columns.series_ids = array("q", [320]) * ROWS
    columns.at_ns = array("q", range(ROWS))
    columns.values = array("d", [chance.random() for _ in range(ROWS)])
    with closing(open_duck_store(telemetry, hot_rows=ROWS // 2)) as store:
        store.append(Batch([Series(320, SeriesKey(channel_id, "m"), "f", ValueType.FLOAT)], {columns.type: columns}))
        while store.maintain():
            pass


class Writer:
    """Sends entries, one after the other, and counts those that were acknowledged."""

    def __init__(self, server: Server, channel: ChannelKeys, done: int) -> None:
        self.acknowledged = self.begun = done
        self._server, self._channel = server, channel
        self._stopping = threading.Event()

    @contextmanager
    def writing(self) -> Iterator[None]:
        thread = threading.Thread(target=self._write, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            thread.join(30)

    def _write(self) -> None:
        with suppress(OSError, HTTPException):  # the server was killed
            while not self._stopping.is_set():
                self.begun += 1
                answer = self._server.call("POST", "/update", api_key=self._channel.write_key, field1=self.begun)
                assert answer.body == str(self.begun).encode()
                self.acknowledged = self.begun


def stored(server: Server, channel: ChannelKeys) -> int:
    """How many entries there are, none missing among them."""
    last = server.call("GET", f"/channels/{channel.id}/feeds/last.json", api_key=channel.read_key)
    count = int(last.json()["entry_id"]) if last.status == 200 else 0
    newest = server.feeds(channel, results=8000)
    assert [entry["entry_id"] for entry in newest] == list(range(count - len(newest) + 1, count + 1))
    assert [entry["field1"] for entry in newest] == [str(entry["entry_id"]) for entry in newest]
    return count


def restored(archive: Path, directory: Path, channel: ChannelKeys) -> int:
    """How many entries a backup has."""
    assert headwater("restore", archive, "--data", directory).wait(60) == 0
    with running_server(directory) as server:
        return stored(server, channel)


@pytest.mark.parametrize("first", range(0, BACKUPS, BACKUPS_PER_SERVER))
def test_a_kill_during_a_backup_loses_nothing_and_leaves_no_half_backup(tmp_path: Path, first: int) -> None:
    seed = int(os.environ.get("CRASH_SEED", random.SystemRandom().randrange(1_000_000)))
    chance = random.Random(seed + first)
    data, archive = tmp_path / "data", tmp_path / "backup.tar"
    server = start_server(data)
    channel = server.create_channel()
    server.stop()
    fill(data / "telemetry", channel.id, chance)
    server = start_server(data)
    count = at_least = 0
    try:
        for _ in range(first, min(first + BACKUPS_PER_SERVER, BACKUPS)):
            writer = Writer(server, channel, count)
            with writer.writing():
                before = writer.acknowledged
                command = headwater("backup", archive, "--replace", "--data", data)
                time.sleep(chance.uniform(0.3, 2.0))  # any moment will do
                victim = chance.choice([server.process, command])
                victim.kill()
                if command.wait(60) == 0:
                    at_least = before
            if victim is server.process:
                server.wait()
                server = start_server(data)
            count = stored(server, channel)
            assert writer.acknowledged <= count <= writer.begun, f"CRASH_SEED={seed}"
        assert headwater("backup", tmp_path / "last.tar", "--data", data).wait(60) == 0
        assert sorted(path.name for path in tmp_path.glob("*.tar*")) in (["backup.tar", "last.tar"], ["last.tar"])
    finally:
        server.kill() if server.process.poll() is None else server.wait()
    assert restored(tmp_path / "last.tar", tmp_path / "last", channel) == count
    if archive.exists():
        assert restored(archive, tmp_path / "earlier", channel) >= at_least
    assert headwater("check", "--data", data).wait(60) in (0, 2)
