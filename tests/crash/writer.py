"""The process that is killed: writes, replaces, deletes and expires points while upkeep moves them and snapshots are
taken, and says what it did.

Arguments: the store's directory, the number of the first operation. Prints `try N` before and `did N` after each.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.crash.operations import SERIES, Delete, Expire, operation

from headwater.store import Batch
from headwater.store.duck import DuckStore, open_duck_store


def main() -> None:
    store = open_duck_store(Path(sys.argv[1]), wal_limit_mb=1, memory_limit_mb=256, hot_rows=400, deletions_wait_s=0)
    first = int(sys.argv[2])
    if not list(store.catalogue()):
        store.append(Batch(list(SERIES)))
    for work in (store.maintain, lambda: take_snapshot(store)):
        threading.Thread(target=repeat, args=(work,), daemon=True).start()
    number = first
    while True:
        say(f"try {number}")
        what = operation(number)
        if isinstance(what, Delete):
            store.delete([what.series_id], start_ns=what.start_ns, end_ns=what.end_ns)
        elif isinstance(what, Expire):
            store.delete([1, 2], end_ns=what.end_ns)
        else:
            store.append(what.batch())
        say(f"did {number}")
        number += 1


def repeat(work: Callable[[], object]) -> None:
    try:
        while True:
            work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)  # seen by the test, which expects the process to be killed


def take_snapshot(store: DuckStore) -> None:
    for file in store.snapshot().values():
        file.close()


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())  # unbuffered: what was said was said before the kill


if __name__ == "__main__":
    main()
