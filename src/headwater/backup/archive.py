"""The bytes of a backup: a plain tar archive, the manifest first. Knows no data directory.

Only regular files with short names, so that no header beyond the plain ones is needed, `tar` reads it anywhere, and
the reader here has nothing else to understand: no links, no devices, no extended headers.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO, NamedTuple

from headwater.backup.manifest import (
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    FileEntry,
    Manifest,
    parse_manifest,
    render_manifest,
)
from headwater.errors import BadBackup
from headwater.whole_files import Input, Output

CHUNK_BYTES = 2**20
_BLOCK_BYTES = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK_BYTES)
_ZEROS = bytes(_BLOCK_BYTES)


def describe(name: str, file: BinaryIO, advanced: Callable[[int], None]) -> FileEntry:
    """Size and hash of an open file, which is read from its beginning. `advanced` is told how many bytes at a time."""
    file.seek(0)
    digest, size_bytes = hashlib.sha256(), 0
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
        size_bytes += len(chunk)
        advanced(len(chunk))
    return FileEntry(name, size_bytes, digest.hexdigest())


def write_archive(output: Output, manifest: Manifest, files: Mapping[str, BinaryIO], at_s: int) -> None:
    """Write the manifest, then its files, dated `at_s`.

    Raises RuntimeError when a file is not what the manifest says.
    """
    content = render_manifest(manifest)
    output.write(_header(MANIFEST_NAME, len(content), at_s))
    output.write(content + _padding(len(content)))
    for entry in manifest.files:
        output.write(_header(entry.name, entry.size_bytes, at_s))
        file, left_bytes = files[entry.name], entry.size_bytes
        file.seek(0)
        while left_bytes:
            chunk = file.read(min(left_bytes, CHUNK_BYTES))
            if not chunk:
                raise RuntimeError(f"{entry.name} became shorter while it was copied")
            output.write(chunk)
            left_bytes -= len(chunk)
        output.write(_padding(entry.size_bytes))
    output.write(_END)


def _header(name: str, size_bytes: int, at_s: int) -> bytes:
    header = tarfile.TarInfo(name)
    header.size, header.mode, header.mtime = size_bytes, 0o600, at_s
    return header.tobuf(tarfile.GNU_FORMAT)


def _padding(size_bytes: int) -> bytes:
    return bytes(-size_bytes % _BLOCK_BYTES)


class Stored(NamedTuple):
    """A file as it comes out of an archive. Its content has to be taken to the end before the next one."""

    entry: FileEntry
    content: Iterator[bytes]


class ArchiveReader:
    """Reads an archive once, from front to back. Every method raises BadBackup as soon as something is not as it has to
    be: then nothing that was read may be used."""

    def __init__(self, source: Input) -> None:
        self._source = source
        name, size_bytes = self._next_header() or ("", 0)
        if name != MANIFEST_NAME or size_bytes > MAX_MANIFEST_BYTES:
            raise BadBackup("this is not a backup of Headwater")
        content = self._read(size_bytes)
        self._skip_padding(size_bytes)
        self.manifest = parse_manifest(content)

    def files(self) -> Iterator[Stored]:
        """All files that the manifest names, checked against it."""
        for entry in self.manifest.files:
            header = self._next_header()
            if header is None:
                raise BadBackup(f"the backup is not whole: {entry.name} is missing; use another one")
            if header != (entry.name, entry.size_bytes):
                raise BadBackup(f"the backup is damaged: {entry.name} is not where it should be; use another one")
            yield Stored(entry, self._content(entry))
        if self._next_header() is not None:
            raise BadBackup("the backup has a file that its list does not name: do not trust it")

    def _content(self, entry: FileEntry) -> Iterator[bytes]:
        digest, left_bytes = hashlib.sha256(), entry.size_bytes
        while left_bytes:
            chunk = self._read(min(left_bytes, CHUNK_BYTES))
            digest.update(chunk)
            left_bytes -= len(chunk)
            yield chunk
        if digest.hexdigest() != entry.sha256:
            raise BadBackup(f"the backup is damaged: {entry.name} is not what was stored; use another one")
        self._skip_padding(entry.size_bytes)

    def _next_header(self) -> tuple[str, int] | None:
        """Name and size of the next file; None at the end."""
        block = self._read(_BLOCK_BYTES)
        if block == _ZEROS:
            return None
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        except (tarfile.HeaderError, ValueError) as error:
            raise BadBackup("this is not a backup of Headwater, or it is damaged") from error
        if header.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or header.linkname or header.size < 0:
            raise BadBackup(f"the backup has {header.name[:100]!r}, which is no plain file: do not trust it")
        return header.name, header.size

    def _skip_padding(self, size_bytes: int) -> None:
        self._read(len(_padding(size_bytes)))

    def _read(self, size_bytes: int) -> bytes:
        parts, left_bytes = [], size_bytes
        while left_bytes:
            try:
                part = self._source.read(left_bytes)
            except OSError as error:
                if error.errno is not None:
                    raise
                # Not the disk's: what was compressed cannot be read.
                raise BadBackup("the backup is damaged: use another one") from error
            if not part:
                raise BadBackup("the backup is cut off: use another one")
            parts.append(part)
            left_bytes -= len(part)
        return b"".join(parts)
