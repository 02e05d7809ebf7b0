"""Turns what the engine raises into the house's errors. Opening files has its own translation, in `files`."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import pyarrow as pa

from headwater.errors import StorageError


@contextmanager
def engine_errors(doing: str) -> Iterator[None]:
    """Raise `StorageError` for errors of DuckDB and Arrow. The engine's own words, which may quote what was stored,
    stay in the cause: the message is fit for anybody."""
    try:
        yield
    except duckdb.FatalException as error:
        # DuckDB answers nothing more; what was committed is there when the files are opened anew.
        raise StorageError(
            "The telemetry store has stopped, most likely because its disk is full or failing: remedy that, and it "
            "goes on by itself."
        ) from error
    except (duckdb.Error, pa.ArrowException, UnicodeEncodeError) as error:
        if os.strerror(errno.EROFS) in str(error):  # the kernel does that to a disk with errors
            raise StorageError(
                "The file system of the telemetry store has become read-only: look for errors of its disk, make it "
                "writable, and storing goes on; if it had to be mounted anew, restart Headwater."
            ) from error
        raise StorageError(f"The telemetry store could not {doing} ({type(error).__name__}).") from error
