"""The servers under load: Headwater and its peer, each a real process on free ports with data of its own."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from headwater.model.series import ValueType

START_TIMEOUT_S = 20.0
USER_NAME = "bench"


@dataclass(frozen=True)
class Target:
    """A server to put load on."""

    name: str
    pid: int
    mqtt_port: int
    password: str | None = None
    """What every MQTT client signs in with; None where nobody has to."""
    http_port: int | None = None
    expected: dict[int, int] = field(default_factory=dict)

    def rss_bytes(self) -> int:
        """Resident memory of the process now."""
        return resident_bytes(self.pid)

    def create_channel(self, name: str) -> int:
        """A ThingSpeak channel with two fields; its id."""
        return self.create_channel_with_key(name)[0]

    def create_channel_with_key(self, name: str) -> tuple[int, str]:
        """As `create_channel`, with its write key."""
        form = {"api_key": self.password or "", "name": name, "field1": "one", "field2": "two"}
        body = urllib.parse.urlencode(form).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/channels.json", body) as answer:
            channel = json.load(answer)
        return int(channel["id"]), str(channel["api_keys"][0]["api_key"])

    def expect_entries(self, channel_id: int, at_least: int) -> None:
        """What must be found on disk once the server has stopped."""
        self.expected[channel_id] = at_least

    def check_disk(self, data: Path) -> None:
        """Count the entries in the files of a stopped server."""
        found = _entries_on_disk(data / "telemetry")
        for channel_id, at_least in self.expected.items():
            if found.get(channel_id, 0) < at_least:
                raise RuntimeError(f"{at_least} entries were taken, but {found.get(channel_id, 0)} are on disk")


def _entries_on_disk(telemetry: Path) -> dict[int, int]:
    """Bucket id to number of entries, read with DuckDB alone (docs/storage.md says what is where)."""
    with duckdb.connect(str(telemetry / "points.duckdb"), read_only=True) as connection:
        generations = connection.execute(
            f"SELECT number FROM generations WHERE type = {ValueType.INTEGER:d}"
        ).fetchall()
        sources = [f"SELECT series_id, at_ns FROM hot_integer_{number}" for (number,) in generations]
        runs = connection.execute(f"SELECT number, unit_ns FROM runs WHERE type = {ValueType.INTEGER:d}").fetchall()
        for number, unit_ns in runs:
            connection.execute(f"ATTACH '{telemetry}/run-{number}.duckdb' AS run_{number} (READ_ONLY)")
            sources.append(f"SELECT series_id, time * {unit_ns} FROM run_{number}.points")
        return dict(
            connection.execute(
                f"SELECT bucket_id, count(DISTINCT at_ns) FROM ({' UNION ALL '.join(sources)}) "
                "JOIN series ON series_id = id WHERE field = 'entry_id' GROUP BY bucket_id"
            ).fetchall()
        )


@contextmanager
def headwater(prepare: Callable[[Path], None] | None = None) -> Iterator[Target]:
    """Headwater as an operator starts it, after `prepare` has had its data directory.

    That lies below the current directory (the one for temporary files is often in memory, where an fsync costs nothing)
    and is deleted afterwards.
    """
    data = Path(tempfile.mkdtemp(prefix="headwater-bench-", dir=Path.cwd()))
    token = secrets.token_urlsafe(30)
    command = [sys.executable, "-m", "headwater", "serve", "--data", str(data), "--http", "127.0.0.1:0"]
    command += ["--mqtt", "127.0.0.1:0", "--https", "off", "--mqtts", "off", "--log-level", "error"]
    seed = {"HEADWATER_ADMIN_USER": USER_NAME, "HEADWATER_ADMIN_PASSWORD": token, "HEADWATER_ADMIN_TOKEN": token}
    try:
        if prepare is not None:
            prepare(data)
    except BaseException:
        shutil.rmtree(data)
        raise
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | seed, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("ready "):
            raise RuntimeError("Headwater did not start; its own words are above")
        ready = json.loads(line.removeprefix("ready "))
        ports = {scheme: int(ready[scheme][0].rsplit(":", 1)[1]) for scheme in ("mqtt", "http")}
        target = Target("headwater", process.pid, ports["mqtt"], token, ports["http"])
        yield target
        _stop(process)
        target.check_disk(data)
    finally:
        _stop(process)
        shutil.rmtree(data)


def _stop(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)


@contextmanager
def mosquitto(*, with_password: bool = False, no_delay: bool = False) -> Iterator[Target]:
    """Mosquitto without persistence: it only hands messages on. Open to everybody, or to one user with a password.

    `no_delay` is off by default, as its own setting is: streams of messages are up to half faster so. Where clients
    wait for several short answers it must be on, or the kernel holds all but the first back for 40 ms.
    """
    program = find_program("mosquitto", "mosquitto")
    port = free_port()
    password = secrets.token_urlsafe(30) if with_password else None
    with tempfile.TemporaryDirectory(prefix="mosquitto-bench-") as directory:
        config = [f"listener {port} 127.0.0.1", "persistence false", "log_type error"]
        config.append(f"set_tcp_nodelay {str(no_delay).lower()}")
        if password is None:
            config.append("allow_anonymous true")
        else:
            password_file = Path(directory, "passwords")
            subprocess.run(
                [find_program("mosquitto_passwd", "mosquitto"), "-b", "-c", str(password_file), USER_NAME, password],
                check=True,
            )
            Path(directory).chmod(0o755)  # started by root, Mosquitto reads it as a user without rights
            password_file.chmod(0o644)
            config += ["allow_anonymous false", f"password_file {password_file}"]
        config_file = Path(directory, "mosquitto.conf")
        config_file.write_text("\n".join(config) + "\n")
        process = subprocess.Popen([program, "-c", str(config_file)])
        try:
            wait_for_port(port)
            yield Target("mosquitto", process.pid, port, password)
        finally:
            process.terminate()
            process.wait(timeout=10)


def resident_bytes(pid: int) -> int:
    """Memory that a process has now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel does not tell VmRSS")


def find_program(program: str, package: str) -> str:
    """Where a program is. Raises RuntimeError that says how to get it."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        raise RuntimeError(f"{program} is not installed (Debian: apt-get install {package})")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.05)
        else:
            return
