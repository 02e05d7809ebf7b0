"""What the SQLite engine does beyond the contract: it keeps its files and its memory small."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from headwater.persistence import ChangeKind, SessionStore
from headwater.persistence import sqlite as engine
from headwater.persistence.sqlite import open_sqlite_session_store
from headwater.persistence.sqlite_file import CHECKPOINT_PAGES, LOG_SIZE_LIMIT_BYTES
from stored_values import WILL, outgoing, retained, session

PAGE_BYTES = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "broker.db"


@pytest.fixture
def _small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "SPARE_PAGES", 16)
    monkeypatch.setattr(engine, "TIDY_COMMITS", 2)
    monkeypatch.setattr(engine, "GIVEN_BACK_PAGES", 64)


def pages(store: SessionStore) -> int:
    count: int = store._connection.execute("PRAGMA page_count").fetchone()[0]  # type: ignore[attr-defined]
    return count


def fill(store: SessionStore) -> None:
    store.apply([(ChangeKind.SAVE_SESSION, session(session_id)) for session_id in (1, 2)])
    for session_id in (1, 2):
        store.apply(
            [
                (ChangeKind.SAVE_OUTGOING, outgoing(session_id, packet_id, payload=b"x" * 3000))
                for packet_id in range(1, 501)
            ]
        )


@pytest.mark.usefixtures("_small_limits")
def test_the_file_shrinks_bit_by_bit_after_a_queue_was_drained(path: Path) -> None:
    with closing(open_sqlite_session_store(path)) as store:
        fill(store)
        full = pages(store)
        assert full > 900
        store.apply([(ChangeKind.DELETE_SESSION, 2)])
        sizes = [pages(store)]
        for number in range(20):
            store.apply([(ChangeKind.SAVE_RETAINED, retained("a", expires_at_ns=number))])
            sizes.append(pages(store))
        steps = [before - after for before, after in zip([full, *sizes], sizes, strict=False)]
        assert max(steps) <= 64 + 1, "and a page of SQLite's own map of pages"
        assert sizes[-1] == sizes[-2] < full * 0.75
        assert len(store.load().outgoing) == 500
    assert path.stat().st_size < full * 0.75 * PAGE_BYTES


@pytest.mark.usefixtures("_small_limits")
def test_the_file_shrinks_at_the_start(path: Path) -> None:
    with closing(open_sqlite_session_store(path)) as store:
        fill(store)
        full = pages(store)
        store.apply([(ChangeKind.DELETE_SESSION, 1)])
        store.apply([(ChangeKind.DELETE_SESSION, 2)])
    with closing(open_sqlite_session_store(path)) as store:
        assert store.load().sessions == []
        assert pages(store) < full // 10


def test_a_file_with_few_unused_pages_is_left_alone(path: Path) -> None:
    with closing(open_sqlite_session_store(path)) as store:
        fill(store)
        full = pages(store)
        store.apply([(ChangeKind.DELETE_SESSION, 2)])
        for number in range(engine.TIDY_COMMITS + 1):
            store.apply([(ChangeKind.SAVE_RETAINED, retained("a", expires_at_ns=number))])
        assert pages(store) >= full


def test_the_log_stays_small(path: Path) -> None:
    log = path.with_name("broker.db-wal")
    with closing(open_sqlite_session_store(path)) as store:
        store.apply([(ChangeKind.SAVE_SESSION, session(1))])
        largest = 0
        for number in range(60):
            store.apply(
                [
                    (ChangeKind.SAVE_OUTGOING, outgoing(1, packet_id, number * 100 + packet_id, payload=b"x" * 9000))
                    for packet_id in range(1, 101)
                ]
            )
            largest = max(largest, log.stat().st_size)
    assert largest < 2 * CHECKPOINT_PAGES * PAGE_BYTES < LOG_SIZE_LIMIT_BYTES


def test_large_values_do_not_stay_in_memory(path: Path) -> None:
    large = b"x" * 30_000_000
    with closing(open_sqlite_session_store(path)) as store:
        store.load()
        before = resident_bytes()
        store.apply(
            [
                (ChangeKind.SAVE_OUTGOING, outgoing(1, 1, payload=large)),
                (ChangeKind.SAVE_RETAINED, retained("a", payload=large)),
                (ChangeKind.SAVE_SESSION, session(1, will=WILL._replace(payload=large))),
            ]
        )
        assert resident_bytes() - before < 60_000_000
        state = store.load()
    assert [len(message.payload) for message in state.outgoing] == [len(large)]
    assert [len(message.payload) for message in state.retained] == [len(large)]
    assert [value.will is not None and len(value.will.payload) for value in state.sessions] == [len(large)]


def resident_bytes() -> int:
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("the memory of a process is not to be had here")
    return int(statm.read_text().split()[1]) * PAGE_BYTES
