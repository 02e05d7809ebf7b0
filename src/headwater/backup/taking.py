"""Makes a backup: the server's part, which sends an archive, and the command's, which puts it into a file.

Without a running server the command does both.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from headwater import __version__
from headwater.backup.archive import describe, write_archive
from headwater.backup.manifest import Manifest
from headwater.backup.sources import SCRATCH, open_sources
from headwater.control import Reply, ask_server
from headwater.errors import HeadwaterError
from headwater.logs import Log
from headwater.store import Store
from headwater.whole_files import Output

log = Log(__name__)

COMMAND = "backup"


class Progress(Protocol):
    """Who is told how a backup gets on."""

    def begin(self, what: str, total_bytes: int) -> None: ...
    def advance(self, size_bytes: int) -> None: ...


def send_archive(data: Path, store: Store, output: Output, progress: Progress, now: Callable[[], datetime]) -> Manifest:
    """Write a backup of this directory, which must be this process's, as it is now. Answers what is in it."""
    begun = now()
    with open_sources(data, store) as files:
        progress.begin("reading", sum(os.fstat(file.fileno()).st_size for file in files.values()))
        entries = tuple(describe(name, file, progress.advance) for name, file in files.items())
        manifest = Manifest(__version__, begun.isoformat(timespec="seconds"), entries)
        progress.begin("writing", manifest.size_bytes)
        write_archive(output, manifest, files, int(begun.timestamp()))
    return manifest


class Backups:
    """The server's part: answers the command `backup`, one at a time.

    What a backup that was killed left in the data directory is removed at once: it may hold secrets.
    """

    def __init__(self, data: Path, store: Store, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._data = data
        self._store = store
        self._now = now
        self._working = threading.Lock()
        shutil.rmtree(data / SCRATCH, ignore_errors=True)

    def answer(self, _request: Mapping[str, Any], reply: Reply) -> None:
        """Send an archive. Raises HeadwaterError, and OSError when nobody takes it."""
        if not self._working.acquire(blocking=False):
            raise HeadwaterError("another backup is being made: try again later")
        try:
            manifest = send_archive(self._data, self._store, reply, _Told(reply), self._now)
        except OSError as error:
            if isinstance(error, ConnectionError | TimeoutError):
                raise
            raise HeadwaterError(f"the server cannot make a backup: {error.strerror or error}") from error
        finally:
            self._working.release()
        log.info("made a backup", files=len(manifest.files), bytes=manifest.size_bytes)


class _Told:
    """Progress by way of the control socket; what is written shows by itself."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def begin(self, what: str, total_bytes: int) -> None:
        self._reply.inform(begin=what, total_bytes=total_bytes)

    def advance(self, size_bytes: int) -> None:
        self._reply.inform(advance=size_bytes)


def receive_archive(data: Path, output: Output, progress: Progress) -> None:
    """Have the server that runs on this directory make a backup. Raises HeadwaterError."""
    with ask_server(data, COMMAND) as answer:
        for frame in answer.frames():
            match frame:
                case bytes():
                    output.write(frame)
                    progress.advance(len(frame))
                case {"begin": str(what), "total_bytes": int(total_bytes)}:
                    progress.begin(what, total_bytes)
                case {"advance": int(size_bytes)}:
                    progress.advance(size_bytes)
