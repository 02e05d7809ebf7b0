"""The command's part of `headwater query`: asks the server, or opens the store itself, and shows the answer."""

from __future__ import annotations

import asyncio
import io
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa

from headwater.control import ask_server
from headwater.errors import ConfigurationError, HeadwaterError
from headwater.exchange.formats import Format
from headwater.exchange.writing import open_writer
from headwater.instance import deaf_to_hang_up, hold_data_directory, running_pid
from headwater.query.answering import QUERY_COMMAND, answered, plan
from headwater.query.output import FORMATS, write_answer
from headwater.settings import Settings
from headwater.whole_files import Output, whole_file

_BINARY = (Format.PARQUET.value, Format.ARROW.value)
_ENDINGS = {
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".txt": "table",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}


def run_query(
    settings: Settings,
    text: str,
    *,
    account: str | None,
    bucket: str | None,
    form: str | None,
    file: Path | None,
    may_replace: bool = False,
) -> None:
    """Show the answer of a query, or write it to a file. Raises HeadwaterError and OSError."""
    chosen = form or (_ENDINGS.get(file.suffix) if file else "table" if sys.stdout.isatty() else "csv")
    known = ", ".join((*FORMATS, *_BINARY))
    if chosen is None:
        raise ConfigurationError(f"the name {file} does not say which format it has: say so with --format ({known})")
    if chosen not in FORMATS and chosen not in _BINARY:
        raise ConfigurationError(f"there is no format {chosen}: choose one of {known}")
    if not settings.data.is_dir():
        raise ConfigurationError(f"there is no data directory {settings.data}: name the right one with --data")

    def write(schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
        # Not before: a query that is refused leaves no file.
        try:
            with whole_file(file, may_replace=may_replace) if file else nullcontext(sys.stdout.buffer) as output:
                _write(schema, batches, chosen, output, sys.stdout if file is None else None)
        except BrokenPipeError as error:
            raise HeadwaterError("nobody reads the output any more") from error

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


def _write(
    schema: pa.Schema, batches: Iterator[pa.RecordBatch], chosen: str, output: Output, shown: TextIO | None
) -> None:
    if chosen in _BINARY:
        with open_writer(Format(chosen), output, schema, Counter(), are_records=False) as writer:
            for batch in batches:
                writer.write_batch(batch)
        return
    if shown is not None:
        write_answer(schema, batches, chosen, shown)
        return
    text = io.TextIOWrapper(io.BufferedWriter(_Raw(output)), encoding="utf-8", newline="")
    write_answer(schema, batches, chosen, text)
    text.flush()


class _Raw(io.RawIOBase):
    """An output as Python's own streams want it."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        content = bytes(data)
        self._output.write(content)
        return len(content)


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
