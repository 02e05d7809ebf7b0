"""Something asynchronous that runs beside a test which waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def beside(opened: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """Opened in a loop of its own, in a thread of its own, for the length of a `with` block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        thing = asyncio.run_coroutine_threadsafe(opened.__aenter__(), loop).result(10)
        try:
            yield thing
        finally:
            asyncio.run_coroutine_threadsafe(opened.__aexit__(None, None, None), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
