"""One server per data directory, found and told to reload by commands."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from headwater.errors import ConfigurationError, HeadwaterError
from headwater.instance import PID_FILE, ask_to_reload, hold_data_directory, running_pid

SERVER = """
import signal, sys
from pathlib import Path
from headwater.instance import hold_data_directory
signal.signal(signal.SIGHUP, lambda *_: print("reload", flush=True))
with hold_data_directory(Path(sys.argv[1])):
    print("ready", flush=True)
    sys.stdin.read()
"""


@contextmanager
def server_on(data: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(data)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


def test_the_directory_is_made_and_private(tmp_path: Path) -> None:
    data = tmp_path / "a" / "b"
    with hold_data_directory(data):
        assert data.stat().st_mode & 0o777 == 0o700
        assert (data / PID_FILE).read_text() == f"{os.getpid()}\n"


def test_a_second_server_is_kept_out(tmp_path: Path) -> None:
    with server_on(tmp_path) as server:
        with pytest.raises(ConfigurationError, match=rf"process {server.pid}\).*--data"), hold_data_directory(tmp_path):
            pytest.fail("was let in")
        server.kill()
        server.wait()
        with hold_data_directory(tmp_path):  # what a killed server leaves behind is in nobody's way
            assert (tmp_path / PID_FILE).read_text() == f"{os.getpid()}\n"


def test_the_running_server_is_found(tmp_path: Path) -> None:
    assert running_pid(tmp_path) is None
    with server_on(tmp_path) as server:
        assert running_pid(tmp_path) == server.pid
    server.wait()
    assert (tmp_path / PID_FILE).exists()
    assert running_pid(tmp_path) is None
    assert running_pid(tmp_path / "nowhere") is None


def test_looking_does_not_keep_a_server_out(tmp_path: Path) -> None:
    with hold_data_directory(tmp_path):
        pass
    assert running_pid(tmp_path) is None
    with hold_data_directory(tmp_path):
        pass


def test_the_running_server_is_told_to_reload(tmp_path: Path) -> None:
    assert ask_to_reload(tmp_path) is None
    with server_on(tmp_path) as server:
        assert ask_to_reload(tmp_path) == server.pid
        assert server.stdout is not None
        assert server.stdout.readline() == "reload\n"
    server.wait()
    assert ask_to_reload(tmp_path) is None


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc to look at another process")
def test_a_stranger_with_the_number_of_the_server_is_left_alone(tmp_path: Path) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with stranger, server_on(tmp_path):
        # as it looks when the server runs in a container with its own process numbers
        (tmp_path / PID_FILE).write_text(f"{stranger.pid}\n")
        with pytest.raises(HeadwaterError, match=r"out of reach.*SIGHUP"):
            ask_to_reload(tmp_path)
        (tmp_path / PID_FILE).write_text("999999999\n")
        with pytest.raises(HeadwaterError, match="out of reach"):
            ask_to_reload(tmp_path)
        assert stranger.poll() is None
        stranger.kill()


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ConfigurationError, match=r"file.* cannot be used: .*--data"),
        hold_data_directory(tmp_path / "file"),
    ):
        pytest.fail("was let in")
