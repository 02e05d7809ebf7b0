"""The process that is killed: writes, replaces and deletes points while upkeep moves them, and says what it did.

Arguments: the store's directory, the number of the first operation. Prints `try N` before and `did N` after each.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from tests.crash.operations import SERIES, Delete, operation

from headwater.store import Batch
from headwater.store.duck import DuckStore, open_duck_store


def main() -> None:
    store = open_duck_store(Path(sys.argv[1]), wal_limit_mb=1, memory_limit_mb=256, hot_rows=400, deletions_wait_s=0)
    first = int(sys.argv[2])
    if not list(store.catalogue()):
        store.append(Batch(list(SERIES)))
    threading.Thread(target=maintain, args=(store,), daemon=True).start()
    number = first
    while True:
        say(f"try {number}")
        what = operation(number)
        if isinstance(what, Delete):
            store.delete([what.series_id], start_ns=what.start_ns, end_ns=what.end_ns)
        else:
            store.append(what.batch())
        say(f"did {number}")
        number += 1


def maintain(store: DuckStore) -> None:
    while True:
        store.maintain()


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())  # unbuffered: what was said was said before the kill


if __name__ == "__main__":
    main()
