"""Tables that are read while they are written, and how they go from the server to a command: as a stream of Arrow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TypeAlias

import pyarrow as pa
import pyarrow.ipc

from headwater.control import Answer, Command, Reply
from headwater.exchange.writing import OutputFile
from headwater.logs import Log
from headwater.whole_files import Begun

log = Log(__name__)


class TableStream(NamedTuple):
    """A table, batch by batch; all batches have its schema."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]


OpenTable: TypeAlias = Callable[[Mapping[str, Any]], AbstractContextManager[TableStream]]
"""Makes the table that a request asks for. It blocks, beside the event loop's thread, and raises HeadwaterError."""


def answering(open_table: OpenTable) -> Command:
    """The server's part of a command that is answered with a table."""

    def answer(request: Mapping[str, Any], reply: Reply) -> None:
        rows = 0
        with (
            open_table(request) as table,
            pa.ipc.new_stream(pa.PythonFile(OutputFile(reply), mode="w"), table.schema) as stream,
        ):
            for batch in table.batches:
                stream.write_batch(batch)
                rows += batch.num_rows
        log.info("answered a command with a table", command=request["command"], rows=rows)

    return answer


def received(answer: Answer) -> TableStream:
    """The command's part. Reading raises HeadwaterError with the server's words."""
    # What Arrow raises when it reads less than it needs says nothing; why it was less does.
    stream = pa.ipc.open_stream(pa.PythonFile(Begun(b"", answer), mode="r"))
    return TableStream(stream.schema, _batches(stream, answer))


def _batches(stream: pa.RecordBatchReader, answer: Answer) -> Iterator[pa.RecordBatch]:
    yield from stream
    answer.read(1)  # the end, or why there is none
