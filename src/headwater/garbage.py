"""How often Python looks for cycles of objects that nobody uses any more.

Its default is made for programs, not for servers: 700 new objects have it look, and a few hundred requests under way
hold more than that. So it goes through the same living objects again and again: a quarter of the processor time with
1,000 connections that send updates over HTTP, in whichever thread is making an object just then. What we make has
hardly any cycles.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

COLLECT_AFTER = 50_000
"""Objects that may be new before it looks: some megabytes at most."""


@contextmanager
def seldom_collected() -> Iterator[None]:
    """What is there now stays until the end and is not looked at; what comes later, seldom."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
