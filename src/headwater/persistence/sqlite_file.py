"""Opens the broker's SQLite file safely, makes it when there is none, and brings a former format up to date. Knows
tables and versions, no changes."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from headwater.errors import ConfigurationError, StorageError
from headwater.files import write_atomically
from headwater.logs import Log
from headwater.sqlite_look import check_pages, open_to_look

log = Log(__name__)

FORMAT_VERSION = 2
APPLICATION_ID = 0x48574252  # "HWBR": tells our file from other programs' databases
BUSY_TIMEOUT_MS = 5000
CHECKPOINT_PAGES = 4000
"""16 MB: how long the write-ahead log grows before its content moves to the database file."""
LOG_SIZE_LIMIT_BYTES = 64 * 2**20
"""A log that one large transaction made longer is cut back to this."""

# A session and a packet id make one integer key (sqlite_rows.py): rows of a session lie side by side, and
# the table is its own index. Parts have no foreign keys to their session, because checking would cost each of them.
# Every column is read by the broker; what no code reads is not stored.
_SCHEMA = f"""
PRAGMA auto_vacuum = INCREMENTAL;
BEGIN;
CREATE TABLE session (
    session_id INTEGER PRIMARY KEY,
    owner TEXT NOT NULL,
    client_id TEXT NOT NULL,
    expiry_s INTEGER NOT NULL,
    disconnected_at_ns INTEGER,
    will_topic TEXT,
    will_payload BLOB,
    will_qos INTEGER,
    will_retain INTEGER,
    will_properties BLOB,
    UNIQUE (owner, client_id)
);
CREATE TABLE subscription (
    session_id INTEGER NOT NULL,
    topic_filter TEXT NOT NULL,
    options INTEGER NOT NULL,
    identifier INTEGER NOT NULL,
    PRIMARY KEY (session_id, topic_filter)
) WITHOUT ROWID;
CREATE TABLE outgoing (
    packet_key INTEGER PRIMARY KEY,
    position INTEGER NOT NULL,
    topic TEXT NOT NULL,
    payload BLOB NOT NULL,
    qos INTEGER NOT NULL,
    retain INTEGER NOT NULL,
    properties BLOB NOT NULL,
    expires_at_ns INTEGER,
    subscription_ids TEXT,
    is_released INTEGER NOT NULL,
    is_sent INTEGER NOT NULL
);
CREATE TABLE received (
    packet_key INTEGER PRIMARY KEY
);
CREATE TABLE retained (
    tree TEXT NOT NULL,
    topic TEXT NOT NULL,
    payload BLOB NOT NULL,
    qos INTEGER NOT NULL,
    properties BLOB NOT NULL,
    expires_at_ns INTEGER,
    PRIMARY KEY (tree, topic)
);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT_VERSION};
COMMIT;
"""

_UPGRADES: Mapping[int, str] = MappingProxyType(
    {
        1: """
ALTER TABLE session DROP COLUMN level;
ALTER TABLE session DROP COLUMN will_expiry_s;
ALTER TABLE session DROP COLUMN will_delay_s;
ALTER TABLE retained DROP COLUMN stored_at_ns;
ALTER TABLE retained DROP COLUMN publisher;
""",
    }
)
"""What makes the next format of each former one."""


def open_file(path: Path) -> sqlite3.Connection:
    """Open the file, after making it (private to its owner) if there is none. One of a former format becomes one of
    today's, which an older Headwater refuses. Transactions are the caller's.

    Raises `ConfigurationError` when it cannot be used as it is: no right to it, in use by another process, a newer
    format, or not a file of this kind. Raises `StorageError` when it is damaged. The file is left as it is then.
    """
    try:
        if not path.exists():
            _create(path)
        elif path.stat().st_size == 0:  # SQLite would take it for a new database
            raise ConfigurationError(f"{path} is empty: restore it from a backup or move it away.")
    except (OSError, sqlite3.Error) as error:
        raise ConfigurationError(f"{path} cannot be made: {error}.") from error
    try:
        # By URI, because a plain path makes a new file when this one has gone meanwhile.
        connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode=rw", uri=True, isolation_level=None, check_same_thread=False
        )
    except sqlite3.Error as error:
        raise ConfigurationError(f"{path} cannot be opened: {error}.") from error
    try:
        _check_format(connection, path)
        _set_up(connection)
        _upgrade(connection)
    except sqlite3.Error as error:
        connection.close()
        raise _explain(error, path) from error
    except BaseException:
        connection.close()
        raise
    return connection


def inspect_file(path: Path) -> tuple[int, int]:
    """How many sessions and retained messages the file has, after reading all of it and changing nothing. Raises as
    `open_file` does."""
    with open_to_look(path) as connection:
        _check_format(connection, path)
        check_pages(connection, path)
        sessions, retained = connection.execute(
            "SELECT (SELECT count(*) FROM session), (SELECT count(*) FROM retained)"
        ).fetchone()
        return sessions, retained


def _create(path: Path) -> None:
    """Make the file elsewhere and move it when it is whole, so that a start which is cut off leaves no half of it."""
    log = path.with_name(path.name + "-wal")
    if log.exists():
        # SQLite would delete it, or apply it to the new database.
        raise ConfigurationError(f"{path} is missing although its log {log.name} is there: restore both or move it.")
    with tempfile.TemporaryDirectory() as directory:
        unfinished = Path(directory) / path.name
        connection = sqlite3.connect(unfinished, isolation_level=None)
        try:
            connection.executescript(_SCHEMA)
        finally:
            connection.close()
        write_atomically(path, unfinished.read_bytes(), 0o600)  # SQLite gives its log the mode of the file


def _check_format(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}").close()
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    version = _version_of(connection)
    if application_id != APPLICATION_ID:
        raise ConfigurationError(f"{path} is an SQLite database, but not the broker's: move it away.")
    if version != FORMAT_VERSION and version not in _UPGRADES:
        raise ConfigurationError(
            f"{path} has format {version}, this Headwater knows {FORMAT_VERSION} at most: use a newer one."
        )
    # Everything is read at the start anyway, so a page that went bad should be found now and not at some commit.
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise StorageError(f"{path} is damaged, restore it from a backup or move it away: {_first_line(verdict)}")


def _set_up(connection: sqlite3.Connection) -> None:
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",  # a commit returns after the fsync of the log
        f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
        f"journal_size_limit = {LOG_SIZE_LIMIT_BYTES}",
    ):
        connection.execute(f"PRAGMA {pragma}").close()
    # A file that can only be read, or that another process writes, should be known before the first message comes.
    connection.execute("BEGIN IMMEDIATE").close()
    connection.execute("ROLLBACK").close()


def _upgrade(connection: sqlite3.Connection) -> None:
    """In one transaction: a start that is cut off, or finds the disk full, leaves the file as it was."""
    version = _version_of(connection)
    if version == FORMAT_VERSION:
        return
    log.info("the broker's file is brought up to date", format=version, new_format=FORMAT_VERSION)
    steps = "".join(_UPGRADES[former] for former in range(version, FORMAT_VERSION))
    connection.executescript(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version = {FORMAT_VERSION}; COMMIT;").close()


def _version_of(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def _explain(error: sqlite3.Error, path: Path) -> ConfigurationError | StorageError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_NOTADB:
        return ConfigurationError(
            f"{path} is no SQLite database, or its beginning is damaged: restore it from a backup or move it away."
        )
    if code == sqlite3.SQLITE_BUSY:
        return ConfigurationError(f"{path} is in use by another process: stop that one first.")
    if code == sqlite3.SQLITE_CORRUPT:
        return StorageError(f"{path} is damaged, restore it from a backup or move it away: {error}.")
    return ConfigurationError(f"{path} cannot be used: {error}.")


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
