"""InfluxDB 1.x as a peer: a process with a configuration and data of its own. Knows no load.

Its defaults hold, but that it compacts what is not written to any more after seconds instead of hours, that it keeps no
records about itself, and that it tells nobody of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from database_server import DatabaseServer, running
from servers import find_program, free_port

PACKAGE = "influxdb"
_DATABASE = "bench"
_CONFIGURATION = """
reporting-disabled = true
bind-address = "127.0.0.1:{backup_port}"
[meta]
  dir = "{directory}/meta"
[data]
  dir = "{directory}/data"
  wal-dir = "{directory}/wal"
  query-log-enabled = false
  cache-snapshot-write-cold-duration = "5s"
  compact-full-write-cold-duration = "5s"
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:{port}"
  log-enabled = false
[ifql]
  enabled = false
[logging]
  level = "error"
"""


class Influx(DatabaseServer):
    def write(self, lines: bytes) -> None:
        """Store line protocol, durably."""
        self.send("POST", "/write", lines, db=_DATABASE)

    def ask(self, query: str) -> bytes:
        """The answer to InfluxQL, as it comes over the wire."""
        return self.send("GET", "/query", db=_DATABASE, q=query, epoch="ns")

    def rows(self, query: str) -> list[list[float]]:
        """The answer's rows, time first; of several series, one after another."""
        (result,) = msgspec.json.decode(self.ask(query))["results"]
        return [row for series in result.get("series", ()) for row in series["values"]]

    def ping(self) -> None:
        """An exchange without any work."""
        self.send("GET", "/ping")


@contextmanager
def influxd(directory: Path) -> Iterator[Influx]:
    program = find_program("influxd", PACKAGE)
    port = free_port()
    directory.mkdir()
    configuration = directory / "influxdb.conf"
    configuration.write_text(_CONFIGURATION.format(directory=directory, port=port, backup_port=free_port()))
    with running([program, "-config", str(configuration)], port):
        influx = Influx(port, directory)
        influx.send("POST", "/query", q=f"CREATE DATABASE {_DATABASE}")
        try:
            yield influx
        finally:
            influx.close()
