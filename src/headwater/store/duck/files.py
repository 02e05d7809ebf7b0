"""Opens the database file safely, and makes it when there is none. Knows the format's version, no points.

The store owns a whole directory, readable by its user alone: DuckDB makes a new write-ahead log after every
checkpoint, with the rights of the process's umask, and puts what does not fit into memory beside it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import duckdb

from headwater.errors import ConfigurationError, StorageError
from headwater.files import sync_directory
from headwater.priority import new_threads_step_back
from headwater.store.duck.schema import APPLICATION, FORMAT_VERSION, create_statements, migrate_from_1

DATABASE_NAME = "points.duckdb"

SAFE_SETTINGS: Mapping[str, str] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "allow_persistent_secrets": "false",
    "python_enable_replacements": "false",  # no Python variable becomes a table by its name
}


def open_database(directory: Path, settings: Mapping[str, str]) -> duckdb.DuckDBPyConnection:
    """Open the database in a directory, after making both if they do not exist.

    Raises `ConfigurationError` when the directory cannot be used as it is: no right to it, in use by another process,
    holding something else or a newer format. Raises `StorageError` for a damaged file.
    """
    path = directory / DATABASE_NAME
    settings = {**settings, **SAFE_SETTINGS}
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        if not path.exists():
            _create(path, settings)
    except OSError as error:
        raise ConfigurationError(f"The telemetry directory {directory} cannot be used: {error}.") from error
    connection = _connect(path, settings)
    try:
        _confine(connection, directory)
        _check_format(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def open_to_look(directory: Path, settings: Mapping[str, str]) -> duckdb.DuckDBPyConnection:
    """Open the database in a directory to read it; nothing is made or changed. Raises as `open_database` does, and
    StorageError when it is missing."""
    path = directory / DATABASE_NAME
    if not path.exists():
        raise StorageError(f"{path} is missing: restore a backup (`headwater restore`).")
    connection = _connect(path, {**settings, **SAFE_SETTINGS}, read_only=True)
    try:
        _confine(connection, directory)
        _read_version(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _confine(connection: duckdb.DuckDBPyConnection, directory: Path) -> None:
    """From here on no statement reads or writes a file elsewhere, or changes this."""
    inside = quoted(f"{directory.absolute()}/")
    connection.execute(
        f"SET allowed_directories = [{inside}]; SET enable_external_access = false; SET lock_configuration = true"
    )


def _create(path: Path, settings: Mapping[str, str]) -> None:
    """Make the file under another name and rename it when it is whole, so that a start which is cut off leaves no
    half-made database that later starts would refuse."""
    log = log_of(path)
    if log.exists():
        # DuckDB would apply it to the new database.
        raise ConfigurationError(f"{path} is missing although its log {log.name} is there: restore both or move it.")
    unfinished = path.with_suffix(".new")
    remove_database(unfinished)
    with _connect(unfinished, settings) as connection:
        for statement in create_statements():
            connection.execute(statement)
    unfinished.chmod(0o600)
    unfinished.replace(path)
    sync_directory(path.parent)


def log_of(path: Path) -> Path:
    """The write-ahead log of a database."""
    return path.with_name(path.name + ".wal")


def remove_database(path: Path) -> None:
    """Remove a database and its log, where they are."""
    path.unlink(missing_ok=True)
    log_of(path).unlink(missing_ok=True)


def quoted(path: Path | str) -> str:
    """A path as SQL writes it."""
    return "'" + str(path).replace("'", "''") + "'"


def _connect(path: Path, settings: Mapping[str, str], *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    try:
        # DuckDB's own threads help with large queries and with upkeep; whoever waits for a commit does that by itself.
        with new_threads_step_back():
            return duckdb.connect(path, read_only=read_only, config=dict(settings))
    except duckdb.ProgrammingError as error:
        raise ConfigurationError(f"The telemetry store refuses a setting: {_first_line(error)}") from error
    except duckdb.Error as error:
        message = str(error)
        if "Conflicting lock" in message or "already open" in message:
            holder = re.search(r"\(PID (\d+)\)", message)
            by = f"process {holder[1]}" if holder else "another process"
            raise ConfigurationError(
                f"The telemetry directory {path.parent} is already in use by {by}: stop that one first."
            ) from error
        # A file that looks like SQLite's makes DuckDB ask for an extension, which it does not load by itself.
        if "not a valid DuckDB database file" in message or "Extension" in message:
            raise ConfigurationError(
                f"{path} is not a telemetry file of Headwater, or its beginning is damaged: "
                "restore it from a backup or move it away."
            ) from error
        if "newer version" in message:
            raise ConfigurationError(f"{path} was written by a newer DuckDB: use a newer Headwater.") from error
        if "Permission denied" in message:
            raise ConfigurationError(f"{path} cannot be opened: {_first_line(error)}") from error
        raise StorageError(f"{path} cannot be opened, it may be damaged: {_first_line(error)}") from error


def _check_format(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    if _read_version(connection, path) == 1:
        connection.execute("; ".join(["BEGIN", *migrate_from_1(), "COMMIT"]))


def _read_version(connection: duckdb.DuckDBPyConnection, path: Path) -> int:
    """The format; one that this Headwater knows."""
    try:
        rows = connection.execute("SELECT application, format_version FROM meta").fetchall()
    except (duckdb.CatalogException, duckdb.BinderException) as error:
        raise ConfigurationError(f"{path} is a DuckDB database, but not one of Headwater's.") from error
    except duckdb.Error as error:
        raise StorageError(f"{path} cannot be read, it may be damaged: {_first_line(error)}") from error
    match rows:
        case [(application, int(version))] if application == APPLICATION:
            if version > FORMAT_VERSION:
                raise ConfigurationError(
                    f"{path} has format {version}, this Headwater knows {FORMAT_VERSION} at most: use a newer one."
                )
            return version
        case _:
            raise ConfigurationError(f"{path} is a DuckDB database, but not one of Headwater's.")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
