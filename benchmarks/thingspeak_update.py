"""Updates over REST: Headwater stores every entry durably before it answers; a bare uvicorn beside it says "hello".

Both get the same bytes from the same client, a kept connection a device, one request outstanding on each. Usage:

    python benchmarks/thingspeak_update.py [--only post] [--seconds 3] [--rounds 3] [--connections 1000]

Ends with status 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from comparison import Load, Measured, add_arguments, compare
from http_load import exchange
from servers import Target, free_port, headwater, wait_for_port

LEAST_RATIO = 0.6
REQUESTS = 50
"""Different ones a connection."""


@contextmanager
def bare_uvicorn() -> Iterator[Target]:
    """An endpoint that reads nothing and answers five bytes, in one process, with what makes uvicorn fast."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "hello:app", "--app-dir", str(Path(__file__).parent)]
    command += ["--port", str(port), "--loop", "uvloop", "--http", "httptools", "--log-level", "error"]
    process = subprocess.Popen(command)
    try:
        wait_for_port(port)
        yield Target("uvicorn", process.pid, mqtt_port=0, http_port=port)
    finally:
        process.terminate()
        process.wait(timeout=10)


def measure(target: Target, method: str, connections: int, seconds: float) -> Measured:
    """Every update that was answered must be found as an entry on disk, or the server's stop fails."""
    assert target.http_port is not None
    channels = [target.create_channel_with_key(f"sensor {n}") for n in range(connections)] if target.password else []
    keys = [key for _, key in channels] or ["A1B2C3D4E5F6G7H8"] * connections
    source = random.Random(1)
    requests = [[render_request(method, key, source) for _ in range(REQUESTS)] for key in keys]
    measured, answered = exchange(target.http_port, requests, seconds)
    for (channel_id, _), count in zip(channels, answered, strict=False):
        target.expect_entries(channel_id, count)
    return measured


def render_request(method: str, key: str, source: random.Random) -> bytes:
    """As the official Arduino library posts a form, or as sketches put everything into the address."""
    values = f"field1={source.uniform(-20, 40):.2f}&field2={source.uniform(0, 100):.1f}"
    head = "Host: api.thingspeak.com\r\nUser-Agent: bench\r\n"
    if method == "GET":
        return f"GET /update?api_key={key}&{values} HTTP/1.1\r\n{head}\r\n".encode()
    body = f"{values}&headers=false"
    head += f"X-THINGSPEAKAPIKEY: {key}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    return f"POST /update HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, ["get", "post"])
    parser.add_argument("--connections", type=int, default=1000)
    arguments = parser.parse_args()

    def load(method: str) -> Load:
        def put(target: Target, seconds: float) -> Measured:
            return measure(target, method, arguments.connections, seconds)

        return Load(method.lower(), f"{method} /update", put, headwater, bare_uvicorn, LEAST_RATIO)

    title = f"Requests from {arguments.connections} connections: an entry on disk beside a bare hello"
    compare(title, "uvicorn", [load("GET"), load("POST")], arguments)


if __name__ == "__main__":
    main()
