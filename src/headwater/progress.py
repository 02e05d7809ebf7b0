"""Shows on a terminal how a long command gets on. Knows no command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from headwater.whole_files import Output


class Bar:
    """Progress as a bar on standard error, if that is a terminal."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task: TaskID | None = None

    def begin(self, what: str, total: int | None) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(what, total=total)

    def advance(self, count: int) -> None:
        if self._task is not None:
            self._bar.advance(self._task, count)


@contextmanager
def shown_progress(*, counts_bytes: bool = True) -> Iterator[Bar]:
    """A bar of bytes, or of whole things."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn() if counts_bytes else MofNCompleteColumn(),
    )
    with Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        yield Bar(bar)


class Counted(NamedTuple):
    """Tells the progress of what is written."""

    output: Output
    progress: Bar

    def write(self, data: bytes, /) -> None:
        self.output.write(data)
        self.progress.advance(len(data))
