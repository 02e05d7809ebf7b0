"""The command `import`: finds who has the data directory, and shows how it gets on."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol, TypeVar

from headwater.backup.sources import require_data
from headwater.control import Answer, ask_server
from headwater.errors import HeadwaterError
from headwater.exchange.block import Block, pack
from headwater.exchange.commands import IMPORT
from headwater.exchange.formats import STANDARD_STREAM, Format
from headwater.exchange.reading import BadLines, Reading, read_blocks
from headwater.instance import deaf_to_hang_up, hold_data_directory, running_pid
from headwater.progress import Bar, shown_progress
from headwater.settings import Settings

if TYPE_CHECKING:
    from headwater.services import Services

T = TypeVar("T")

FINGERPRINT_BYTES = 2**20


class Imported(NamedTuple):
    records: int
    """That were read and can be used."""
    points: int
    """That were stored now; those that an earlier import had stored already are not among them."""
    expired: int
    """Points that the channel does not keep for so long; they are not among the others."""
    resumed_row: int
    bad: BadLines


# -- import ---------------------------------------------------------------------------------------------------------


class Target(Protocol):
    """Where an import goes."""

    resume_row: int
    """Records up to this one are stored already."""

    @property
    def expired(self) -> int:
        """Points that were left out so far; all of them after `finish`."""

    def store(self, block: Block, /) -> None: ...
    def finish(self) -> None: ...


class _Server:
    """A target by way of the running server. A block is sent while the one before is stored."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._answers = answer.frames()
        self._is_waiting = False
        self.expired = 0
        self.resume_row = int(self._next()["resume_row"])

    def store(self, block: Block, /) -> None:
        self._send(lambda: self._answer.write(pack(block)))
        if self._is_waiting:
            self._hear(self._next())
        self._is_waiting = True

    def finish(self) -> None:
        self._send(self._answer.end)
        for frame in self._answers:
            self._hear(frame)

    def _hear(self, frame: object) -> None:
        if isinstance(frame, dict):
            self.expired = int(frame.get("expired", self.expired))

    def _send(self, send: Callable[[], None]) -> None:
        try:
            send()
        except ConnectionError:
            for _ in self._answers:  # it tells why it listens no more
                pass
            raise

    def _next(self) -> dict[str, Any]:
        frame = next(self._answers, None)
        if not isinstance(frame, dict):
            raise HeadwaterError("the server ended before it had answered")
        return frame


class _CountedInput:
    """Tells the progress of what is read."""

    closed = False

    def __init__(self, file: BinaryIO, progress: Bar) -> None:
        self._file = file
        self._progress = progress

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(size)
        self._progress.advance(len(data))
        return data


def import_file(settings: Settings, path: Path, channel: str, chosen: Format, how: Reading) -> Imported:
    """Store what is in a file as points of a channel, by way of the server if one runs.

    Raises HeadwaterError and OSError; then what was read before is stored, and the same import goes on from there.
    """
    data = settings.data
    require_data(data)
    file = nullcontext(sys.stdin.buffer) if path == STANDARD_STREAM else path.open("rb")
    with file as opened, shown_progress() as progress:
        fingerprint = None if path == STANDARD_STREAM else _fingerprint(opened, chosen, how)
        progress.begin("importing", None if fingerprint is None else os.fstat(opened.fileno()).st_size)

        def load(target: Target) -> Imported:
            return _load(target, path, chosen, _CountedInput(opened, progress), how)

        return load_into(settings, channel, fingerprint, load)


def load_into(
    settings: Settings,
    channel: str,
    fingerprint: str | None,
    load: Callable[[Target], T],
    *,
    goes_on_later: bool = False,
) -> T:
    """Have a channel loaded, by way of the server if one runs; for the arguments see `Import`."""
    data = settings.data
    if running_pid(data) is not None:
        request = {"channel": channel, "fingerprint": fingerprint, "goes_on_later": goes_on_later}
        with ask_server(data, IMPORT, **request) as answer:
            return load(_Server(answer))

    def load_alone(services: Services, loop: asyncio.AbstractEventLoop) -> T:
        from headwater.exchange.loading import Import

        return load(Import(services, loop, data, channel, fingerprint, goes_on_later=goes_on_later))

    return with_services(settings, load_alone)


def with_services(settings: Settings, work: Callable[[Services, asyncio.AbstractEventLoop], T]) -> T:
    """Do blocking work with the services of a data directory that no server has, in a thread beside their loop's."""
    with deaf_to_hang_up(), hold_data_directory(settings.data):
        return asyncio.run(_work_alone(settings, work))


def _load(target: Target, path: Path, chosen: Format, opened: _CountedInput, how: Reading) -> Imported:
    bad = BadLines(how.may_skip)
    rows = points = 0
    for block in read_blocks(chosen, path, opened, how, bad):
        rows = max(rows, block.end_row)
        if block.end_row > target.resume_row:
            target.store(block)
            points += len(block)
    target.finish()
    return Imported(rows - bad.count, points - target.expired, target.expired, target.resume_row, bad)


async def _work_alone(settings: Settings, work: Callable[[Services, asyncio.AbstractEventLoop], T]) -> T:
    from headwater.app import open_services, open_store

    with closing(await asyncio.to_thread(open_store, settings)) as store:
        async with open_services(settings, store) as services:
            loop = asyncio.get_running_loop()
            return await asyncio.to_thread(work, services, loop)


def _fingerprint(file: BinaryIO, chosen: Format, how: Reading) -> str:
    """What tells the import of a file from that of another, or from one that reads it differently."""
    begin = hashlib.sha256(file.read(FINGERPRINT_BYTES)).hexdigest()
    file.seek(0)
    kinds = sorted(how.kinds.items())
    return repr((begin, os.fstat(file.fileno()).st_size, chosen.value, how.unit_ns, how.measurement, kinds))
