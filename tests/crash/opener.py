"""The process that is killed while it brings a store of the first format up: opens it, and goes on to put it in order.

Arguments: the store's directory. Prints `open` before.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.crash.writer import say

from headwater.store.duck import open_duck_store


def main() -> None:
    say("open")
    store = open_duck_store(Path(sys.argv[1]), wal_limit_mb=1, hot_rows=50_000)
    while store.maintain():
        pass
    sys.stdin.read()  # until the kill comes


if __name__ == "__main__":
    main()
