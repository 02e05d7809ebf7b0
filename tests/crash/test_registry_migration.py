"""A registry of the third version, with much in it, is being brought up when its process is killed, at one moment after
the other: it is of the one version or of the other, and nothing that was in it is lost."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from headwater.registry.opening import MIGRATIONS, inspect_registry, open_registry

ACCOUNTS = 1_000
MOMENTS = 4
AT = "2026-01-01 00:00:00.000000"
FORMER = {
    "accounts": "INSERT INTO accounts VALUES (:n, 'account ' || :n, 'hash', 0, 'U' || :n, 'M' || :n, 'UTC', 1, :at)",
    "buckets": "INSERT INTO buckets VALUES (:n, :n, 'channel', 'channel ' || :n, '', :at, :at, NULL)",
    "channels": "INSERT INTO channels VALUES (:n, '', '', '', 0, '', '', '', '[]')",
    "channel_fields": "INSERT INTO channel_fields VALUES (:n, 1, 'Temp')",
    "api_keys": "INSERT INTO api_keys VALUES (:n, :n, 'K' || :n, 1, '', :at)",
    "mqtt_devices": "INSERT INTO mqtt_devices VALUES (:n, :n, 'probe', 'c' || :n, 'c' || :n, x'00', 1, :at)",
    "grants": "INSERT INTO grants VALUES (:n, :n, 1, 1)",
}

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def third_version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("third") / "registry.db"
    engine = create_engine(f"sqlite:///{path}")
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
    engine.dispose()
    with closing(sqlite3.connect(path)) as old, old:
        old.execute("PRAGMA journal_mode = WAL").close()
        for insert in FORMER.values():
            old.executemany(insert, [{"n": n, "at": AT} for n in range(1, ACCOUNTS + 1)])
    return path


def former(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """All that was there, in the columns that were there; the file is sound."""
    with closing(sqlite3.connect(path)) as found:
        assert found.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert found.execute("PRAGMA foreign_key_check").fetchall() == []
        width = {table: insert.count(",") + 1 for table, insert in FORMER.items()}
        return {table: [row[: width[table]] for row in found.execute(f"SELECT * FROM {table}")] for table in FORMER}


def version(path: Path) -> str:
    with closing(sqlite3.connect(path)) as found:
        [(number,)] = found.execute("SELECT version_num FROM alembic_version")
        return str(number)


def open_and_kill(path: Path, after_s: float | None) -> float:
    """Kill a process so long after it began to bring the registry up, or once it has; how long it was at it."""
    arguments = [sys.executable, "-m", "tests.crash.registry_opener", f"sqlite:///{path}"]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as opener:
        assert opener.stdout is not None
        assert opener.stdout.readline() == "open\n"
        began_s = time.monotonic()
        if after_s is None:
            assert opener.stdout.readline() == "done\n"
        else:
            time.sleep(after_s)
        took_s = time.monotonic() - began_s
        assert opener.poll() is None, "it failed by itself"
        opener.kill()
    return took_s


def test_a_kill_while_a_registry_is_brought_up_loses_nothing(third_version: Path, tmp_path: Path) -> None:
    expected = former(third_version)
    assert all(len(rows) == ACCOUNTS for rows in expected.values())
    whole = tmp_path / "whole.db"
    shutil.copy(third_version, whole)
    took_s = open_and_kill(whole, None)
    newest = version(whole)
    assert former(whole) == expected
    seen = set()
    for number in range(MOMENTS):
        path = tmp_path / f"{number}.db"
        shutil.copy(third_version, path)
        open_and_kill(path, took_s * (number + 0.5) / MOMENTS)
        assert version(path) in ("0003", newest)
        seen.add(version(path))
        assert former(path) == expected
        registry = open_registry(f"sqlite:///{path}")
        accounts = registry.snapshot().accounts
        registry.close()
        assert len({account.alerts_api_key for account in accounts}) == ACCOUNTS
        assert former(path) == expected
        assert inspect_registry(path)[:2] == (ACCOUNTS, ACCOUNTS)
    assert "0003" in seen, "no kill came while it was at it"
