"""Opening the DuckDB store's directory: what is made, what is refused, and in which words."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from duck_format_1 import FORMAT_1
from headwater.errors import ConfigurationError, StorageError
from headwater.model.series import Series, SeriesKey, ValueType
from headwater.store import Batch, Columns
from headwater.store.duck import open_duck_store
from headwater.store.duck.files import DATABASE_NAME, open_database
from headwater.store.duck.schema import FORMAT_VERSION


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "data" / "telemetry"


def store_points(directory: Path, count: int) -> None:
    columns = Columns(ValueType.FLOAT)
    for at_ns in range(count):
        columns.append(1, at_ns, at_ns * 0.37)
    with closing(open_duck_store(directory)) as store:
        store.append(Batch([Series(1, SeriesKey(1, "m"), "f", ValueType.FLOAT)], {ValueType.FLOAT: columns}))


def read_all(directory: Path) -> list[float]:
    with closing(open_duck_store(directory)) as store:
        values: list[float] = store.rows([1]).column("1").to_pylist()
        return values


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_the_files_are_private(directory: Path) -> None:
    directory.mkdir(parents=True, mode=0o755)
    with closing(open_duck_store(directory)):
        assert directory.stat().st_mode & 0o777 == 0o700
        assert (directory / DATABASE_NAME).stat().st_mode & 0o777 == 0o600


def test_a_closed_store_leaves_one_file(directory: Path) -> None:
    store_points(directory, 10)
    assert [path.name for path in directory.iterdir()] == [DATABASE_NAME]


def test_a_second_process_is_told_who_has_the_directory(directory: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from headwater.store.duck import open_duck_store\n"
        "try: open_duck_store(Path(sys.argv[1]))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    with closing(open_duck_store(directory)):
        other = subprocess.run(
            [sys.executable, "-c", script, str(directory)], capture_output=True, text=True, timeout=60, check=True
        )
    assert other.stdout.startswith("ConfigurationError")
    assert f"{directory} is already in use by process {os.getpid()}" in other.stdout


def test_a_newer_format_is_refused(directory: Path) -> None:
    store_points(directory, 1)
    with duckdb.connect(directory / DATABASE_NAME) as connection:
        connection.execute("UPDATE meta SET format_version = format_version + 1")
    with pytest.raises(ConfigurationError, match=f"has format {FORMAT_VERSION + 1}"):
        open_duck_store(directory)


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE mine (id INTEGER)"],
        ["CREATE TABLE meta (note VARCHAR)"],
        ["CREATE TABLE meta (application VARCHAR, format_version INTEGER)"],
        ["CREATE TABLE meta (application VARCHAR, format_version INTEGER)", "INSERT INTO meta VALUES ('other', 1)"],
    ],
)
def test_the_database_of_another_program_is_refused(directory: Path, statements: list[str]) -> None:
    directory.mkdir(parents=True)
    with duckdb.connect(directory / DATABASE_NAME) as connection:
        for statement in statements:
            connection.execute(statement)
    before = (directory / DATABASE_NAME).read_bytes()
    with pytest.raises(ConfigurationError, match="not one of Headwater's"):
        open_duck_store(directory)
    assert (directory / DATABASE_NAME).read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"x", b"SQLite format 3\0" * 1000])
def test_a_file_of_another_kind_is_refused_and_left_alone(directory: Path, content: bytes) -> None:
    directory.mkdir(parents=True)
    path = directory / DATABASE_NAME
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="not a telemetry file of Headwater"):
        open_duck_store(directory)
    assert path.read_bytes() == content


def test_a_log_without_its_database_is_not_applied_to_a_new_one(directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / f"{DATABASE_NAME}.wal").write_bytes(b"log")
    with pytest.raises(ConfigurationError, match="is missing although its log"):
        open_duck_store(directory)
    assert not (directory / DATABASE_NAME).exists()


def test_a_first_start_that_was_cut_off_is_made_up_for(directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / "points.new").write_bytes(b"half")
    (directory / "points.new.wal").write_bytes(b"of it")
    store_points(directory, 3)
    assert len(read_all(directory)) == 3
    assert [path.name for path in directory.iterdir()] == [DATABASE_NAME]


def test_a_directory_that_cannot_be_made_is_the_operators_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigurationError, match="cannot be used"):
        open_duck_store(tmp_path / "file" / "telemetry")


def test_a_senseless_setting_is_the_operators_error(directory: Path) -> None:
    with pytest.raises(ConfigurationError, match="refuses a setting"):
        open_duck_store(directory, threads=0)


def test_damage_is_noticed(directory: Path) -> None:
    """Each block is overwritten in turn: the store says so, when opened or when read, or it was a block not in use.
    Never does it read wrong values."""
    store_points(directory, 100_000)
    expected = read_all(directory)
    path = directory / DATABASE_NAME
    whole = path.read_bytes()
    noticed = 0
    for offset in [0, 4096, 8192, *range(12_288, len(whole), 262_144)]:
        damaged = bytearray(whole)
        damaged[offset + 100 : offset + 164] = bytes(byte ^ 0x5A for byte in damaged[offset + 100 : offset + 164])
        path.write_bytes(damaged)
        try:
            assert read_all(directory) == expected
        except (ConfigurationError, StorageError):
            noticed += 1
    assert noticed > 1


def test_a_truncated_file_is_noticed(directory: Path) -> None:
    store_points(directory, 100_000)
    path = directory / DATABASE_NAME
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises((StorageError, ConfigurationError)):
        read_all(directory)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_text('{file}')",
        "COPY meta TO '{file}'",
        "ATTACH '{file}' AS other",
        "LOAD '{file}'",
        "INSTALL httpfs",
        "SET memory_limit = '64GB'",
        "SET enable_external_access = true",
        "FROM python_variable",
    ],
)
def test_statements_reach_nothing_outside(directory: Path, tmp_path: Path, statement: str) -> None:
    python_variable = duckdb.sql("SELECT 1")
    file = tmp_path / "other"
    file.write_text("secret")
    connection = open_database(directory, {})
    try:
        with pytest.raises(duckdb.Error):
            connection.execute(statement.format(file=file)).fetchall()
    finally:
        connection.close()
        python_variable.close()
    assert file.read_text() == "secret"


def test_a_file_of_format_1_is_brought_up(tmp_path: Path) -> None:
    with duckdb.connect(tmp_path / "points.duckdb") as old:
        for statement in FORMAT_1:
            old.execute(statement)
    for _ in range(2):
        with closing(open_duck_store(tmp_path, hot_rows=2)) as store:
            assert store.rows([32, 33]).to_pydict() == {"at_ns": [1000, 2000], "32": [3.5, 2.5], "33": ["on", None]}
            assert [series.id for series in store.catalogue()] == [32, 33]
            while store.maintain():
                pass
    assert [path.name for path in tmp_path.glob("run-*")] == ["run-1.duckdb"]
