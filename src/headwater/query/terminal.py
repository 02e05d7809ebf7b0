"""The command's part of `headwater query`: asks the server, or opens the store itself, and shows the answer."""

from __future__ import annotations

import asyncio
import codecs
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Any, TextIO, cast

import pyarrow as pa

from headwater.control import ask_server
from headwater.errors import ConfigurationError
from headwater.instance import deaf_to_hang_up, hold_data_directory, running_pid
from headwater.query.answering import QUERY_COMMAND, answered, plan
from headwater.query.output import FORMATS, write_answer
from headwater.settings import Settings
from headwater.whole_files import whole_file

_ENDINGS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".txt": "table"}


def run_query(
    settings: Settings, text: str, *, account: str | None, bucket: str | None, form: str | None, file: Path | None
) -> None:
    """Show the answer of a query, or write it to a file. Raises HeadwaterError and OSError."""
    chosen = form or (_ENDINGS.get(file.suffix) if file else None) or ("table" if _is_for_people(file) else "csv")
    if chosen not in FORMATS:
        raise ConfigurationError(f"there is no format {chosen}: choose one of {', '.join(FORMATS)}")
    if not settings.data.is_dir():
        raise ConfigurationError(f"there is no data directory {settings.data}: name the right one with --data")

    def write(schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
        # Not before: a query that is refused leaves no file.
        if file is None:
            write_answer(schema, batches, chosen, sys.stdout)
            return
        with whole_file(file, may_replace=True) as output:
            write_answer(schema, batches, chosen, cast("TextIO", codecs.getwriter("utf-8")(cast("IO[bytes]", output))))

    if running_pid(settings.data) is not None:
        with ask_server(settings.data, QUERY_COMMAND, text=text, account=account, bucket=bucket) as answer:
            received = _Received(answer.frames())
            received.begin()
            stream = pa.ipc.open_stream(pa.PythonFile(received, mode="r"))
            write(stream.schema, iter(stream))
            received.end()
        return
    with deaf_to_hang_up(), hold_data_directory(settings.data):
        asyncio.run(_answer_alone(settings, text, account, bucket, write))


async def _answer_alone(
    settings: Settings,
    text: str,
    account: str | None,
    bucket: str | None,
    write: Callable[[pa.Schema, Iterator[pa.RecordBatch]], None],
) -> None:
    from headwater.app import open_services, open_store  # it knows everything there is, which takes a second to load

    with closing(open_store(settings)) as store:
        async with open_services(settings, store) as services:
            with answered(services, plan(services, text, account, bucket)) as batches:
                write(next(batches).schema, batches)


def _is_for_people(file: Path | None) -> bool:
    return file is None and sys.stdout.isatty()


class _Received(io.RawIOBase):
    """The data of an answer as a file to read from."""

    def __init__(self, frames: Iterator[dict[str, Any] | bytes]) -> None:
        super().__init__()
        self._frames = frames
        self._left = b""

    def begin(self) -> None:
        """Wait for the first data. Raises HeadwaterError when there is none: reading would tell that in other words."""
        self._left = self._next()

    def end(self) -> None:
        """Raises HeadwaterError when the answer was broken off."""
        while self._next():
            pass

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        parts = [self._left]
        length = len(self._left)
        while (size < 0 or length < size) and (part := self._next()):
            parts.append(part)
            length += len(part)
        data = b"".join(parts)
        cut = len(data) if size < 0 else size
        self._left = data[cut:]
        return data[:cut]

    def _next(self) -> bytes:
        return next((frame for frame in self._frames if isinstance(frame, bytes) and frame), b"")
