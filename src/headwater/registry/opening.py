"""Open a registry database: create it private to its owner, bring its tables up to date, set its pragmas."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool

from headwater.errors import ConfigurationError
from headwater.registry.registry import Registry
from headwater.registry.transactions import utc_now
from headwater.sqlite_look import check_pages, open_to_look

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_TIMEOUT_MS = 5000  # the command line may write beside a running server


def open_registry(url: str, *, now: Callable[[], datetime] = utc_now) -> Registry:
    """Open the database at this SQLAlchemy URL (`sqlite:///DIR/registry.db`), creating and migrating it as
    needed.

    Raises: `ConfigurationError` when it cannot be opened, is no database, or was written by a newer
    Headwater.
    """
    try:
        parsed = make_url(url)
        engine = _build_engine(parsed)
    except (SQLAlchemyError, ImportError) as error:
        raise ConfigurationError("the registry's database URL cannot be used") from error
    where = parsed.database or parsed.render_as_string(hide_password=True)
    try:
        if parsed.get_backend_name() == "sqlite":
            _create_private(parsed)
        migrate(engine)
    except (SQLAlchemyError, OSError) as error:
        engine.dispose()
        reason = getattr(error, "orig", None) or error
        raise ConfigurationError(f"cannot open the registry {where}: {reason}") from error
    except ConfigurationError:
        engine.dispose()
        raise
    return Registry(engine, now=now)


def migrate(engine: Engine) -> None:
    """Bring the tables up to this version in one transaction; nothing changes when that fails.

    Raises: `ConfigurationError` when the database comes from a newer version.
    """
    config, known = _migrations()
    with engine.begin() as connection:
        if not known.issuperset(MigrationContext.configure(connection).get_current_heads()):
            raise _too_new()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _migrations() -> tuple[Config, set[str]]:
    """Where they are, and all their names."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config, {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}


def _too_new() -> ConfigurationError:
    return ConfigurationError(
        "the registry was written by a newer Headwater; upgrade Headwater or restore an older backup"
    )


class Contents(NamedTuple):
    """How much there is in a registry that is sound."""

    accounts: int
    channels: int
    last_bucket_id: int


def inspect_registry(path: Path) -> Contents:
    """Read all of a registry's file, also beside a running server, and change nothing.

    Raises: `StorageError` when it is damaged, `ConfigurationError` when a newer Headwater wrote it.
    """
    with open_to_look(path) as connection:
        check_pages(connection, path)
        _, known = _migrations()
        if not known.issuperset(revision for (revision,) in connection.execute("SELECT * FROM alembic_version")):
            raise _too_new()
        counted = connection.execute(
            "SELECT (SELECT count(*) FROM accounts), (SELECT count(*) FROM channels), "
            "(SELECT seq FROM sqlite_sequence WHERE name = 'buckets')"
        ).fetchone()
        return Contents(*(number or 0 for number in counted))


def _build_engine(url: URL) -> Engine:
    # One connection, because one thread uses it. Parameters hidden: keys and hashes must not reach a
    # traceback.
    engine = create_engine(url, poolclass=QueuePool, pool_size=1, max_overflow=0, hide_parameters=True)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_pragmas)
        event.listen(engine, "begin", _begin)
    return engine


def _create_private(url: URL) -> None:
    """Create the file with mode 0600 before SQLite would: it gives WAL and shared memory files the mode of
    the database."""
    if url.database is not None and url.database != ":memory:":
        os.close(os.open(url.database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _set_pragmas(connection: sqlite3.Connection, _: Any) -> None:
    connection.isolation_level = None  # the driver's own BEGIN leaves out DDL; `_begin` does it instead
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",  # a key that was handed out must survive a power cut
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin(connection: Connection) -> None:
    # Immediate: two processes that both read before they write would otherwise fail without waiting for each
    # other.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
