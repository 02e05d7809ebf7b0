"""VictoriaMetrics as a peer for the size on disk: a process with data of its own. Knows no load."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from database_server import DatabaseServer, running
from servers import find_program, free_port

PACKAGE = "victoria-metrics"
_ROWS = re.compile(r'^vm_rows\{type="storage/\w+"\} (\d+)$', re.MULTILINE)


class Victoria(DatabaseServer):
    def write(self, lines: bytes) -> None:
        """Take line protocol; it is on disk some seconds later."""
        self.send("POST", "/write", lines)

    def merge(self) -> None:
        """Put all on disk, in as few files as can be."""
        self.send("GET", "/internal/force_flush")
        self.send("GET", "/internal/force_merge")
        self.wait_until_settled()

    def values(self) -> int:
        """How many values it has."""
        return sum(int(count) for count in _ROWS.findall(self.send("GET", "/metrics").decode()))


@contextmanager
def victoria_metrics(directory: Path) -> Iterator[Victoria]:
    program = find_program("victoria-metrics", PACKAGE)
    port = free_port()
    command = [program, f"-storageDataPath={directory}", f"-httpListenAddr=127.0.0.1:{port}"]
    command += ["-retentionPeriod=100y", "-loggerLevel=ERROR"]
    with running(command, port):
        victoria = Victoria(port, directory)
        try:
            yield victoria
        finally:
            victoria.close()
