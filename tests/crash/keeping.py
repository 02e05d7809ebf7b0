"""The process that is killed while a bucket is down-sampled: writes, replaces and deletes points, clears the bucket
meanwhile, and keeps two rules.

Argument: the store's directory. Prints `ready` before it begins. What it does is made up by chance: afterwards nothing
is asked but that the results are those of the points that are there.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import threading
from contextlib import closing
from pathlib import Path

from headwater.store.duck import DuckStore, open_duck_store
from rollup_farm import SECOND_NS, SOURCE, Farm, rule

RULES = (rule(60), rule(600, id_=2, target=101))
HOURS_NS = 4 * 3600 * SECOND_NS
FIELDS = ("f", "i")


def open_store(directory: Path) -> DuckStore:
    return open_duck_store(directory, wal_limit_mb=1, memory_limit_mb=256, hot_rows=400, deletions_wait_s=0)


def now_ns() -> int:
    return HOURS_NS


async def work(store: DuckStore) -> None:
    farm = Farm(store, now_ns)
    await farm.rollups.load(RULES)
    await farm.deleting.finish_interrupted()
    os.write(1, b"ready\n")
    async with asyncio.TaskGroup() as group:  # until the process is killed
        group.create_task(keep(farm))
        group.create_task(change(farm))
        group.create_task(clear(farm))


async def keep(farm: Farm) -> None:
    while True:
        await farm.keep()
        await asyncio.sleep(0.001)


async def change(farm: Farm) -> None:
    chance = random.Random()
    while True:
        at_ns = chance.randrange(HOURS_NS)
        if chance.random() < 0.05:
            await farm.delete(chance.choice(FIELDS), at_ns, at_ns + chance.randrange(HOURS_NS // 20))
        elif chance.random() < 0.02:  # so much that it is computed anew from there on
            await farm.delete(chance.choice(FIELDS), at_ns, None)
        else:
            for n in range(20):
                await farm.write("f", at_ns + n * SECOND_NS, chance.random())
                await farm.write("i", at_ns, chance.randrange(100))


async def clear(farm: Farm) -> None:
    chance = random.Random()
    while True:
        await asyncio.sleep(chance.uniform(0.0, 0.5))
        await farm.deleting.clear_bucket(SOURCE)


def maintain(store: DuckStore) -> None:
    while True:
        store.maintain()


def main() -> None:
    with closing(open_store(Path(sys.argv[1]))) as store:
        threading.Thread(target=maintain, args=(store,), daemon=True).start()
        asyncio.run(work(store))


if __name__ == "__main__":
    main()
