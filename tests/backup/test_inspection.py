"""What `headwater check` says about data that is sound, and about every way in which it may not be."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from array import array
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from headwater.backup.inspection import check_broker, check_registry, check_telemetry
from headwater.errors import ConfigurationError, StorageError
from headwater.instance import hold_data_directory
from headwater.model.series import Series, SeriesKey, ValueType
from headwater.persistence.sqlite import open_sqlite_session_store
from headwater.registry.entities import ChannelSettings
from headwater.registry.opening import open_registry
from headwater.settings import Settings
from headwater.store import Batch, Columns
from headwater.store.duck import open_duck_store

SERIES = Series(1, SeriesKey(1, "m"), "field1", ValueType.FLOAT)
RUN_ROWS = 5000


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with two runs, and what arrived after them."""
    data = tmp_path_factory.mktemp("sound") / "data"
    data.mkdir()
    with closing(open_registry(Settings(data=data).registry_url)) as registry:
        account, _ = registry.add_account(
            "anna",
            password_hash="hash",
            is_admin=True,
            user_api_key="u",
            mqtt_api_key="m",
            alerts_api_key="a",
            time_zone="UTC",
        )
        registry.add_channel(account.id, ChannelSettings(name="c"), write_key="w", read_key="r", most=9)
    open_sqlite_session_store(data / "broker.db").close()
    with closing(open_duck_store(data / "telemetry", hot_rows=RUN_ROWS)) as store:
        store.append(Batch([SERIES]))
        for rows, first in ((RUN_ROWS, 0), (RUN_ROWS, RUN_ROWS), (10, 2 * RUN_ROWS)):
            columns = Columns(ValueType.FLOAT)
            columns.series_ids = array("q", [1]) * rows
            columns.at_ns = array("q", range(first, first + rows))
            columns.values = array("d", (n * 0.37 for n in range(rows)))
            store.append(Batch([], {ValueType.FLOAT: columns}))
            while store.maintain():
                pass
    return data


@pytest.fixture
def data(sound: Path, tmp_path: Path) -> Path:
    shutil.copytree(sound, tmp_path / "data")
    return tmp_path / "data"


def run_files(data: Path) -> list[Path]:
    return sorted((data / "telemetry").glob("run-*.duckdb"))


def test_sound_data_is_told_and_left_as_it_is(data: Path) -> None:
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    settings = Settings(data=data)
    assert check_registry(settings) == "good: 1 account, 1 channel"
    assert check_broker(settings) == "good: 0 sessions, 0 retained messages"
    assert check_telemetry(settings) == f"good: {2 * RUN_ROWS + 10} points of 1 series, 2 sorted files"
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before


def test_what_was_only_committed_to_logs_is_looked_at(data: Path) -> None:
    script = (
        "import os, sys, sqlite3, duckdb\n"
        "telemetry = duckdb.connect(sys.argv[1] + '/telemetry/points.duckdb')\n"
        "telemetry.execute('INSERT INTO hot_float_3 VALUES (1, 99999, 1.5)')\n"
        "broker = sqlite3.connect(sys.argv[1] + '/broker.db')\n"
        "broker.execute('INSERT INTO retained VALUES (?, ?, ?, 0, ?, NULL)', ('t', 'a', b'', b''))\n"
        "broker.commit()\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(data)], check=True)
    assert (data / "telemetry" / "points.duckdb.wal").exists()
    assert (data / "broker.db-wal").exists()
    assert "1 retained" in check_broker(Settings(data=data))
    assert f"{2 * RUN_ROWS + 11} points" in check_telemetry(Settings(data=data))
    assert (data / "telemetry" / "points.duckdb.wal").exists()


def test_nothing_there_is_nothing_wrong(tmp_path: Path) -> None:
    for look in (check_registry, check_broker, check_telemetry):
        assert "will be made" in look(Settings(data=tmp_path / "none"))
    assert not list(tmp_path.iterdir())


def test_beside_a_server_telemetry_is_left_alone(data: Path) -> None:
    with hold_data_directory(data):
        assert "not looked into" in check_telemetry(Settings(data=data))
        assert "good" in check_registry(Settings(data=data))


def refused(data: Path, words: str, error: type[Exception] = StorageError) -> None:
    with pytest.raises(error, match=words):
        check_telemetry(Settings(data=data))


def test_a_missing_run_is_named(data: Path) -> None:
    for run in run_files(data):
        run.unlink()
    refused(data, "run-1.duckdb is missing, run-2.duckdb is missing; restore a backup")


@pytest.mark.parametrize("name", ["points.duckdb", "run-1.duckdb"])
def test_a_damaged_page_is_found(data: Path, name: str) -> None:
    """In the middle of each block of data; the first three pages are headers, of which one is always unused."""
    path = data / "telemetry" / name
    whole = path.read_bytes()
    found = []
    for offset in range(12_288 + 1000, len(whole), 262_144):
        damaged = bytearray(whole)
        damaged[offset] ^= 0xFF
        path.write_bytes(damaged)
        try:
            check_telemetry(Settings(data=data))
        except StorageError as error:
            found.append(str(error))
    assert found
    assert all(name in told for told in found)


def test_a_run_that_was_cut_off_is_found(data: Path) -> None:
    path = run_files(data)[1]
    path.write_bytes(path.read_bytes()[:-1000])
    refused(data, "run-2.duckdb cannot be read")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("FROM points WHERE time <> 7", f"{RUN_ROWS - 1} points instead of {RUN_ROWS}"),
        ("SELECT series_id, 4999 - time AS time, value FROM points", "is not sorted"),
        ("SELECT series_id, time // 2 AS time, value FROM points", "is not sorted"),
        ("SELECT 2 - time // 4990 AS series_id, time, value FROM points", "is not sorted"),
        ("SELECT series_id, time + 1 AS time, value FROM points", "other times"),
        ("SELECT series_id, value FROM points", "cannot be read"),
    ],
)
def test_a_run_with_other_points_is_found(data: Path, query: str, words: str) -> None:
    path = run_files(data)[0]
    with duckdb.connect(path.with_suffix(".other")) as other:
        other.execute(f"ATTACH '{path}' AS former (READ_ONLY); USE former")
        source = query.replace("FROM points", "FROM former.points")
        name = path.with_suffix(".other").stem
        other.execute(f'CREATE TABLE "{name}".main.points AS {source}')
    path.with_suffix(".other").replace(path)
    refused(data, words)


def change(data: Path, statement: str) -> None:
    with duckdb.connect(data / "telemetry" / "points.duckdb") as connection:
        connection.execute(statement)


@pytest.mark.parametrize(
    ("statement", "words", "error"),
    [
        ("INSERT INTO series FROM series", "two series of one number", StorageError),
        ("DROP TABLE hot_float_3", "cannot be read", StorageError),
        ("UPDATE runs SET first_generation = 1", "the same generations", StorageError),
        ("UPDATE meta SET format_version = 99", "use a newer one", ConfigurationError),
        ("UPDATE meta SET application = 'other'", "not one of Headwater's", ConfigurationError),
        ("UPDATE series SET bucket_id = 2", "never knew channel 2", StorageError),
    ],
)
def test_a_wrong_catalogue_is_found(data: Path, statement: str, words: str, error: type[Exception]) -> None:
    change(data, statement)
    refused(data, words, error)


def test_missing_telemetry_is_found(data: Path) -> None:
    (data / "telemetry" / "points.duckdb").unlink()
    refused(data, "points.duckdb is missing")
    shutil.rmtree(data / "telemetry")
    refused(data, "missing although channels were made")


@pytest.mark.parametrize(("name", "look"), [("registry.db", check_registry), ("broker.db", check_broker)])
def test_damaged_databases_are_found(data: Path, name: str, look: object) -> None:
    assert callable(look)
    path = data / name
    whole = path.read_bytes()
    for damaged in (b"", whole[:5000], b"x" * 5000, whole[:100] + b"\xff" * 8000 + whole[8100:]):
        path.write_bytes(damaged)
        with pytest.raises((StorageError, ConfigurationError), match=name):
            look(Settings(data=data))


def test_databases_of_newer_versions_are_told(data: Path) -> None:
    with closing(sqlite3.connect(data / "registry.db")) as registry, registry:
        registry.execute("UPDATE alembic_version SET version_num = '9999'")
    with closing(sqlite3.connect(data / "broker.db")) as broker, broker:
        broker.execute("PRAGMA user_version = 99")
    with pytest.raises(ConfigurationError, match="newer Headwater"):
        check_registry(Settings(data=data))
    with pytest.raises(ConfigurationError, match="use a newer one"):
        check_broker(Settings(data=data))


def test_the_command_ends_with_1_when_something_is_damaged(data: Path) -> None:
    command = [sys.executable, "-m", "headwater", "check", "--data", str(data)]
    good = subprocess.run(command, capture_output=True, text=True, check=False)
    assert good.returncode == 0, good
    assert "telemetry     good" in good.stdout
    run_files(data)[0].unlink()
    damaged = subprocess.run(command, capture_output=True, text=True, check=False)
    assert damaged.returncode == 1, damaged
    assert "telemetry     BAD" in damaged.stdout
    assert "registry      good" in damaged.stdout
