"""The console on a real port, over real services with a registry file and a store in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import anyio._core._fileio  # noqa: F401  anyio loads it on first use; pytest rewriting it that deep in the stack fails on 3.11
import pytest
import uvicorn
from console_site import Browser, Clock, Site, until

from headwater.dialects.thingspeak.files import ThingSpeakFiles
from headwater.dialects.thingspeak.parse import WriteLimits
from headwater.dialects.thingspeak.reads import Reads
from headwater.hooks.sender import HttpSender
from headwater.registry.entities import Account, Channel
from headwater.registry.opening import open_registry
from headwater.registry.passwords import Passwords
from headwater.registry.sealing import Seal
from headwater.registry.worker import RegistryWorker
from headwater.services import Services
from headwater.services.access import Access
from headwater.services.account_devices import AccountDevices
from headwater.services.accounts import Accounts
from headwater.services.alerts import Alerts
from headwater.services.catalogue import Catalogue
from headwater.services.channels import Channels
from headwater.services.connect_limits import ConnectLimits
from headwater.services.deleting import Deleting
from headwater.services.devices import Devices
from headwater.services.entries import Entries
from headwater.services.entry_editing import EntryEditing
from headwater.services.horizons import Horizons
from headwater.services.ingest import Ingest, IngestLimits
from headwater.services.outbound import NoMailer
from headwater.services.query import Query
from headwater.services.refusals import Refusals
from headwater.services.rollups import Rollups
from headwater.services.rules.rules import Rules
from headwater.services.sql import Sql
from headwater.services.talkbacks import Talkbacks
from headwater.services.thing_https import ThingHttps
from headwater.services.update_limits import UpdateLimits
from headwater.services.update_policies import UpdatePolicies
from headwater.settings import HookSettings, RuleSettings, WebSettings
from headwater.store.memory import MemoryStore
from headwater.web.app import build_app
from headwater.web.console import ConsoleOptions


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    store = MemoryStore()
    catalogue = Catalogue([])
    query = Query(store, catalogue)
    sql = Sql(store, catalogue, query.readers, lambda: datetime.now(UTC))
    ingest = Ingest(store, catalogue, IngestLimits(0.001, 10_000, 100_000))
    deleting = Deleting(ingest, catalogue, store)
    worker = RegistryWorker(open_registry(f"sqlite:///{tmp_path}/registry.db"))
    passwords = Passwords(time_cost=1, memory_cost_kib=8)
    access = Access()
    rollups = Rollups(worker, access, ingest, catalogue, store, now_ns=time.time_ns, max_rules_per_channel=3)
    deleting.on_deleting(rollups.on_deleting)
    entries = Entries(ingest, query, catalogue, deleting)
    seal, limits_of_rules = Seal(b"s" * 32), RuleSettings(per_account=5)
    rules = Rules(worker, access, entries, seal, limits_of_rules, now_ns=time.time_ns, chance=lambda: 0.5)

    async def forget_channel(channel: Channel) -> None:
        rules.drop_bucket(channel.id)
        await entries.clear(channel)
        await rollups.drop_bucket(channel.id)

    policies = UpdatePolicies(worker, access)
    limits = ConnectLimits(time.monotonic, max_failures_per_minute=3)
    sender = HttpSender(HookSettings(allow_private=True))
    yield Services(
        access=access,
        accounts=Accounts(worker, access, passwords, on_channel_deleted=forget_channel),
        channels=Channels(worker, access, on_deleted=forget_channel, max_channels_per_account=40),
        devices=Devices(worker, access, limits, max_grants_per_device=40),
        ingest=ingest,
        query=query,
        sql=sql,
        entries=entries,
        editing=EntryEditing(entries, ingest, catalogue, deleting, Horizons()),
        deleting=deleting,
        refusals=Refusals(),
        registry=worker,
        account_devices=AccountDevices(worker, access, limits, passwords),
        connect_limits=limits,
        rollups=rollups,
        update_policies=policies,
        update_limits=UpdateLimits(access, entries, ingest, deleting, policies.effective, time.monotonic),
        thing_https=ThingHttps(worker, access, entries, sender, seal, now=lambda: datetime.now(UTC), max_per_account=3),
        alerts=Alerts(worker, access, NoMailer(), most=2, clock=time.monotonic),
        sender=sender,
        talkbacks=Talkbacks(worker, access, entries),
        rules=rules,
    )
    await rules.engine.close()
    await rules.runner.close()
    await worker.close()
    passwords.close()
    await ingest.close()
    query.close()
    store.close()


@pytest.fixture
def options(services: Services) -> ConsoleOptions:
    return ConsoleOptions(
        secret=b"k" * 32,
        heartbeat_s=0.2,
        live_queue_entries=8,
        live_streams_per_account=3,
        files=ThingSpeakFiles(services, WriteLimits()),
        chart_points=Reads(services, 8000).chart_points,
    )


@pytest.fixture
async def site(services: Services, options: ConsoleOptions) -> AsyncIterator[Site]:
    clock = Clock()
    app = build_app(services, [], replace(options, clock=clock), WebSettings(), ca_certificate=None)
    server = uvicorn.Server(
        uvicorn.Config(
            app, host="127.0.0.1", port=0, log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=1
        )
    )
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    running = Site(services, f"http://127.0.0.1:{port}", clock)
    yield running
    await running.close()
    server.should_exit = True
    await serving


@pytest.fixture
async def ada(site: Site) -> Browser:
    """A browser in which `ada` is signed in."""
    await site.account("ada")
    browser = site.browser()
    assert (await browser.sign_in("ada")).status_code == 303
    return browser


@pytest.fixture
def ada_account(site: Site, ada: Browser) -> Account:
    account = site.services.access.account_named("ada")
    assert account is not None
    return account
