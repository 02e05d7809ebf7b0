"""The process that is killed while it brings a registry up to this version. Argument: its URL. Prints `open` before,
`done` behind."""

from __future__ import annotations

import sys

from tests.crash.writer import say

from headwater.registry.opening import open_registry


def main() -> None:
    say("open")
    open_registry(sys.argv[1])
    say("done")
    sys.stdin.read()  # until the kill comes


if __name__ == "__main__":
    main()
