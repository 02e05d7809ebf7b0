"""The commands `export` and `query`: find who has the data directory, put a table into a file, and show how it goes."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from headwater.backup.sources import require_data
from headwater.control import ask_server
from headwater.errors import HeadwaterError
from headwater.exchange.answers import for_files, show
from headwater.exchange.commands import EXPORT, QUERY
from headwater.exchange.formats import STANDARD_STREAM, Format
from headwater.exchange.source import Wanted
from headwater.exchange.streams import TableStream, received
from headwater.exchange.writing import open_writer
from headwater.instance import deaf_to_hang_up, hold_data_directory, running_pid
from headwater.progress import Counted, shown_progress
from headwater.settings import Settings
from headwater.whole_files import Output, whole_file

T = TypeVar("T")


class Exported(NamedTuple):
    rows: int
    losses: Counter[str]
    """How often something had to be left out, by what it was."""


def export_channel(
    settings: Settings, channel: str, path: Path, chosen: Format, wanted: Wanted, *, may_replace: bool
) -> Exported:
    """Put records of a channel into a file, by way of the server if one runs. Raises HeadwaterError and OSError; then
    there is no such file, or the one that was there before."""

    def write(records: TableStream) -> Exported:
        return _written(records, path, chosen, Counter(), may_replace=may_replace, are_records=True)

    request = {"channel": channel, **wanted._asdict()}
    return _with_table(settings, EXPORT, request, write)


def run_query(
    settings: Settings,
    text: str,
    *,
    account: str | None,
    bucket: str | None,
    path: Path,
    chosen: Format | None,
    may_replace: bool,
) -> Exported:
    """Put the answer of a query into a file, or show it as a table where no format is chosen. Raises as
    `export_channel`."""

    def write(answer: TableStream) -> Exported:
        if chosen is None:
            with _somebody_reads():
                show(answer, sys.stdout)
                sys.stdout.flush()
            return Exported(0, Counter())
        losses: Counter[str] = Counter()
        table = for_files(answer, chosen, losses)
        return _written(table, path, chosen, losses, may_replace=may_replace, are_records=False)

    request = {"text": text, "account": account, "bucket": bucket}
    return _with_table(settings, QUERY, request, write)


def _with_table(settings: Settings, command: str, request: Mapping[str, Any], use: Callable[[TableStream], T]) -> T:
    """Do something with the table that a server which runs answers a command with, or that is made here."""
    data = settings.data
    require_data(data)
    if running_pid(data) is not None:
        with ask_server(data, command, **request) as answer:
            return use(received(answer))

    async def alone() -> T:
        # They know everything there is, which takes a second to load.
        from headwater.app import open_services, open_store
        from headwater.exchange.opening import table_openers

        with closing(await asyncio.to_thread(open_store, settings)) as store:
            async with open_services(settings, store) as services:
                open_table = table_openers(services, store, asyncio.get_running_loop())[command]

                def work() -> T:
                    with open_table(request) as table:
                        return use(table)

                return await asyncio.to_thread(work)

    with deaf_to_hang_up(), hold_data_directory(data):
        return asyncio.run(alone())


def _written(
    table: TableStream, path: Path, chosen: Format, losses: Counter[str], *, may_replace: bool, are_records: bool
) -> Exported:
    rows = 0
    with _output(path, may_replace=may_replace) as output, shown_progress() as progress:
        progress.begin("exporting", None)
        counted = Counted(output, progress)
        with open_writer(chosen, counted, table.schema, losses, are_records=are_records) as writer:
            for batch in table.batches:
                writer.write_batch(batch)
                rows += batch.num_rows
    return Exported(rows, losses)


@contextmanager
def _output(path: Path, *, may_replace: bool) -> Iterator[Output]:
    if path != STANDARD_STREAM:
        with whole_file(path, may_replace=may_replace) as output:
            yield output
        return
    yield _StandardOutput()
    with _somebody_reads():
        sys.stdout.buffer.flush()


class _StandardOutput:
    """Standard output as an output."""

    def write(self, data: bytes, /) -> int:
        with _somebody_reads():
            return sys.stdout.buffer.write(data)


@contextmanager
def _somebody_reads() -> Iterator[None]:
    """Tells the end of who reads standard output (`| head`) from that of the server."""
    try:
        yield
    except BrokenPipeError as error:
        raise HeadwaterError("nobody reads the output any more") from error
