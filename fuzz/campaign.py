"""Runs one target for some minutes and says what it has done: executions, memory before and after, findings.

A finding is any exception: it is printed, its input is kept as `finding-…` in this directory (give that file as an
argument to see it again), and the process ends with exit code 1. So it does when memory has grown by more than
GROWTH_LIMIT_BYTES, and when one execution takes longer than TIMEOUT_S.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import atheris

WARM_UP_EXECUTIONS = 2_000
"""Executions before memory is looked at for the first time: by then everything is imported and every cache is full."""
REPORT_INTERVAL_S = 30.0
GROWTH_LIMIT_BYTES = 64 * 2**20
TIMEOUT_S = 20


def run(arguments: list[str], check: Callable[[bytes], None]) -> None:
    """Arguments: those of libFuzzer, such as `-max_total_time=600` (which is kept here) and a directory of inputs."""
    logging.disable(logging.CRITICAL)
    limit_s = next((float(a.split("=")[1]) for a in arguments if a.startswith("-max_total_time=")), float("inf"))
    campaign = Campaign(Path(arguments[0]).stem, check, limit_s)
    kept = [a for a in arguments if not a.startswith("-max_total_time=")]
    atheris.Setup([*kept, "-rss_limit_mb=2048", f"-timeout={TIMEOUT_S}", "-verbosity=0"], campaign.take)
    atheris.Fuzz()


class Campaign:
    """Counts, measures, and ends the process when the time is over."""

    def __init__(self, name: str, check: Callable[[bytes], None], limit_s: float) -> None:
        self._name = name
        self._check = check
        self._executions = 0
        self._start_bytes = 0
        self._started_s = self._reported_s = time.monotonic()
        self._limit_s = limit_s

    def take(self, data: bytes) -> None:
        """One execution."""
        try:
            self._check(data)
        except Exception:
            traceback.print_exc()
            path = Path(f"finding-{hashlib.sha256(data).hexdigest()[:16]}")
            path.write_bytes(data)
            self._report(f"until {path.absolute()}")
            leave(1)
        self._executions += 1
        if self._executions == WARM_UP_EXECUTIONS:
            self._start_bytes = memory_bytes()
        if self._executions % 64 == 0:
            now_s = time.monotonic()
            if now_s - self._reported_s > REPORT_INTERVAL_S:
                self._reported_s = now_s
                self._report("so far")
            if now_s - self._started_s > self._limit_s:
                self._end()

    def _report(self, when: str) -> None:
        start, now = self._start_bytes / 2**20, memory_bytes() / 2**20
        elapsed_s = time.monotonic() - self._started_s
        print(
            f"{self._name}: {self._executions} executions in {elapsed_s:.0f} s {when}, "
            f"memory {start:.0f} MiB after the first {WARM_UP_EXECUTIONS}, {now:.0f} MiB now",
            flush=True,
        )

    def _end(self) -> None:
        self._report("in all, nothing found")
        if self._start_bytes and memory_bytes() - self._start_bytes > GROWTH_LIMIT_BYTES:
            print(f"{self._name}: memory has grown", flush=True)
            leave(1)
        leave(0)


def memory_bytes() -> int:
    """What this process holds in memory (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1_024 for line in lines if line.startswith("VmRSS:"))


def leave(code: int) -> None:
    """End the process from within libFuzzer, which takes any exception for a finding."""
    sys.stdout.flush()
    os._exit(code)
