"""Opening the broker's file: what is made, what is refused, and in which words."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from headwater.errors import ConfigurationError, StorageError
from headwater.persistence import ChangeKind
from headwater.persistence.sqlite import open_sqlite_session_store
from headwater.persistence.sqlite_file import APPLICATION_ID, FORMAT_VERSION, open_file
from stored_values import outgoing, session


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "broker.db"


def fill(path: Path, messages: int = 300) -> None:
    with closing(open_sqlite_session_store(path)) as store:
        store.apply([(ChangeKind.SAVE_SESSION, session(1))])
        store.apply(
            [(ChangeKind.SAVE_OUTGOING, outgoing(1, number, payload=b"x" * 500)) for number in range(1, messages + 1)]
        )


def count_messages(path: Path) -> int:
    with closing(open_sqlite_session_store(path)) as store:
        return len(store.load().outgoing)


def execute(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.close()


def refused(path: Path) -> Exception:
    """What opening the file raises, which must leave it as it is."""
    before = path.read_bytes()
    with pytest.raises((ConfigurationError, StorageError)) as caught:
        open_sqlite_session_store(path).close()
    assert path.read_bytes() == before
    assert str(path) in str(caught.value)
    return caught.value


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_the_files_are_private(path: Path) -> None:
    old_mask = os.umask(0)
    try:
        with closing(open_sqlite_session_store(path)) as store:
            store.apply([(ChangeKind.SAVE_SESSION, session(1))])
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(old_mask)
    assert modes == {"broker.db": 0o600, "broker.db-wal": 0o600, "broker.db-shm": 0o600}


def test_a_closed_store_leaves_one_file(path: Path) -> None:
    fill(path)
    assert [file.name for file in path.parent.iterdir()] == ["broker.db"]


def test_a_commit_waits_for_the_disk(path: Path) -> None:
    connection = open_file(path)
    try:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    finally:
        connection.close()


def test_a_path_may_hold_any_character(tmp_path: Path) -> None:
    directory = tmp_path / "what? #1 100% ü"
    directory.mkdir()
    fill(directory / "broker.db", messages=3)
    assert count_messages(directory / "broker.db") == 3
    assert [file.name for file in directory.iterdir()] == ["broker.db"]


def test_a_newer_format_is_refused(path: Path) -> None:
    fill(path)
    execute(path, f"PRAGMA user_version = {FORMAT_VERSION + 1}")
    error = refused(path)
    assert isinstance(error, ConfigurationError)
    assert f"has format {FORMAT_VERSION + 1}" in str(error)


def test_the_database_of_another_program_is_refused(path: Path) -> None:
    execute(path, "CREATE TABLE session (id)")
    error = refused(path)
    assert isinstance(error, ConfigurationError)
    assert "not the broker's" in str(error)


@pytest.mark.parametrize("content", [b"", b"x", b"a text\n" * 1000])
def test_a_file_of_another_kind_is_no_new_database(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert isinstance(refused(path), ConfigurationError)


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere.broker\.db cannot be made"):
        open_sqlite_session_store(tmp_path / "nowhere" / "broker.db")


def test_a_log_without_its_database_is_not_lost(path: Path) -> None:
    log = path.with_name("broker.db-wal")
    log.write_bytes(b"log")
    with pytest.raises(ConfigurationError, match=r"is missing although its log broker\.db-wal is there"):
        open_sqlite_session_store(path)
    assert log.read_bytes() == b"log"
    assert not path.exists()


def test_a_database_that_another_process_writes_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(path)
    monkeypatch.setattr("headwater.persistence.sqlite_file.BUSY_TIMEOUT_MS", 10)
    other = sqlite3.connect(path, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ConfigurationError, match="in use by another process"):
            open_sqlite_session_store(path)
    finally:
        other.close()


def cut_to_half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def cut_within_a_page(content: bytes) -> bytes:
    return content[:-1000]


def cut_to_the_header(content: bytes) -> bytes:
    return content[:100]


def zero_a_page(content: bytes) -> bytes:
    return content[: 8 * 4096] + bytes(4096) + content[9 * 4096 :]


def garble_the_beginning(content: bytes) -> bytes:
    return b"\xff" * 50 + content[50:]


@pytest.mark.parametrize(
    "damage", [cut_to_half, cut_within_a_page, cut_to_the_header, zero_a_page, garble_the_beginning]
)
def test_a_damaged_file_is_refused_and_left_alone(path: Path, damage: Callable[[bytes], bytes]) -> None:
    fill(path)
    path.write_bytes(damage(path.read_bytes()))
    assert "restore it from a backup or move it away" in str(refused(path))


def test_the_application_id_is_what_the_file_says(path: Path) -> None:
    fill(path, messages=1)
    assert path.read_bytes()[68:72] == APPLICATION_ID.to_bytes(4, "big")
