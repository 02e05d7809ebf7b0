"""Files that are whole or not there, and what file systems need to be told for that. Knows nothing of their content."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path
from typing import BinaryIO


def write_atomically(path: Path, content: bytes, mode: int) -> None:
    """The old file or the whole new one, whatever happens; never readable by more than `mode` says.

    Raises OSError.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def create_private(path: Path) -> BinaryIO:
    """A new file, open for writing, for its owner alone. Raises OSError, also when there is something of this name."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "wb")


def sync_directory(path: Path) -> None:
    """Put the directory's names on disk, where the system can do that. Raises OSError."""
    if os.name != "posix":
        return
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def sync_file(path: Path) -> None:
    """Put a file's content on disk. Raises OSError."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def free_bytes(directory: Path) -> int:
    """How much room there is for this user's files. Raises OSError."""
    return shutil.disk_usage(directory).free
