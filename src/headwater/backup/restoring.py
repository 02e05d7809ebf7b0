"""Puts a backup in place: into a directory beside the one that is wanted, which gets its name when all is on disk.

Nothing is in place before every byte was compared with the manifest's hashes.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from headwater.backup.archive import ArchiveReader
from headwater.backup.manifest import Manifest
from headwater.backup.taking import Progress
from headwater.errors import BadBackup, ConfigurationError
from headwater.files import create_private, sync_directory
from headwater.whole_files import Input, decompressed


def restore(source: BinaryIO, data: Path, progress: Progress) -> Manifest:
    """Make the data directory from a backup. It must not exist, or be empty; afterwards it is there as
    a whole, or as it was before.

    Raises BadBackup, ConfigurationError when the directory cannot be used, and OSError.
    """
    data = data.absolute()
    _check_target(data)
    reader = ArchiveReader(_decompressed(source))
    progress.begin("restoring", reader.manifest.size_bytes)
    data.parent.mkdir(parents=True, exist_ok=True)
    with _directory_beside(data) as unfinished:
        directories = {unfinished}
        for stored in reader.files():
            path = unfinished / stored.entry.name
            path.parent.mkdir(mode=0o700, exist_ok=True)
            directories.add(path.parent)
            with create_private(path) as file:
                for chunk in stored.content:
                    file.write(chunk)
                    progress.advance(len(chunk))
                file.flush()
                os.fsync(file.fileno())
        for directory in directories:
            sync_directory(directory)
        try:
            unfinished.rename(data)  # takes the place of an empty directory, and of no other
        except OSError as error:
            if error.errno in (errno.EBUSY, errno.EXDEV):
                raise ConfigurationError(
                    f"{data} cannot be replaced, it may be a mount point: restore into a directory in it with --data"
                ) from error
            raise
    sync_directory(data.parent)
    return reader.manifest


def _check_target(data: Path) -> None:
    if data.is_symlink() or (data.exists() and not data.is_dir()):
        raise ConfigurationError(f"{data} is not a directory: name another with --data")
    if data.exists() and any(data.iterdir()):
        raise ConfigurationError(
            f"{data} is not empty, and nothing is replaced: stop its server and move it away, "
            "or restore into another directory with --data"
        )


def _decompressed(source: BinaryIO) -> Input:
    try:
        return decompressed(source)
    except OSError as error:
        if error.errno is not None:
            raise
        raise BadBackup("this is not a backup of Headwater, or it is damaged") from error


@contextmanager
def _directory_beside(data: Path) -> Iterator[Path]:
    """A new directory on the same disk, for this user alone; gone afterwards if it was not renamed."""
    path = Path(tempfile.mkdtemp(prefix=f".{data.name}.restoring-", dir=data.parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
