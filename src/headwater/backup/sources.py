"""The files of a data directory as they belong together, had while a server writes them. Knows no archive.

The order matters. Points come first and the registry last: a channel that is made meanwhile has no entries yet, and
entries of one that is removed meanwhile are forgotten at the next start; the other way round there would be entries of
channels that the registry never knew, and sessions of devices whose numbers it will give to others.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import BinaryIO

from headwater.backup.manifest import is_safe_name
from headwater.certificates import DIRECTORY as CERTIFICATES
from headwater.errors import ConfigurationError, StorageError
from headwater.instance import running_pid
from headwater.store import Store

TELEMETRY = "telemetry"
REGISTRY = "registry.db"
BROKER = "broker.db"
SMALL_FILES = ("session.key", "secrets.key", "demo.json")
SCRATCH = ".backup"
"""A directory for copies of databases, which have names there only while they are made."""
BUSY_TIMEOUT_S = 30.0


def require_data(data: Path) -> None:
    """Raises ConfigurationError for a directory in which no server has ever worked."""
    if not (data / REGISTRY).exists() and running_pid(data) is None:
        raise ConfigurationError(f"there is no data in {data}: name the right directory with --data")


@contextmanager
def open_sources(data: Path, store: Store) -> Iterator[dict[str, BinaryIO]]:
    """Files, open for reading, by their names in a backup: all that was acknowledged before is in them.

    The data directory must be this process's, and one backup at a time. Raises StorageError and OSError.
    """
    with ExitStack() as stack:
        files: dict[str, BinaryIO] = {}
        for name, file in store.snapshot().items():
            files[f"{TELEMETRY}/{name}"] = stack.enter_context(file)
        with _scratch(data) as scratch:
            for name in (BROKER, REGISTRY):
                if (data / name).exists():
                    files[name] = stack.enter_context(_copy_database(data / name, scratch / name))
        if REGISTRY not in files:
            raise ConfigurationError(f"{data} has no {REGISTRY}: it is not the data directory of a server")
        for path in _plain_files(data):
            files[path.relative_to(data).as_posix()] = stack.enter_context(path.open("rb"))
        yield files


def _copy_database(path: Path, target: Path) -> BinaryIO:
    """A copy as of one moment, beside a writer in this process or another."""
    try:
        with (
            closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=BUSY_TIMEOUT_S)) as source,
            closing(sqlite3.connect(target)) as copy,
        ):
            copy.execute("PRAGMA synchronous = OFF").close()
            source.backup(copy)
    except sqlite3.Error as error:
        raise StorageError(f"{path} cannot be copied: {error}") from error
    return target.open("rb")


def _plain_files(data: Path) -> Iterator[Path]:
    certificates = data / CERTIFICATES
    in_it = sorted(certificates.iterdir()) if certificates.is_dir() else ()
    for path in (*(data / name for name in SMALL_FILES), *in_it):
        # Names with a dot in front are unfinished files.
        if path.is_file() and is_safe_name(path.relative_to(data).as_posix()):
            yield path


@contextmanager
def _scratch(data: Path) -> Iterator[Path]:
    """A directory of this process alone; what an interrupted backup left in it goes."""
    path = data / SCRATCH
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(mode=0o700)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)  # open files need no names
