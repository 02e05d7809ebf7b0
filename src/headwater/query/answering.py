"""The server's part of `headwater query`: answers with an Arrow stream. Knows no terminal.

Whoever reaches the control socket is the operator, and may read every account's buckets, but one account's at a time.
"""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import pyarrow as pa

from headwater.control import Reply
from headwater.errors import BadRequest, NotFound
from headwater.registry.entities import Account, Rollup
from headwater.services import Services
from headwater.services.access import Access
from headwater.services.sql import buckets_of, time_is_up
from headwater.services.sql_tables import Bucket, Table
from headwater.sql.planning import Plan
from headwater.store.cancellation import Cancellation

QUERY_COMMAND = "query"


class Queries:
    """Answers the command `query`. `loop` is the one that the services live on."""

    def __init__(self, services: Services, loop: asyncio.AbstractEventLoop) -> None:
        self._services = services
        self._loop = loop

    def answer(self, request: Mapping[str, Any], reply: Reply) -> None:
        """Send the answer. Raises HeadwaterError, and OSError when nobody takes it."""
        text, account, bucket = (request.get(name) for name in ("text", "account", "bucket"))
        if not isinstance(text, str) or not isinstance(account, str | None) or not isinstance(bucket, str | None):
            raise BadRequest("a query is text, with the names of an account and a bucket")

        async def buckets() -> list[Bucket]:
            return _buckets_of(self._services, account)

        readable = asyncio.run_coroutine_threadsafe(buckets(), self._loop).result()
        found = self._services.sql.plan(readable, text, default_bucket=bucket)
        with answered(self._services, found) as batches:
            first = next(batches)
            with pa.ipc.new_stream(pa.PythonFile(_Sent(reply), mode="w"), first.schema) as stream:
                for batch in batches:
                    stream.write_batch(batch)


class _Sent(io.RawIOBase):
    """A reply as a file to write to."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self._reply = reply

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self._reply.write(data)
        return memoryview(data).nbytes


def plan(services: Services, text: str, account: str | None, bucket: str | None) -> Plan[Table]:
    """The plan of a query over one account's buckets. To be called on the services' thread."""
    return services.sql.plan(_buckets_of(services, account), text, default_bucket=bucket)


@contextmanager
def answered(services: Services, found: Plan[Table]) -> Iterator[Iterator[pa.RecordBatch]]:
    """The answer of a plan, which is broken off when its time is up."""
    stop, timeout_s = Cancellation(), services.sql.limits.timeout_s
    timer = threading.Timer(timeout_s, stop.cancel, [time_is_up(timeout_s)])
    timer.daemon = True
    timer.start()
    try:
        with closing(services.sql.batches(found, stop)) as batches:
            yield batches
    finally:
        timer.cancel()


def _buckets_of(services: Services, account: str | None) -> list[Bucket]:
    """To be called on the services' thread."""

    def rules_of(channel_id: int) -> list[Rollup]:
        return [state.rule for state in services.rollups.of(channel_id)]

    return buckets_of(services.access, _account_of(services.access, account).id, rules_of)


def _account_of(access: Access, name: str | None) -> Account:
    if name is not None:
        account = access.account_named(name)
        if account is None:
            raise NotFound(f"there is no account {name}: see `headwater account list`")
        return account
    accounts = access.accounts()
    if len(accounts) != 1:
        raise BadRequest("whose data: name the account with --account (see `headwater account list`)")
    return accounts[0]
