"""A time-series database as a server of its own, to be filled with line protocol over HTTP and then left in peace.
Knows neither what is written nor what is asked."""

from __future__ import annotations

import http.client
import os
import stat
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

from servers import wait_for_port

STABLE_S = 12.0
"""Files that stayed the same for so long are taken to be finished: both peers look every few seconds for work."""
SETTLE_TIMEOUT_S = 900.0
_POLL_S = 0.5
_BLOCK_BYTES = 512


class DatabaseServer:
    """One connection, kept alive."""

    def __init__(self, port: int, directory: Path) -> None:
        self.directory = directory
        self._connection = http.client.HTTPConnection("127.0.0.1", port)

    def send(self, method: str, path: str, body: bytes | None = None, **parameters: str) -> bytes:
        """The body of the answer. Raises RuntimeError for a refusal."""
        self._connection.request(method, f"{path}?{urlencode(parameters)}" if parameters else path, body)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{path} was answered with {answer.status}: {content.decode(errors='replace')}")
        return content

    def wait_until_settled(self) -> None:
        """Wait until nothing changes on disk any more."""
        deadline_s = time.monotonic() + SETTLE_TIMEOUT_S
        found, since_s = _files(self.directory), time.monotonic()
        while time.monotonic() - since_s < STABLE_S:
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"{self.directory} is still written to")
            time.sleep(_POLL_S)
            if (now := _files(self.directory)) != found:
                found, since_s = now, time.monotonic()

    def close(self) -> None:
        self._connection.close()


@contextmanager
def running(command: Sequence[str], port: int) -> Iterator[None]:
    """A server as a process; its words go where nobody reads them unless it ends too early."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def size_of(directory: Path) -> int:
    """What all files in a directory and below take on disk: no holes in them, and no rounding up to whole blocks."""
    os.sync()  # before that, a file system may not have given them their blocks
    return sum(taken for taken, _ in _files(directory).values())


def _files(directory: Path) -> dict[Path, tuple[int, int]]:
    """Size on disk and time of the last change of every file."""
    found = {}
    for path in directory.rglob("*"):
        try:
            status = path.stat()
        except FileNotFoundError:  # a compaction took it away meanwhile
            continue
        if stat.S_ISREG(status.st_mode):
            found[path] = (min(status.st_size, status.st_blocks * _BLOCK_BYTES), status.st_mtime_ns)
    return found
