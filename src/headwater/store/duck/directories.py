"""What file systems need to be told so that a name survives a power failure, and how much room they have."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def sync_directory(directory: Path) -> None:
    """Put the directory's names on disk, where the system can do that."""
    if os.name == "posix":
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sync_file(path: Path) -> None:
    """Put a file's content on disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def free_bytes(directory: Path) -> int:
    """How much room there is for this user's files."""
    return shutil.disk_usage(directory).free
