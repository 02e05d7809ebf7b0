"""Moves points from the tables of arrivals into sorted runs, merges runs, and carries out deletions in them.

All of it goes on beside writing and reading: a new file is written first, from a view of the tables at one moment;
then one short transaction puts it in the place of what it was made of. Killed at any point, the store either still has
the old parts, or already the new one; a file that nothing refers to is removed at the next start.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import duckdb

from headwater.model.series import ValueType
from headwater.store.duck.layout import LATEST_NS, Hot, Run, runs_to_merge
from headwater.store.duck.reading import Selection, one_of, points_sql, unnested
from headwater.store.duck.runs import attach_run, common_unit_ns, drop_run, write_run
from headwater.store.duck.schema import SQL_TYPES, create_hot, hot_table
from headwater.store.duck.tables import Tables

HOT_ROWS = 1_000_000
"""A query has to look at all arrivals, which takes 2 ms for a million; a run of as many is written in 0.1 s."""


DELETIONS_WAIT_S = 60.0
QUIET_S = 10.0
"""When nothing has arrived for so long, a load is over or devices sleep: time to sort what did."""
_WORTH_A_RUN = 10
"""What share of `hot_rows` is sorted then: so many arrivals cost a query less than one file more does."""
_ROWS_PAST_LOG = 122_880
"""DuckDB writes a batch of so many rows, a row group, into the file at once, and hardly anything into the log."""
_ROOM_PER_ROW = 24
"""Bytes that have to be free for a run: what its rows take if nothing can be compressed."""


def prepare_append(hot: Hot) -> str:
    """The statement by which arrivals get into the table of a generation."""
    name = hot.type.name.lower()
    return (
        f"PREPARE append_{name} AS INSERT INTO {hot_table(hot.type, hot.generation)} "  # noqa: S608 - constants
        f"SELECT series_id, at_ns, value::{SQL_TYPES[hot.type]} FROM incoming_{name}"
    )


class Upkeep:
    """Brings the parts of a store into order, a step at a time.

    `hot_rows`: how many arrivals make a run. `deletions_wait_s`: how long nothing may have been deleted before runs are
    written anew because of it; people who tidy up delete several things in a row. `now_s`: a monotonic clock.
    """

    def __init__(self, tables: Tables, hot_rows: int, deletions_wait_s: float, now_s: Callable[[], float]) -> None:
        self._tables = tables
        self._hot_rows = hot_rows
        self._deletions_wait_s = deletions_wait_s
        self._now_s = now_s
        self._deleted_at_s = now_s()
        self._arrived: dict[ValueType, tuple[tuple[int, int], float]] = {}
        """For each type, the generation and number of arrivals that were seen last, and since when it is these."""
        self.working = threading.Lock()
        """Held during a step."""
        self._cursor: duckdb.DuckDBPyConnection | None = None
        """That of the step that is going on."""

    def step(self) -> bool:
        """Do the most useful thing there is to do; False when there was nothing. May take minutes, holds up nobody."""
        with self.working:
            self._tables.check_open()
            return any(work() for work in (self._move_arrivals, self._merge_runs, self._carry_out_deletions))

    def interrupt(self) -> None:
        """Break off the step that is going on, if it is one that may take long."""
        cursor = self._cursor
        if cursor is not None:
            cursor.interrupt()

    def backlog(self) -> int:
        """How many arrivals there are more than a table of each type should have."""
        arrivals = [sum(hot.rows for hot in layout.hots) for layout in self._tables.layouts.values()]
        return sum(max(rows - self._hot_rows, 0) for rows in arrivals)

    # -- arrivals ----------------------------------------------------------------------------------------------------

    def _move_arrivals(self) -> bool:
        for value_type, layout in self._tables.layouts.items():
            if layout.active.rows >= self._hot_rows or self._is_quiet(layout.active):
                self._begin_generation(value_type)
            waiting = self._tables.layouts[value_type].hots[:-1]
            if waiting:
                self._rewrite(value_type, (), waiting)
                if max(hot.rows for hot in waiting) >= _ROWS_PAST_LOG:
                    self._free_blocks()
                return True
        return False

    def _is_quiet(self, hot: Hot) -> bool:
        """Whether nothing has arrived for a while, and enough before."""
        seen, now_s = (hot.generation, hot.rows), self._now_s()
        before, since_s = self._arrived.get(hot.type, (seen, now_s))
        if seen != before:
            since_s = now_s
        self._arrived[hot.type] = seen, since_s
        return hot.rows * _WORTH_A_RUN >= self._hot_rows and now_s - since_s >= QUIET_S

    def _begin_generation(self, value_type: ValueType) -> None:
        """From now on points arrive in a new table."""
        tables = self._tables
        with tables.writing:
            tables.check_open()
            layout = tables.layouts[value_type]
            hot = Hot(value_type, layout.active.generation + 1)
            tables.write(*create_hot(value_type, hot.generation))
            tables.connection.execute(f"DEALLOCATE append_{value_type.name.lower()}; {prepare_append(hot)}")
            tables.layouts[value_type] = layout._replace(hots=(*layout.hots, hot))

    def _free_blocks(self) -> None:
        """Let the room of dropped tables be used again. The log's limit leads to that too, but large batches go past
        the log: with them alone, the file would grow for ever."""
        with self._tables.writing, suppress(duckdb.TransactionException):  # refused to, it is done after the next run
            self._tables.check_open()
            self._tables.connection.execute("CHECKPOINT")

    # -- runs --------------------------------------------------------------------------------------------------------

    def _merge_runs(self) -> bool:
        for value_type, layout in self._tables.layouts.items():
            runs = runs_to_merge(layout.runs)
            if runs:
                self._rewrite(value_type, runs, ())
                return True
        return False

    def _rewrite(self, value_type: ValueType, runs: Sequence[Run], hots: Sequence[Hot]) -> None:
        """Make one run of neighbouring parts, without what was replaced or deleted."""
        tables = self._tables
        parts = [*(run.part() for run in runs), *(hot.part() for hot in hots)]
        most_rows = sum(part.rows for part in parts)
        tables.check_room(most_rows * _ROOM_PER_ROW)
        number = tables.last_run = tables.last_run + 1
        with tables.cursor() as cursor:
            # Asked for first: of later deletions more may be carried out than is written down, which does no harm.
            applied = self._last_deletion_known(cursor, runs)
            wanted = Selection(value_type, parts, has_deletions=tables.has_deletions)
            self._cursor = cursor
            try:
                # Of two units that are used, the smaller is a part of the larger.
                unit_ns = min(common_unit_ns(cursor, part.table) if part.is_hot else part.unit_ns for part in parts)
                sql = points_sql(wanted)
                written = write_run(cursor, tables.directory, number, sql, unit_ns=unit_ns, most_rows=most_rows)
            finally:
                self._cursor = None
        new = None
        if written is not None:
            first, last = parts[0].first_generation, parts[-1].last_generation
            new = Run(number, value_type, first, last, *written, applied)
        self._put_in_place(value_type, runs, hots, new)

    def _put_in_place(self, value_type: ValueType, runs: Sequence[Run], hots: Sequence[Hot], new: Run | None) -> None:
        """Let a file that was written, or nothing, take the place of neighbouring parts."""
        tables = self._tables
        try:
            if new is not None:
                with tables.cursor() as cursor:
                    attach_run(cursor, tables.directory, new.number, new.rows)
            with tables.writing:
                tables.check_open()
                tables.write(*_replace_statements(runs, hots, new))
                layout = tables.layouts[value_type]
                kept = tuple(hot for hot in layout.hots if hot not in hots)
                tables.layouts[value_type] = layout.replace(runs, new)._replace(hots=kept)
        except BaseException:
            if new is not None:
                self._drop([new])
            raise
        self._drop(runs)

    def _drop(self, runs: Sequence[Run]) -> None:
        with self._tables.cursor() as cursor:
            for run in runs:
                drop_run(cursor, self._tables.directory, run.number)

    # -- deletions ---------------------------------------------------------------------------------------------------

    def delete_statements(self, wanted: Selection) -> Iterator[str]:
        """Statements that delete points of some series. From hot tables they are gone at once; for runs, and for what
        is just being made into one, it is written down that they do not count.

        The caller holds `Tables.writing`.
        """
        tables = self._tables
        layout = tables.layouts[wanted.type]
        assert wanted.series_ids is not None
        condition = one_of("series_id", wanted.series_ids)
        span = f" AND at_ns >= {wanted.start_ns:d} AND at_ns < {wanted.end_ns:d}"
        for hot in layout.hots:
            yield f"DELETE FROM {hot_table(hot.type, hot.generation)} WHERE {condition}{span}"  # noqa: S608 - integers only
        if wanted.start_ns < wanted.end_ns and (layout.runs or len(layout.hots) > 1):
            tables.last_deletion += 1
            tables.has_deletions = True
            self._deleted_at_s = self._now_s()
            yield (
                f"INSERT INTO deletions SELECT {tables.last_deletion:d}, {wanted.type:d}, "
                f"{unnested(wanted.series_ids)}, "
                f"{wanted.start_ns:d}, {min(wanted.end_ns - 1, LATEST_NS):d}"
            )

    def _carry_out_deletions(self) -> bool:
        """Write runs anew that have deleted points; then forget the deletions."""
        tables = self._tables
        if not tables.has_deletions or self._now_s() - self._deleted_at_s < self._deletions_wait_s:
            return False
        with tables.writing:  # the last of which it can be seen here what it deletes: none is under way
            last = tables.last_deletion
        for value_type, layout in tables.layouts.items():
            for run in layout.runs:
                with tables.cursor() as cursor:
                    if cursor.execute(_rows_sql(run, "SEMI")).fetchone() is None:
                        continue
                    is_anything_left = cursor.execute(_rows_sql(run, "ANTI")).fetchone() is not None
                if is_anything_left:
                    self._rewrite(value_type, [run], ())
                else:  # which needs neither time nor room
                    self._put_in_place(value_type, [run], (), None)
                return True
        with tables.writing:
            tables.check_open()
            tables.write(f"DELETE FROM deletions WHERE number <= {last:d}")  # noqa: S608 - an integer
            tables.has_deletions = tables.last_deletion > last
        return True

    @staticmethod
    def _last_deletion_known(cursor: duckdb.DuckDBPyConnection, runs: Sequence[Run]) -> int:
        """The last deletion on disk: those after it will have to be carried out."""
        found: list[tuple[int]] = cursor.execute("SELECT coalesce(max(number), 0) FROM deletions").fetchall()
        return max(found[0][0], *(run.deletions_applied for run in runs), 0)


def _replace_statements(runs: Sequence[Run], hots: Sequence[Hot], new: Run | None) -> Iterator[str]:
    """Statements that put a run in the place of what it was made of."""
    if runs:
        yield f"DELETE FROM runs WHERE {one_of('number', [run.number for run in runs])}"  # noqa: S608 - integers only
    for hot in hots:
        yield f"DELETE FROM generations WHERE type = {hot.type:d} AND number = {hot.generation:d}"  # noqa: S608
        yield f"DROP TABLE {hot_table(hot.type, hot.generation)}"
    if new is not None:
        yield f"INSERT INTO runs VALUES ({', '.join(f'{value:d}' for value in new)})"  # noqa: S608 - integers


def _rows_sql(run: Run, join: str) -> str:
    """A row if the run has a point that was deleted after it was written (SEMI), or one that was not (ANTI)."""
    return (
        f"SELECT 1 FROM {run.database}.points points "  # noqa: S608 - integers only
        f"{join} JOIN (FROM deletions WHERE type = {run.type:d} AND number > {run.deletions_applied:d} "
        f"AND first_ns <= {run.last_ns:d} AND last_ns >= {run.first_ns:d}) gone "
        f"ON points.series_id = gone.series_id "
        f"AND points.time * {run.unit_ns:d} BETWEEN gone.first_ns AND gone.last_ns LIMIT 1"
    )
