"""The tables that commands ask for, from the services: in the server, or in a command without one.

Whoever gives the operator's commands may read every account's buckets, but a query those of one account at a time.
Everything blocks, in a thread beside the event loop's, and raises HeadwaterError.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import Any

from headwater.errors import BadRequest, NotFound
from headwater.exchange.commands import EXPORT, QUERY
from headwater.exchange.on_loop import pulled, run_on
from headwater.exchange.source import Wanted, find_channel, find_rule, records_of
from headwater.exchange.streams import OpenTable, TableStream
from headwater.model.entry import NUMBERING
from headwater.registry.entities import Account, Rollup
from headwater.services import Services
from headwater.services.access import Access
from headwater.services.rollup_state import MEASUREMENT as MARKS
from headwater.services.sql import buckets_of
from headwater.store import Store


def table_openers(services: Services, store: Store, loop: asyncio.AbstractEventLoop) -> Mapping[str, OpenTable]:
    """By the command that is answered with it."""
    return MappingProxyType(
        {EXPORT: partial(open_records, services, store, loop), QUERY: partial(open_answer, services, loop)}
    )


@contextmanager
def open_records(
    services: Services, store: Store, loop: asyncio.AbstractEventLoop, request: Mapping[str, Any]
) -> Iterator[TableStream]:
    """The records of a channel without those that have expired, or what a rule for down-sampling made of them."""
    wanted = Wanted(request["start_ns"], request["end_ns"], request["measurement"], request.get("window"))

    def find() -> tuple[Wanted, int, str]:
        """What is wanted, of which bucket, and the measurement there that the server keeps for itself."""
        channel = find_channel(services.access.channels(), str(request["channel"]))
        if wanted.window is not None:
            return wanted, find_rule(_rules_of(services, channel.id), wanted.window).target_bucket_id, MARKS
        start_ns = services.horizons.start_ns(channel.id, wanted.start_ns)
        return wanted._replace(start_ns=start_ns), channel.id, NUMBERING

    shown, bucket_id, hidden = run_on(loop, find)
    series = [one for one in services.query.series_of(bucket_id) if one.key.measurement != hidden]
    yield records_of(store, series, shown)


@contextmanager
def open_answer(
    services: Services, loop: asyncio.AbstractEventLoop, request: Mapping[str, Any]
) -> Iterator[TableStream]:
    """The answer of a query."""
    text, account, bucket = (request.get(name) for name in ("text", "account", "bucket"))
    if not isinstance(text, str) or not isinstance(account, str | None) or not isinstance(bucket, str | None):
        raise BadRequest("a query is text, with the names of an account and a bucket")
    access = services.access
    buckets = run_on(loop, lambda: buckets_of(access, account_of(access, account).id, partial(_rules_of, services)))
    with pulled(loop, services.sql.answer(buckets, text, default_bucket=bucket)) as batches:
        yield TableStream(next(batches).schema, batches)


def _rules_of(services: Services, channel_id: int) -> list[Rollup]:
    return [state.rule for state in services.rollups.of(channel_id)]


def account_of(access: Access, name: str | None) -> Account:
    if name is not None:
        account = access.account_named(name)
        if account is None:
            raise NotFound(f"there is no account {name}: see `headwater account list`")
        return account
    accounts = access.accounts()
    if len(accounts) != 1:
        raise BadRequest("whose data: name the account with --account (see `headwater account list`)")
    return accounts[0]
