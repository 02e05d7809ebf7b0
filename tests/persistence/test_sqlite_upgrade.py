"""A file of a former format opens with everything in it, also when an earlier try was cut off."""

from __future__ import annotations

import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from headwater.errors import ConfigurationError
from headwater.persistence import ChangeKind, LoadedState, PacketKey
from headwater.persistence.sqlite import open_sqlite_session_store
from headwater.persistence.sqlite_file import _UPGRADES, FORMAT_VERSION, open_file
from stored_values import WILL, outgoing, retained, session, subscription

FORMAT_1 = Path(__file__).with_name("format_1.sql")
EXPECTED = LoadedState(
    sessions=[
        session(1, "porch", disconnected_at_ns=1_700_000_000_000_000_000),
        session(2, "door", owner="device:7", will=WILL),
    ],
    subscriptions=[subscription(1, "home/#", 2, 5)],
    outgoing=[
        outgoing(1, 1),
        outgoing(
            1,
            2,
            qos=2,
            expires_at_ns=1_800_000_000_000_000_000,
            subscription_ids=(5,),
            is_released=True,
            is_sent=True,
        ),
    ],
    received=[PacketKey(2, 9)],
    retained=[
        retained("home/porch", properties=b"\x01\x01", expires_at_ns=1_800_000_000_000_000_000),
        retained("lamp", "anonymous", payload=b"off", qos=0),
    ],
)
OPEN_UNTIL = """
import os, signal, sqlite3, sys
from pathlib import Path

def stop_at(statement):
    if statement.strip() == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)

connect = sqlite3.connect

def connect_traced(*arguments, **options):
    connection = connect(*arguments, **options)
    connection.execute("PRAGMA cache_size = 1").close()  # so that changes reach the files before they are committed
    connection.set_trace_callback(stop_at)
    return connection

sqlite3.connect = connect_traced
from headwater.persistence.sqlite_file import open_file

open_file(Path(sys.argv[1]))
"""
STEPS = [
    *(step.strip() + ";" for step in _UPGRADES[1].split(";") if step.strip()),
    f"PRAGMA user_version = {FORMAT_VERSION};",
    "COMMIT;",
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of format 1."""
    path = tmp_path / "broker.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(FORMAT_1.read_text(encoding="utf-8"))
    connection.close()
    return path


def loaded(path: Path) -> LoadedState:
    with closing(open_sqlite_session_store(path)) as store:
        state = store.load()
    state.retained.sort()
    return state


def version_of(path: Path) -> int:
    connection = sqlite3.connect(path)
    try:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        return version
    finally:
        connection.close()


def schema_of(path: Path) -> list[str]:
    connection = open_file(path)
    try:
        found = connection.execute("SELECT sql FROM sqlite_schema WHERE sql NOT NULL ORDER BY name").fetchall()
    finally:
        connection.close()
    return [re.sub(r"\s+", " ", sql) for (sql,) in found]


def test_sessions_queues_and_retained_messages_are_kept(path: Path) -> None:
    assert version_of(path) == 1
    for _ in range(2):
        assert loaded(path) == EXPECTED
        assert version_of(path) == FORMAT_VERSION


def test_it_becomes_what_a_new_file_is(path: Path, tmp_path: Path) -> None:
    assert schema_of(path) == schema_of(tmp_path / "new.db")


def test_it_can_be_written_from_then_on(path: Path) -> None:
    with closing(open_sqlite_session_store(path)) as store:
        store.apply([(ChangeKind.SAVE_SESSION, session(3)), (ChangeKind.DELETE_RETAINED, ("anonymous", "lamp"))])
    state = loaded(path)
    assert state.sessions == [*EXPECTED.sessions, session(3)]
    assert state.retained == EXPECTED.retained[:1]


@pytest.mark.parametrize("step", STEPS)
def test_a_start_that_is_cut_off_is_made_up_for_by_the_next(path: Path, step: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(
        "INSERT INTO retained SELECT tree, 'x', zeroblob(200000), 0, '', NULL, 1, '' FROM retained LIMIT 1"
    )
    connection.close()
    cut_off = subprocess.run([sys.executable, "-c", OPEN_UNTIL, str(path), step], timeout=30)
    assert cut_off.returncode == -signal.SIGKILL
    state = loaded(path)
    large = state.retained.pop(1)
    assert (large.topic, len(large.payload)) == ("x", 200_000)
    assert state == EXPECTED


def test_an_upgrade_that_fails_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vars(sys.modules[open_file.__module__]), "_UPGRADES", {1: _UPGRADES[1] + "SELECT no_column;"})
    with pytest.raises(ConfigurationError, match="cannot be used: no such column"):
        open_file(path)
    monkeypatch.undo()
    assert version_of(path) == 1
    assert loaded(path) == EXPECTED


def test_a_format_that_never_was_is_refused(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 0")
    connection.close()
    with pytest.raises(ConfigurationError, match="has format 0"):
        open_file(path)
