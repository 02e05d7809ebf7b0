"""The broker's state in one SQLite file. Knows how changes become statements; `sqlite_file` knows the file.

Strategy: a batch is reduced to its net effect, and that goes to SQLite in few statements of many rows each. Few,
because the driver gives up the interpreter's lock at every step of every statement and has to win it back from the
event loop, which can take milliseconds when that is busy: 200 rows by `executemany` took half a second beside a busy
thread, 2,000 rows in statements of 512 took 35 milliseconds.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from headwater.errors import StorageError
from headwater.logs import Log
from headwater.persistence import Change, LoadedState, StoredOutgoing, StoredRetained, StoredSubscription
from headwater.persistence.net_effect import NetEffect
from headwater.persistence.sqlite_file import open_file
from headwater.persistence.sqlite_rows import (
    outgoing_of,
    outgoing_row,
    packet_key,
    packet_key_of,
    session_of,
    session_row,
)

log = Log(__name__)

DATABASE_NAME = "broker.db"

MAX_ROWS = 512
"""Of one statement: with 11 columns a sixth of the variables that SQLite allows by default."""
MAX_KEPT_BYTES = 64 * 2**10
"""A compiled statement keeps a copy of its last values. When there was more in them, it is run once more without."""
SPARE_PAGES = 4096
"""16 MB: unused pages that the file may keep for what comes next."""
TIDY_COMMITS = 64
"""Commits between two looks at how many pages are unused."""
GIVEN_BACK_PAGES = 64
"""256 KB: unused pages taken off the file's end after one commit, so that the next one does not wait long."""
MAX_PAGES = 2**32
"""More than a file can have."""


class _Insert(NamedTuple):
    """A statement that stores any number of rows."""

    table: str
    columns: int
    bulky: tuple[int, ...]
    """The places of columns that can be large."""
    on_conflict: str = ""

    def render(self, rows: int) -> str:
        """The last value tells whether the statement does anything."""
        row = "(" + ",".join("?" * self.columns) + ")"
        verb = "INSERT" if self.on_conflict else "INSERT OR REPLACE"
        values = ",".join([row] * rows)  # question marks only: values are always bound
        return f"{verb} INTO {self.table} SELECT * FROM (VALUES {values}) WHERE ? {self.on_conflict}"  # noqa: S608


# REPLACE also takes the place of another session with this owner and client id.
_SAVE_SESSIONS = _Insert("session", 10, bulky=(6, 9))
_SAVE_SUBSCRIPTIONS = _Insert("subscription", 4, bulky=())
_SAVE_OUTGOING = _Insert("outgoing", 11, bulky=(3, 6))
# An update in place: a retained message is written over much more often than made.
_SAVE_RETAINED = _Insert(
    "retained",
    6,
    bulky=(2, 4),
    on_conflict="ON CONFLICT (tree, topic) DO UPDATE SET payload = excluded.payload, qos = excluded.qos,"
    " properties = excluded.properties, expires_at_ns = excluded.expires_at_ns",
)

# Any number of keys travel as one JSON array, so that one statement takes them all.
_SAVE_RECEIVED = "INSERT OR IGNORE INTO received SELECT value FROM json_each(?)"
_MARK_SENT = "UPDATE outgoing SET is_sent = 1 WHERE packet_key IN (SELECT value FROM json_each(?))"
_MARK_RELEASED = "UPDATE outgoing SET is_released = 1 WHERE packet_key IN (SELECT value FROM json_each(?))"
_DELETE_OUTGOING = "DELETE FROM outgoing WHERE packet_key IN (SELECT value FROM json_each(?))"
_DELETE_RECEIVED = "DELETE FROM received WHERE packet_key IN (SELECT value FROM json_each(?))"
_DELETE_SUBSCRIPTIONS = """DELETE FROM subscription WHERE (session_id, topic_filter) IN
    (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?))"""
_DELETE_RETAINED = """DELETE FROM retained WHERE (tree, topic) IN
    (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?))"""
# CROSS JOIN: go through the sessions, and for each through its range of keys.
_DELETE_SESSIONS = (
    "DELETE FROM session WHERE session_id IN (SELECT value FROM json_each(?))",
    "DELETE FROM subscription WHERE session_id IN (SELECT value FROM json_each(?))",
    """DELETE FROM outgoing WHERE packet_key IN (SELECT packet_key FROM json_each(?) CROSS JOIN outgoing
        ON packet_key BETWEEN value << 16 AND value << 16 | 65535)""",
    """DELETE FROM received WHERE packet_key IN (SELECT packet_key FROM json_each(?) CROSS JOIN received
        ON packet_key BETWEEN value << 16 AND value << 16 | 65535)""",
)
_DELETE_ORPHANS = (
    "DELETE FROM subscription WHERE session_id NOT IN (SELECT session_id FROM session)",
    "DELETE FROM outgoing WHERE packet_key >> 16 NOT IN (SELECT session_id FROM session)",
    "DELETE FROM received WHERE packet_key >> 16 NOT IN (SELECT session_id FROM session)",
)

_REFUSALS = (sqlite3.OperationalError, sqlite3.DatabaseError, sqlite3.InternalError)
"""What the disk or the file is the reason of. Their subclasses say that a value is wrong."""


def open_sqlite_session_store(path: Path) -> SqliteSessionStore:
    """Open the file, making it if there is none. Raises as `sqlite_file.open_file` does."""
    return SqliteSessionStore(open_file(path))


class SqliteSessionStore:
    """A `SessionStore` in one file."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._is_closed = False
        self._commits_until_tidy = TIDY_COMMITS

    def load(self) -> LoadedState:
        with self._transaction():
            for statement in _DELETE_ORPHANS:
                self._execute(statement)
        with _refusals_explained("read"):
            self._give_back_pages(MAX_PAGES)
            return self._read_all()

    def _read_all(self) -> LoadedState:
        select = self._connection.execute
        return LoadedState(
            sessions=[session_of(row) for row in select("SELECT * FROM session ORDER BY session_id")],
            subscriptions=[
                StoredSubscription(*row)
                for row in select("SELECT session_id, topic_filter, options, identifier FROM subscription")
            ],
            outgoing=sorted(map(outgoing_of, select("SELECT * FROM outgoing")), key=_order_of),
            received=[packet_key_of(key) for (key,) in select("SELECT packet_key FROM received ORDER BY packet_key")],
            retained=[StoredRetained(*row) for row in select("SELECT * FROM retained")],
        )

    def apply(self, changes: Sequence[Change]) -> None:
        effect = NetEffect(changes)
        with self._transaction():
            for statement in _DELETE_SESSIONS:
                self._execute_with(statement, effect.deleted_sessions)
            self._execute_with(_DELETE_OUTGOING, map(packet_key, effect.deleted_outgoing()))
            self._execute_with(_DELETE_RECEIVED, map(packet_key, effect.deleted_received()))
            self._execute_with(_DELETE_SUBSCRIPTIONS, effect.deleted_subscriptions())
            self._execute_with(_DELETE_RETAINED, effect.deleted_retained())
            self._save(_SAVE_SESSIONS, list(map(session_row, effect.sessions.values())))
            self._save(_SAVE_SUBSCRIPTIONS, list(effect.saved_subscriptions()))
            self._save(_SAVE_OUTGOING, list(map(outgoing_row, effect.saved_outgoing())))
            self._save(_SAVE_RETAINED, list(effect.saved_retained()))
            self._execute_with(_SAVE_RECEIVED, map(packet_key, effect.saved_received()))
            self._execute_with(_MARK_SENT, map(packet_key, effect.sent()))
            self._execute_with(_MARK_RELEASED, map(packet_key, effect.released()))
        self._commits_until_tidy -= 1
        if self._commits_until_tidy <= 0:
            self._tidy()

    def _tidy(self) -> None:
        try:
            is_smaller = self._give_back_pages(GIVEN_BACK_PAGES)
        except sqlite3.Error as error:  # the changes are on disk, which is what was asked for
            log.warning("the broker's file could not be made smaller", reason=str(error))
            is_smaller = False
        self._commits_until_tidy = 1 if is_smaller else TIDY_COMMITS

    # -- statements -------------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        if self._is_closed:
            raise StorageError("The broker's state is closed.")
        with _refusals_explained("stored"):
            if self._connection.in_transaction:  # an earlier one could not even be undone
                self._execute("ROLLBACK")
            self._execute("BEGIN IMMEDIATE")
            try:
                yield
                self._execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._execute("ROLLBACK")
                raise

    def _execute(self, statement: str, values: Sequence[Any] = ()) -> None:
        self._connection.execute(statement, values).close()

    def _save(self, insert: _Insert, rows: list[Sequence[Any]]) -> None:
        """Run an INSERT as often as needed. The number of rows goes down by powers of two, so that there are few
        texts of it, which the driver keeps compiled."""
        start, left = 0, len(rows)
        while left:
            count = min(MAX_ROWS, 1 << left.bit_length() - 1)
            part = rows[start : start + count]
            statement = insert.render(count)
            self._execute(statement, [*chain.from_iterable(part), True])
            if sum(len(row[column] or b"") for column in insert.bulky for row in part) > MAX_KEPT_BYTES:
                self._execute(statement, [None] * (count * insert.columns) + [False])
            start, left = start + count, left - count

    def _execute_with(self, statement: str, keys: Iterable[Any]) -> None:
        listed = list(keys)
        if listed:
            self._execute(statement, (json.dumps(listed),))

    def _give_back_pages(self, most: int) -> bool:
        """Make the file smaller when a quarter of it, and not just a little, is unused. Answers whether it was."""
        unused: int = self._connection.execute("PRAGMA freelist_count").fetchone()[0]
        if unused <= SPARE_PAGES:
            return False
        pages: int = self._connection.execute("PRAGMA page_count").fetchone()[0]
        if unused * 4 <= pages:
            return False
        count = min(unused - SPARE_PAGES, most)
        # As a script, because each page is a step of the statement, and `execute` would take the first only.
        self._connection.executescript(f"PRAGMA incremental_vacuum({count})").close()
        return True

    # -- the end ----------------------------------------------------------------------------------------------

    def close(self) -> None:
        self._is_closed = True
        with _refusals_explained("closed"):
            self._connection.close()


def _order_of(message: StoredOutgoing) -> tuple[int, int]:
    return message.session_id, message.position


@contextmanager
def _refusals_explained(done: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if type(error) in _REFUSALS:
            raise StorageError(f"The broker's state cannot be {done}: {error}.") from error
        raise
