"""What `headwater check` says about the data itself: each check reads all of a part, changes nothing, and answers with
one line. Raises StorageError for damage, and ConfigurationError when a part cannot be used, with what to do."""

from __future__ import annotations

import os

from headwater.backup.sources import BROKER, REGISTRY, TELEMETRY
from headwater.errors import StorageError
from headwater.instance import running_pid
from headwater.persistence.sqlite_file import inspect_file
from headwater.registry.opening import inspect_registry
from headwater.settings import Settings, StoreEngine
from headwater.store.duck.inspection import inspect_store

_NOT_YET = "not there yet, will be made"


def check_registry(settings: Settings) -> str:
    """Accounts, channels and devices."""
    path = settings.data / REGISTRY
    if not path.exists():
        return _NOT_YET
    found = inspect_registry(path)
    return f"good: {_counted(found.accounts, 'account')}, {_counted(found.channels, 'channel')}"


def check_broker(settings: Settings) -> str:
    """Sessions and retained messages."""
    path = settings.data / BROKER
    if not path.exists():
        return _NOT_YET
    sessions, retained = inspect_file(path)
    return f"good: {_counted(sessions, 'session')}, {_counted(retained, 'retained message')}"


def check_telemetry(settings: Settings) -> str:
    """Points, and whether the registry belongs to them."""
    if settings.store.engine is StoreEngine.MEMORY:
        return "kept in memory only (store.engine)"
    path, registry = settings.data / TELEMETRY, settings.data / REGISTRY
    pid = running_pid(settings.data)
    if pid is not None:
        return f"not looked into: process {pid} has it open; stop that to have all of it read"
    last_bucket_id = inspect_registry(registry).last_bucket_id if registry.exists() else 0
    if not path.exists():
        if last_bucket_id:
            raise StorageError(f"{path} is missing although channels were made: restore a backup (`headwater restore`)")
        return _NOT_YET
    found = inspect_store(
        path,
        {
            "memory_limit": f"{settings.store.memory_limit_mb}MiB",
            "threads": str(settings.store.threads or os.cpu_count() or 1),
        },
    )
    if found.last_bucket_id > last_bucket_id:
        raise StorageError(
            f"{registry} is missing or older than {path}: it never knew channel {found.last_bucket_id}; "
            "restore both from one backup"
        )
    return f"good: {found.points} points of {found.series} series, {found.runs} sorted files"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
