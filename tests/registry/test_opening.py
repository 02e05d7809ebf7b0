from __future__ import annotations

import itertools
import logging
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine

from headwater.errors import ConfigurationError
from headwater.registry.opening import MIGRATIONS, open_registry
from headwater.registry.tables import Base


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def test_the_migrations_make_exactly_the_declared_tables(registry, registry_url):
    engine = create_engine(registry_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_the_migrations_keep_what_alembic_does_not_compare(registry, tmp_path):
    """AUTOINCREMENT, ON DELETE and the names of the constraints."""
    engine = create_engine(f"sqlite:///{tmp_path}/declared.db")
    Base.metadata.create_all(engine)
    engine.dispose()

    def shape(path: Path) -> dict[str, object]:
        connection = sqlite3.connect(path)
        tables = dict(
            connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table' AND sql IS NOT NULL")
        )
        connection.close()
        tables.pop("alembic_version", None)
        return {
            name: ("AUTOINCREMENT" in sql, sql.count("CASCADE"), sorted(_constraint_names(sql)))
            for name, sql in tables.items()
        }

    # SQLite drops the name of a primary key that is AUTOINCREMENT, in both.
    assert shape(tmp_path / "registry.db") == shape(tmp_path / "declared.db")


def _constraint_names(sql: str) -> list[str]:
    words = sql.split()
    return [after for word, after in itertools.pairwise(words) if word == "CONSTRAINT"]


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_all_files_are_private_whatever_the_umask(tmp_path, mask):
    code = (
        "import os, sys; os.umask(int(sys.argv[2]))\n"
        "from headwater.registry.opening import open_registry\n"
        "registry = open_registry(sys.argv[1])\n"
        "print(sorted((name, os.stat(name).st_mode & 0o777) for name in os.listdir('.')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, f"sqlite:///{tmp_path}/registry.db", str(mask)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    names = ["registry.db", "registry.db-shm", "registry.db-wal"]
    assert done.stdout.strip() == str([(name, 0o600) for name in names])
    assert done.stderr == ""


def test_the_pragmas_hold_on_the_connection_in_use(registry):
    with registry._engine.connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}


def test_opening_is_silent_and_leaves_logging_alone(registry_url, capfd, caplog):
    root_before = list(logging.getLogger().handlers), logging.getLogger().level
    existing = logging.getLogger("headwater.something")
    open_registry(registry_url).close()
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert (list(logging.getLogger().handlers), logging.getLogger().level) == root_before
    assert not existing.disabled


def test_a_database_of_a_newer_version_is_refused_and_left_alone(registry_url, tmp_path):
    open_registry(registry_url).close()
    connection = sqlite3.connect(tmp_path / "registry.db")
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    with pytest.raises(ConfigurationError, match="newer Headwater"):
        open_registry(registry_url)
    connection = sqlite3.connect(tmp_path / "registry.db")
    assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]
    connection.close()


def test_a_migration_that_fails_leaves_nothing_behind(registry_url, tmp_path):
    # A table in the way makes the first migration fail after it has made some tables.
    connection = sqlite3.connect(tmp_path / "registry.db")
    connection.execute("CREATE TABLE grants (id INTEGER)")
    connection.commit()
    connection.close()
    with pytest.raises(ConfigurationError, match="grants already exists"):
        open_registry(registry_url)
    connection = sqlite3.connect(tmp_path / "registry.db")
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("grants",)]
    connection.close()


def test_a_database_of_the_first_version_is_brought_up_to_date_with_all_it_holds(registry_url):
    engine = create_engine(registry_url)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.exec_driver_sql(
            "INSERT INTO accounts VALUES (1, 'ada', 'hash', 1, 'U', 'M', 'UTC', 1, '2026-01-01 00:00:00.000000')"
        )
        connection.exec_driver_sql(
            "INSERT INTO accounts VALUES (2, 'bob', 'hash', 0, 'V', 'N', 'UTC', 1, '2026-01-01 00:00:00.000000')"
        )
        connection.exec_driver_sql(
            "INSERT INTO mqtt_devices VALUES (7, 1, 'probe', 'c', 'c', x'00', 1, '2026-01-01 00:00:00.000000')"
        )
    engine.dispose()
    registry = open_registry(registry_url)
    before = registry.snapshot()
    assert [account.name for account in before.accounts] == ["ada", "bob"]
    assert len({account.alerts_api_key for account in before.accounts if len(account.alerts_api_key) == 16}) == 2
    assert {account.email for account in before.accounts} == {""}
    assert [device.client_id for device, _ in before.devices] == ["c"]
    assert before.account_devices == ()
    device = registry.add_account_device(1, "pump", name="Pump", credential_hash="hash", most=1)
    assert registry.snapshot().account_devices == ((device, "hash"),)
    registry.close()
    again = open_registry(registry_url)
    assert again.snapshot().account_devices == ((device, "hash"),)
    again.close()


def test_what_is_no_database_is_refused_and_left_alone(registry_url, tmp_path):
    content = b"This is somebody's letter, not a database. " * 50
    (tmp_path / "registry.db").write_bytes(content)
    with pytest.raises(ConfigurationError, match="not a database"):
        open_registry(registry_url)
    assert (tmp_path / "registry.db").read_bytes() == content


@pytest.mark.parametrize("url", ["no url at all", "nosuchdatabase://x/y"])
def test_a_url_that_means_nothing_is_refused(url):
    with pytest.raises(ConfigurationError):
        open_registry(url)


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="No such file"):
        open_registry(f"sqlite:///{tmp_path}/missing/registry.db")


def test_a_path_with_odd_characters_works(tmp_path):
    folder = tmp_path / "50% full, %(here)s"
    folder.mkdir()
    open_registry(f"sqlite:///{folder}/registry.db").close()
    assert modes(folder)["registry.db"] == 0o600


def test_the_migrations_are_part_of_the_package():
    assert (MIGRATIONS / "env.py").is_file()
    revisions = sorted(path.name for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))
    assert revisions[0].startswith("0001_")
    assert len({name[:4] for name in revisions}) == len(revisions)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(registry_url, tmp_path):
    (tmp_path / "registry.db").touch(mode=0o000)
    with pytest.raises(ConfigurationError, match="Permission denied"):
        open_registry(registry_url)
