from __future__ import annotations

import asyncio
import threading

import pytest

from headwater.errors import NotFound
from headwater.registry.worker import RegistryWorker


async def test_calls_run_in_order_on_one_thread_and_the_rest_on_the_loop(registry):
    worker = RegistryWorker(registry)
    calls: list[int] = []
    afters: list[int] = []
    threads: set[int] = set()

    def call(number: int) -> int:
        threads.add(threading.get_ident())
        calls.append(number)
        return number

    def after(number: int) -> None:
        assert threading.current_thread() is threading.main_thread()
        afters.append(number)

    await asyncio.gather(*(worker.write(lambda _, n=n: call(n), after) for n in range(50)))
    await worker.close()
    assert calls == afters == list(range(50))
    assert len(threads) == 1
    assert threading.get_ident() not in threads


async def test_a_caller_that_goes_away_does_not_part_file_and_memory(registry):
    worker = RegistryWorker(registry)
    started, proceed = threading.Event(), threading.Event()
    done = asyncio.Event()

    def call(_: object) -> str:
        started.set()
        assert proceed.wait(30)
        return "written"

    async def after(result: str) -> None:
        await asyncio.sleep(0)
        assert result == "written"
        done.set()

    caller = asyncio.create_task(worker.write(call, after))
    await asyncio.to_thread(started.wait, 30)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert not done.is_set()
    proceed.set()
    await asyncio.wait_for(done.wait(), 30)
    await worker.close()


async def test_close_waits_for_what_is_under_way(registry):
    worker = RegistryWorker(registry)
    finished: list[str] = []
    started, proceed = threading.Event(), threading.Event()

    def call(_: object) -> None:
        started.set()
        assert proceed.wait(30)

    async def after(_: None) -> None:
        await asyncio.sleep(0)
        finished.append("after")

    write = asyncio.create_task(worker.write(call, after))
    await asyncio.to_thread(started.wait, 30)
    closing = asyncio.create_task(worker.close())
    proceed.set()
    await closing
    assert finished == ["after"]
    await write
    assert not any(thread.name.startswith("headwater-registry") for thread in threading.enumerate())


async def test_errors_reach_the_caller_and_end_nothing(registry):
    worker = RegistryWorker(registry)
    with pytest.raises(NotFound):
        await worker.write(lambda known: known.remove_account(7), lambda _: pytest.fail("nothing was written"))
    assert (await worker.read(lambda known: known.snapshot())).accounts == ()
    await worker.close()
