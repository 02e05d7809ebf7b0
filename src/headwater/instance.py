"""One server per data directory: the lock that says so, and how a command finds the running server.

The file `headwater.pid` is locked as long as the server lives. The lock, not the number in the file, is the
proof: the kernel drops it with the process, so a stale file after a crash harms nothing. Knows nothing of
what else is in the directory.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from headwater.errors import ConfigurationError, HeadwaterError

PID_FILE = "headwater.pid"

LOCK_TRIES = 10
LOCK_RETRY_S = 0.02
"""A command that looks for a server holds the lock for an instant; a starting server outlasts that."""


@contextmanager
def hold_data_directory(data: Path) -> Iterator[None]:
    """Make the directory where needed and keep every other server out of it until the context is left.

    Raises `ConfigurationError` when the directory cannot be used, or when a server already runs on it.
    """
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(data / PID_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ConfigurationError(
            f"the data directory {data} cannot be used: {error.strerror}; choose another with --data"
        ) from error
    try:
        if not _try_lock(descriptor):
            raise ConfigurationError(
                f"another Headwater (process {_read_pid(descriptor)}) already uses the data directory "
                f"{data}; stop it, or choose another with --data"
            )
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def running_pid(data: Path) -> int | None:
    """The process that serves this data directory now, or None."""
    with _opened(data) as descriptor:
        return None if descriptor is None or not _is_locked(descriptor) else _read_pid(descriptor)


@contextmanager
def deaf_to_hang_up() -> Iterator[None]:
    """Commands that change accounts take us for a server, and tell it to read them anew."""
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, former)


def ask_to_reload(data: Path) -> int | None:
    """Tell the server on this data directory, if one runs, to read registry and certificates anew (SIGHUP).

    Returns its process number, or None when no server runs. Raises `HeadwaterError` when it is out of
    reach: owned by another user, or in another container.
    """
    with _opened(data) as descriptor:
        if descriptor is None or not _is_locked(descriptor):
            return None
        pid = _read_pid(descriptor)
        try:
            if pid is None or not _has_open(pid, descriptor):
                raise PermissionError
            os.kill(pid, signal.SIGHUP)
        except ProcessLookupError:  # it ended between the look and the signal
            return None
        except PermissionError as error:
            raise HeadwaterError(
                "the change is stored, but the running server is out of reach from here and does not know it "
                "yet: send it SIGHUP, or restart it"
            ) from error
        return pid


def _try_lock(descriptor: int) -> bool:
    for _ in range(LOCK_TRIES):
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(LOCK_RETRY_S)
    return False


@contextmanager
def _opened(data: Path) -> Iterator[int | None]:
    try:
        descriptor = os.open(data / PID_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    try:
        # Shared, so that two commands that look at the same time do not take each other for a server.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def _has_open(pid: int, descriptor: int) -> bool:
    """Whether that process has our file open. The number comes from a server that may count its processes
    apart from us (in a container): a signal to whoever has that number here could end a stranger."""
    if not Path("/proc/self/fd").is_dir():  # no such look on this system
        return True
    ours = os.fstat(descriptor)
    with suppress(FileNotFoundError):  # no such process
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed since
                if os.path.samestat(link.stat(), ours):
                    return True
    return False


def _read_pid(descriptor: int) -> int | None:
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() else None
