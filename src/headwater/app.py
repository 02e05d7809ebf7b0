"""The composition root: what there is, in which order it starts, and in which order it stops.

Reads no environment and no flags; `cli` hands in the settings. Everything is opened here, top to bottom, and closed by
the exit stack bottom to top: first nobody new is let in, then what is in flight is stored and answered, then the
store and the registry close.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import random
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from datetime import UTC, datetime
from functools import partial

from starlette.types import ASGIApp

from headwater.backup import taking
from headwater.backup.taking import Backups
from headwater.broker.broker import Broker
from headwater.broker.journal import Journal, JournalLimits
from headwater.broker.listeners import Listeners
from headwater.broker.publisher import BrokerPublisher
from headwater.broker.websocket import WebSockets
from headwater.control import Command, ControlSocket
from headwater.demo import run_demo
from headwater.dialects import thingspeak
from headwater.errors import ConfigurationError
from headwater.exchange import loading
from headwater.exchange.commands import IMPORT, IMPORT_TARGET
from headwater.exchange.loading import Imports
from headwater.exchange.opening import table_openers
from headwater.exchange.streams import answering
from headwater.exchange.thingspeak_target import Targets
from headwater.file_limit import raise_file_limit, what_is_short
from headwater.first_start import read_or_make_secret, seed_administrator
from headwater.garbage import seldom_collected
from headwater.hooks.mail import SmtpMailer
from headwater.hooks.sender import HttpSender
from headwater.instance import hold_data_directory
from headwater.logs import Log
from headwater.persistence.memory import MemorySessionStore
from headwater.persistence.sqlite import open_sqlite_session_store
from headwater.registry.entities import Channel
from headwater.registry.opening import open_registry
from headwater.registry.passwords import Passwords
from headwater.registry.sealing import KEY_FILE, Seal
from headwater.registry.worker import RegistryWorker
from headwater.reload import ListenerTls, Reload
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
from headwater.services.query import Query
from headwater.services.refusals import Refusals
from headwater.services.retention import Retention
from headwater.services.rollup_keeping import RollupKeeper
from headwater.services.rollups import Rollups
from headwater.services.rules.carriers import Carriers
from headwater.services.rules.rules import Rules
from headwater.services.sql import Sql, SqlLimits
from headwater.services.talkbacks import Talkbacks
from headwater.services.thing_https import ThingHttps
from headwater.services.update_limits import QueueLimits, UpdateLimits
from headwater.services.update_policies import UpdatePolicies
from headwater.services.upkeep import StoreUpkeep
from headwater.setting_kinds import Address
from headwater.settings import AdminSeed, Settings, StoreEngine
from headwater.store import Store
from headwater.store.duck import open_duck_store
from headwater.store.memory import MemoryStore
from headwater.web.app import build_app
from headwater.web.console import ConsoleOptions, MqttPorts
from headwater.web.server import WebServer
from headwater.web.upgrade import hint_routes

log = Log(__name__)

DIALECTS = (thingspeak.DIALECT,)
THREAD_SWITCH_S = 0.0005
"""How long the event loop may keep the interpreter to itself while the store's threads wait for it. A commit needs it
several times: beside a thread that never lets go, Python's default of 5 ms makes a commit of 10 points take 22 ms
instead of 3. Throughput stays the same."""


async def run(
    settings: Settings,
    *,
    admin: AdminSeed,
    demo: bool,
    announce: Callable[[str], None],
    read_settings: Callable[[], Settings] | None = None,
    colour: bool = False,
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args: `announce` gets the line `ready {json}` once connections are accepted; `read_settings` is asked for the
    settings as they are now on SIGHUP; `colour` is for logs that people read. Raises ConfigurationError when
    something cannot be opened.
    """
    sys.setswitchinterval(THREAD_SWITCH_S)
    # Before anything is read: who changes it during the start and says so must be heard.
    reload_asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload_asked.set)
    async with AsyncExitStack() as stack:
        stack.enter_context(hold_data_directory(settings.data))
        if short := what_is_short(raise_file_limit(), settings):
            log.warning(short)
        store = stack.enter_context(closing(await asyncio.to_thread(open_store, settings)))
        services = await stack.enter_async_context(open_services(settings, store))
        tls = ListenerTls(settings)
        broker = await stack.enter_async_context(_open_broker(services, settings))
        await stack.enter_async_context(services.rules.running(_carriers(services)))
        listeners = Listeners(broker.new_connection, settings.mqtt, max_handshakes=settings.tls.max_handshakes)
        stack.push_async_callback(listeners.stop_listening)
        web_sockets = WebSockets(broker.new_connection, settings.listen.websocket_origins, settings.mqtt)
        web_app = _build_web_app(services, settings, tls, listeners, web_sockets)
        quick_paths = {
            path: quick for dialect in DIALECTS for path, quick in dialect.quick_paths(services, settings).items()
        }
        web = WebServer(
            web_app,
            settings.web,
            web_sockets,
            quick_paths=quick_paths,
            max_handshakes=settings.tls.max_handshakes,
        )
        stack.push_async_callback(web.close)
        bound = await _listen(settings, listeners, web, tls)
        # Not before: a start that fails for want of a port would have shown the secrets to nobody.
        await seed_administrator(services.accounts, admin)
        # Before anybody who waits for an answer is waited for.
        stack.callback(services.update_limits.close)
        if demo:
            await stack.enter_async_context(run_demo(services, settings, bound["mqtt"], bound["http"]))
        tables = table_openers(services, store, asyncio.get_running_loop())
        commands: dict[str, Command] = {
            taking.COMMAND: Backups(settings.data, store).answer,
            IMPORT: Imports(services, settings.data).answer,
            IMPORT_TARGET: Targets(services, settings.data).answer,
            **{command: answering(open_table) for command, open_table in tables.items()},
        }
        control = ControlSocket(settings.data, commands)
        stack.push_async_callback(asyncio.to_thread, control.close)
        reload = Reload(reload_asked, settings, services, tls, read_settings, colour=colour)
        await stack.enter_async_context(_running(reload.run()))
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        stack.enter_context(seldom_collected())
        announce("ready " + json.dumps(bound | {"data": str(settings.data.resolve()), "pid": os.getpid()}))
        await stopping.wait()
        log.info("shutting down")
        services.rules.stop_soon()
        # Nobody new on any listener, before anybody is waited for.
        await listeners.stop_listening()
        web_sockets.going_away()
        services.update_limits.close()
        await web.close()


def _carriers(services: Services) -> Carriers:
    """Who does what rules say."""

    async def talkback_names(account_id: int) -> dict[int, str]:
        return {talkback.id: talkback.name for talkback in services.talkbacks.owned(account_id)}

    async def thing_http_names(account_id: int) -> dict[int, str]:
        return {thing_http.id: thing_http.name for thing_http in await services.thing_https.owned(account_id)}

    def address_of(account_id: int) -> str | None:
        account = services.access.account(account_id)
        return None if account is None else account.email or None

    return Carriers(
        sender=services.sender,
        mailer=services.mailer,
        publisher=services.publisher,
        talkbacks=services.talkbacks,
        thing_https=services.thing_https,
        talkback_names=talkback_names,
        thing_http_names=thing_http_names,
        address_of=address_of,
    )


@asynccontextmanager
async def _running(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """A task beside what follows."""
    task = asyncio.get_running_loop().create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def _open_broker(services: Services, settings: Settings) -> AsyncIterator[Broker]:
    """The broker with what it kept the last time. It closes before its journal, and that before the file."""
    async with AsyncExitStack() as stack:
        is_durable = settings.store.engine is not StoreEngine.MEMORY
        path = settings.data / "broker.db"
        kept = await asyncio.to_thread(lambda: open_sqlite_session_store(path) if is_durable else MemorySessionStore())
        stack.enter_context(closing(kept))
        state = await asyncio.to_thread(kept.load)
        journal = Journal(kept, JournalLimits(settings.ingest.flush_interval_ms / 1000))
        stack.push_async_callback(journal.close)
        topics = [space for dialect in DIALECTS for space in dialect.topics(services, settings)]
        broker = Broker(services, topics, settings.mqtt, journal, state)
        stack.push_async_callback(broker.close)
        stack.enter_context(services.publisher.connected(BrokerPublisher(broker, services.access)))
        yield broker


@asynccontextmanager
async def open_services(settings: Settings, store: Store) -> AsyncIterator[Services]:
    """Everything below the edges, over the registry and the store of one data directory."""
    limits = settings.limits
    async with AsyncExitStack() as stack:
        # Apart from the console's: a flood of devices must not keep people from signing in.
        device_passwords = stack.enter_context(closing(Passwords(max_at_once=1, max_waiting=256)))
        access = Access(
            allow_topic_keys=settings.mqtt.allow_topic_keys,
            allow_anonymous=settings.mqtt.allow_anonymous,
            passwords=device_passwords,
        )
        horizons = Horizons(access.retention_s)
        catalogue = Catalogue(await asyncio.to_thread(lambda: list(store.catalogue())))
        query = stack.enter_context(closing(Query(store, catalogue, settings.query, horizons)))
        sql_limits = SqlLimits(
            settings.sql.memory_mb, settings.store.threads or os.cpu_count() or 1, settings.sql.at_once
        )
        sql = Sql(store, catalogue, query.readers, lambda: datetime.now(UTC), sql_limits, horizons)
        ingest = Ingest(
            store,
            catalogue,
            IngestLimits(
                settings.ingest.flush_interval_ms / 1000,
                settings.ingest.flush_points,
                settings.ingest.max_pending_points,
            ),
        )
        stack.push_async_callback(ingest.close)
        stack.enter_context(closing(StoreUpkeep(store)))
        deleting = Deleting(ingest, catalogue, store)
        stack.push_async_callback(deleting.close)
        # Above the store: what is deleted in the registry is deleted there too, also while the server stops.
        worker = RegistryWorker(open_registry(settings.registry_url))
        stack.push_async_callback(worker.close)
        snapshot = await worker.read(lambda registry: registry.snapshot())
        access.load(snapshot)
        rollups = Rollups(
            worker,
            access,
            ingest,
            catalogue,
            store,
            now_ns=time.time_ns,
            retention_s=access.retention_s,
            max_rules_per_channel=settings.rollup.rules_per_channel,
        )
        await rollups.load(snapshot.rollups)
        deleting.on_deleting(rollups.on_deleting)
        deleting.on_deleting(partial(loading.forgetting_notes, settings.data))
        await deleting.finish_interrupted()
        query.use_rollups(rollups)
        entries = Entries(ingest, query, catalogue, deleting, horizons)
        await entries.recover()
        await _reconcile(worker, access, catalogue, entries, rollups)

        async def before_removal(bucket_ids: Collection[int]) -> None:
            await entries.note_last_ids(bucket_ids)
            await rollups.note_lost(bucket_ids)

        retention = Retention(ingest, catalogue, store, horizons, access.retentions, before_removal)
        stack.push_async_callback(retention.close)
        await stack.enter_async_context(_running(retention.run()))
        keeper = RollupKeeper(rollups, ingest, catalogue, store, interval_s=settings.rollup.interval_s)
        stack.enter_context(closing(keeper))
        await stack.enter_async_context(_running(keeper.run()))
        seal = Seal(read_or_make_secret(settings.data / KEY_FILE, "what was sealed with it has to be entered anew"))
        rules = Rules(
            worker,
            access,
            entries,
            seal,
            settings.rules,
            now_ns=time.time_ns,
            chance=random.random,
        )

        async def forget_channel(channel: Channel) -> None:
            rules.drop_bucket(channel.id)
            await entries.clear(channel)
            await rollups.drop_bucket(channel.id)

        update_policies = UpdatePolicies(worker, access)
        await update_policies.load()
        update_limits = UpdateLimits(
            access,
            entries,
            ingest,
            deleting,
            update_policies.effective,
            time.monotonic,
            QueueLimits(limits.queued_updates_per_channel, limits.queued_updates_per_account, limits.queued_updates),
        )
        sender = HttpSender(settings.hooks)
        mailer = SmtpMailer(settings.mail)
        most_alerts = settings.thingspeak.alerts_per_half_hour
        alerts = Alerts(worker, access, mailer, most=most_alerts, clock=time.monotonic)
        stack.push_async_callback(alerts.close)
        talkbacks = Talkbacks(
            worker,
            access,
            entries,
            max_talkbacks_per_account=limits.talkbacks_per_account,
            max_commands=limits.commands_per_talkback,
        )
        talkbacks.load(snapshot.talkbacks)
        passwords = stack.enter_context(closing(Passwords()))
        connect_limits = ConnectLimits.of(settings.mqtt, time.monotonic)
        yield Services(
            access=access,
            accounts=Accounts(
                worker,
                access,
                passwords,
                on_channel_deleted=forget_channel,
                max_failures=settings.web.sign_in_failures_per_minute,
                block_s=settings.web.sign_in_block_s,
            ),
            channels=Channels(
                worker,
                access,
                on_deleted=forget_channel,
                change_retention=retention.change,
                max_channels_per_account=limits.channels_per_account,
                max_fields_per_channel=limits.fields_per_channel,
                max_shares_per_channel=limits.shares_per_channel,
            ),
            devices=Devices(worker, access, connect_limits, max_devices_per_account=limits.devices_per_account),
            ingest=ingest,
            query=query,
            sql=sql,
            entries=entries,
            editing=EntryEditing(entries, ingest, catalogue, deleting, horizons, update_limits.close_entry),
            deleting=deleting,
            refusals=Refusals(),
            registry=worker,
            account_devices=AccountDevices(
                worker,
                access,
                connect_limits,
                device_passwords,
                max_devices_per_account=limits.devices_per_account,
            ),
            connect_limits=connect_limits,
            horizons=horizons,
            rollups=rollups,
            update_policies=update_policies,
            update_limits=update_limits,
            thing_https=ThingHttps(
                worker,
                access,
                entries,
                sender,
                seal,
                now=lambda: datetime.now(UTC),
                max_per_account=limits.thing_https_per_account,
            ),
            alerts=alerts,
            sender=sender,
            mailer=mailer,
            talkbacks=talkbacks,
            rules=rules,
        )


async def _reconcile(
    worker: RegistryWorker, access: Access, catalogue: Catalogue, entries: Entries, rollups: Rollups
) -> None:
    """Delete the entries of channels that were removed while no server ran, or just before one crashed.

    Raises ConfigurationError when there are entries of channels that the registry cannot have removed, because it never
    made them: then it is not the registry that belongs to this store, and nothing may be deleted, nor its numbers be
    given to new channels.
    """
    last_id = await worker.read(lambda registry: registry.last_bucket_id())
    stranded = [bucket_id for bucket_id in catalogue.bucket_ids() if bucket_id > last_id]
    if stranded:
        raise ConfigurationError(
            f"the registry is missing or older than the stored entries: it never knew channel {min(stranded)}; "
            "restore registry.db from the backup that belongs to telemetry/, or move telemetry/ away"
        )
    await entries.forget_unknown(access.channel_ids() | rollups.target_ids())


def open_store(settings: Settings) -> Store:
    """The store of a data directory. Raises ConfigurationError and StorageError."""
    if settings.store.engine is StoreEngine.MEMORY:
        return MemoryStore()
    return open_duck_store(
        settings.data / "telemetry",
        memory_limit_mb=settings.store.memory_limit_mb,
        max_spill_mb=settings.store.max_spill_mb,
        threads=settings.store.threads or os.cpu_count() or 1,
        wal_limit_mb=settings.store.wal_limit_mb,
        hot_rows=settings.store.hot_points,
        min_free_mb=settings.store.min_free_mb,
    )


def _build_web_app(
    services: Services, settings: Settings, tls: ListenerTls, listeners: Listeners, web_sockets: WebSockets
) -> ASGIApp:
    options = ConsoleOptions(
        secret=read_or_make_secret(settings.data / "session.key"),
        session_s=settings.web.session_hours * 3600,
        public_url=settings.web.public_url,
        has_own_ca=tls.ca_certificate is not None,
        live_streams_per_address=settings.web.live_streams_per_address,
        files=thingspeak.channel_files(services, settings),
        chart_points=thingspeak.chart_points(services, settings),
        mqtt_ports=lambda: MqttPorts(listeners.port(tls=False), listeners.port(tls=True)),
    )
    routes = [route for dialect in DIALECTS for route in dialect.routes(services, settings)]
    routes += hint_routes(web_sockets)
    return build_app(
        services,
        routes,
        options,
        settings.web,
        ca_certificate=tls.ca_certificate,
        metrics_token=settings.web.metrics_token,
    )


async def _listen(settings: Settings, listeners: Listeners, web: WebServer, tls: ListenerTls) -> dict[str, list[str]]:
    """Open every listener; answers the bound addresses by scheme."""
    listen = settings.listen
    bound = {
        "http": await _open_all("http", listen.http, web.listen),
        "https": await _open_all("https", listen.https, partial(web.listen, tls=tls.context("https"))),
        "mqtt": await _open_all("mqtt", listen.mqtt, listeners.listen),
        "mqtts": await _open_all("mqtts", listen.mqtts, partial(listeners.listen, tls=tls.context("mqtts"))),
    }
    if listen.mqtt_proxied:
        bound["mqtt_proxied"] = await _open_all("mqtt-proxied", listen.mqtt_proxied, listeners.listen_proxied)
    return bound


async def _open_all(
    scheme: str, addresses: Iterable[Address], open_listener: Callable[[str, int], Awaitable[tuple[str, int]]]
) -> list[str]:
    bound = []
    for address in addresses:
        try:
            host, port = await open_listener(address.host, address.port)
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {address} for {scheme}: {error.strerror or error}; {_way_out(error, scheme)}"
            ) from error
        bound.append(str(Address(host, port)))
    return bound


def _way_out(error: OSError, scheme: str) -> str:
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"name an address of this machine with --{scheme}"
    if error.errno == errno.EADDRINUSE:
        return f"free the port, or choose another with --{scheme}"
    return f"choose another address or port with --{scheme}"
