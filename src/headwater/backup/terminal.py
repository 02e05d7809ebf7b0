"""The commands `backup` and `restore`: find who has the data directory, and show how it gets on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from headwater.backup.manifest import Manifest
from headwater.backup.restoring import restore
from headwater.backup.sources import REGISTRY, TELEMETRY
from headwater.backup.taking import Counted, backup_file, receive_archive, send_archive
from headwater.errors import ConfigurationError, HeadwaterError
from headwater.instance import hold_data_directory, running_pid
from headwater.settings import Settings, StoreEngine


class _Bar:
    """Progress as a bar on standard error, if that is a terminal."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task: TaskID | None = None

    def begin(self, what: str, total_bytes: int) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(what, total=total_bytes)

    def advance(self, size_bytes: int) -> None:
        if self._task is not None:
            self._bar.advance(self._task, size_bytes)


@contextmanager
def _shown_progress() -> Iterator[_Bar]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield _Bar(bar)


def back_up(settings: Settings, path: Path, *, may_replace: bool) -> int:
    """Put all of the data directory into a file, by way of the server if one runs. Answers the file's size in bytes.

    Raises HeadwaterError and OSError; then there is no such file, or the one that was there before.
    """
    data = settings.data
    if not (data / REGISTRY).exists() and running_pid(data) is None:
        raise ConfigurationError(f"there is no data in {data}: name the right directory with --data")
    with backup_file(path, may_replace=may_replace) as output, _shown_progress() as progress:
        if running_pid(data) is not None:
            receive_archive(data, output, progress)
        else:
            with _deaf_to_hang_up(), hold_data_directory(data):
                _back_up_alone(settings, Counted(output, progress), progress)
    return path.stat().st_size


def _back_up_alone(settings: Settings, output: Counted, progress: _Bar) -> None:
    from headwater.app import open_store  # it knows everything there is, which takes a second to load

    if settings.store.engine is StoreEngine.DUCKDB and not (settings.data / TELEMETRY).is_dir():
        raise ConfigurationError(f"{settings.data / TELEMETRY} is missing: see `headwater check`")
    with closing(open_store(settings)) as store:
        send_archive(settings.data, store, output, progress, lambda: datetime.now(UTC))


@contextmanager
def _deaf_to_hang_up() -> Iterator[None]:
    """Commands that change accounts take us for a server, and tell it to read them anew."""
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, former)


def put_back(path: Path, data: Path) -> Manifest:
    """Make a data directory from a backup. Raises HeadwaterError and OSError; then it is as it was before."""
    if running_pid(data) is not None:
        raise HeadwaterError(f"a server runs on {data}: stop it and move that away, or name another with --data")
    with path.open("rb") as source, _shown_progress() as progress:
        return restore(source, data, progress)
