"""The commands `backup` and `restore`: find who has the data directory, and show how it gets on."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from headwater.backup.manifest import Manifest
from headwater.backup.restoring import restore
from headwater.backup.sources import TELEMETRY, require_data
from headwater.backup.taking import receive_archive, send_archive
from headwater.errors import ConfigurationError, HeadwaterError
from headwater.instance import deaf_to_hang_up, hold_data_directory, running_pid
from headwater.progress import Bar, Counted, shown_progress
from headwater.settings import Settings, StoreEngine
from headwater.whole_files import whole_file


def back_up(settings: Settings, path: Path, *, may_replace: bool) -> int:
    """Put all of the data directory into a file, by way of the server if one runs. Answers the file's size in bytes.

    Raises HeadwaterError and OSError; then there is no such file, or the one that was there before.
    """
    data = settings.data
    require_data(data)
    with whole_file(path, may_replace=may_replace) as output, shown_progress() as progress:
        if running_pid(data) is not None:
            receive_archive(data, output, progress)
        else:
            with deaf_to_hang_up(), hold_data_directory(data):
                _back_up_alone(settings, Counted(output, progress), progress)
    return path.stat().st_size


def _back_up_alone(settings: Settings, output: Counted, progress: Bar) -> None:
    from headwater.app import open_store  # it knows everything there is, which takes a second to load

    if settings.store.engine is StoreEngine.DUCKDB and not (settings.data / TELEMETRY).is_dir():
        raise ConfigurationError(f"{settings.data / TELEMETRY} is missing: see `headwater check`")
    with closing(open_store(settings)) as store:
        send_archive(settings.data, store, output, progress, lambda: datetime.now(UTC))


def put_back(path: Path, data: Path) -> Manifest:
    """Make a data directory from a backup. Raises HeadwaterError and OSError; then it is as it was before."""
    if running_pid(data) is not None:
        raise HeadwaterError(f"a server runs on {data}: stop it and move that away, or name another with --data")
    with path.open("rb") as source, shown_progress() as progress:
        return restore(source, data, progress)
