"""What an archive says about itself, in its first file. Pure values; trusts nothing that it reads."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from headwater.errors import BadBackup

MANIFEST_NAME = "manifest.json"
APPLICATION = "headwater backup"
FORMAT_VERSION = 1
"""Grows with every change that an older Headwater could not restore."""
MAX_MANIFEST_BYTES = 16 * 2**20
"""About 100,000 files."""
MAX_FILE_BYTES = 2**62
REQUIRED = frozenset({"registry.db", "telemetry/points.duckdb"})
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,99})?")
"""In the directory or in one below it; no name that begins with a dot."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


class FileEntry(NamedTuple):
    """One file of a backup."""

    name: str
    """From the data directory on, with `/`."""
    size_bytes: int
    sha256: str


class Manifest(NamedTuple):
    """All of a backup, in the order of its files."""

    headwater_version: str
    made_at: str
    """When it was begun: all that was acknowledged before is in it."""
    files: tuple[FileEntry, ...]

    @property
    def size_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self.files)


def is_safe_name(name: str) -> bool:
    """Whether a file of this name may be in a backup."""
    return _NAME.fullmatch(name) is not None


def render_manifest(manifest: Manifest) -> bytes:
    document = {
        "application": APPLICATION,
        "format_version": FORMAT_VERSION,
        "headwater_version": manifest.headwater_version,
        "made_at": manifest.made_at,
        "files": [entry._asdict() for entry in manifest.files],
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def parse_manifest(content: bytes) -> Manifest:
    """Raises BadBackup for what is no manifest, or one of a newer format."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or document.get("application") != APPLICATION:
        raise BadBackup("this is not a backup of Headwater")
    version, made_by = document.get("format_version"), document.get("headwater_version")
    if not isinstance(version, int) or not isinstance(made_by, str):
        raise _damaged()
    if version > FORMAT_VERSION:
        raise BadBackup(
            f"the backup has format {version}, this Headwater knows {FORMAT_VERSION} at most: "
            f"restore it with Headwater {made_by[:40]} or newer"
        )
    made_at, listed = document.get("made_at"), document.get("files")
    if not isinstance(made_at, str) or not isinstance(listed, list):
        raise _damaged()
    files = tuple(map(_parse_entry, listed))
    _check_names([entry.name for entry in files])
    return Manifest(made_by, made_at, files)


def _parse_entry(entry: Any) -> FileEntry:
    match entry:
        case {"name": str(name), "size_bytes": int(size_bytes), "sha256": str(sha256)} if (
            0 <= size_bytes <= MAX_FILE_BYTES and _DIGEST.fullmatch(sha256)
        ):
            if not is_safe_name(name):
                raise BadBackup(f"the backup has a file {name[:100]!r}, which no backup has: do not trust it")
            return FileEntry(name, size_bytes, sha256)
    raise _damaged()


def _check_names(names: Sequence[str]) -> None:
    directories = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    # Some file systems do not tell capitals from small letters.
    if len({name.lower() for name in names}) != len(names) or not directories.isdisjoint(names):
        raise BadBackup("the backup names a file twice, which no backup does: do not trust it")
    if missing := REQUIRED - set(names):
        raise BadBackup(f"the backup is not whole: it has no {min(missing)}")


def _damaged() -> BadBackup:
    return BadBackup("the backup's list of files is damaged: use another backup")
