"""Files that a command makes: compressed as their name says, and there when they are whole. Knows nothing of their
content."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Protocol

import pyarrow as pa

from headwater.errors import ConfigurationError, HeadwaterError
from headwater.files import sync_directory

COMPRESSIONS: Mapping[str, str] = MappingProxyType({".gz": "gzip", ".tgz": "gzip", ".zst": "zstd"})
"""By the ending of the file's name."""
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5": "zstd"}
"""How compressed files begin."""


class Output(Protocol):
    def write(self, data: bytes, /) -> object: ...


class Input(Protocol):
    def read(self, size: int, /) -> bytes: ...


@contextmanager
def whole_file(path: Path, *, may_replace: bool) -> Iterator[Output]:
    """A file that is there, whole and on disk, when the block has ended without an error, and else is not there.

    It is its user's alone. Compressed as its name says. Raises ConfigurationError when there is such a file already,
    unless `may_replace`; it stays as it was until the new one is whole.
    """
    if not may_replace and path.exists():
        raise ConfigurationError(f"{path} exists already: choose another name, or add --replace")
    if path.exists() and not path.is_file():
        raise ConfigurationError(f"{path} is not an ordinary file, which could be replaced: choose another name")
    if not path.absolute().parent.is_dir():
        raise ConfigurationError(f"there is no directory {path.parent}: make it, or choose another one for {path.name}")
    unfinished = path.with_name(path.name + ".new")
    with _open_alone(unfinished) as file:
        try:
            with _compressed(file, path) as output:
                yield output
            file.flush()
            os.fsync(file.fileno())
            unfinished.replace(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
    sync_directory(path.parent)


def _open_alone(path: Path) -> BinaryIO:
    """An empty file that no other command writes as long as it is open; also where one that was killed left it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # nobody waits at a pipe
    descriptor = os.open(path, flags, 0o600)
    file = os.fdopen(descriptor, "wb")
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink > 1:
        file.close()  # in a directory like /tmp anybody could have put it there, to read or destroy something
        raise HeadwaterError(f"{path} is in the way, and not what a command left there: remove it")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The other one may have ended just now: then this is no longer the file of that name.
        is_ours = path.exists() and os.path.samestat(path.stat(), os.fstat(descriptor))
    except BlockingIOError:
        is_ours = False
    if not is_ours:
        file.close()
        raise HeadwaterError(f"another command writes to {path}: choose another name, or try again later")
    os.fchmod(descriptor, 0o600)
    os.ftruncate(descriptor, 0)
    return file


@contextmanager
def _compressed(file: BinaryIO, path: Path) -> Iterator[Output]:
    compression = COMPRESSIONS.get(path.suffix)
    if compression is None:
        yield file
        return
    copy = os.fdopen(os.dup(file.fileno()), "wb")  # it closes what it is given
    with pa.CompressedOutputStream(copy, compression) as output:
        yield output


class Begun:
    """A stream of which the first bytes were read already."""

    closed = False  # so that PyArrow takes it for a file

    def __init__(self, begin: bytes, rest: Input) -> None:
        self._begin = begin
        self._rest = rest

    def read(self, size: int = -1, /) -> bytes:
        if self._begin:
            part, self._begin = self._begin[:size], self._begin[size:]
            return part
        return self._rest.read(size)

    def close(self) -> None:
        """Whoever opened the stream closes it."""


def decompressed(source: Input) -> Input:
    """What was compressed, whatever its name; anything else as it is. Raises OSError without an errno, here or from
    `read`, for what is damaged or cut off."""
    begin = source.read(2)
    whole = Begun(begin, source)
    compression = _MAGIC.get(begin)
    return whole if compression is None else pa.CompressedInputStream(pa.PythonFile(whole, mode="r"), compression)
