"""The composition root: what there is, in which order it starts, and in which order it stops.

Reads no environment and no flags; `cli` hands in the settings. Everything is opened here, top to bottom, and closed by
the exit stack bottom to top: first nobody new is let in, then what is in flight is stored and answered, then the
store and the registry close.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path

from starlette.types import ASGIApp

from headwater.broker.broker import Broker
from headwater.certificates import Identity, find_machine_names, prepare_identity, reload_context, server_context
from headwater.demo import run_demo
from headwater.dialects import thingspeak
from headwater.errors import ConfigurationError
from headwater.instance import hold_data_directory
from headwater.logs import Log, configure_logging
from headwater.registry.keys import generate_account_token
from headwater.registry.opening import open_registry
from headwater.registry.passwords import Passwords
from headwater.registry.worker import RegistryWorker
from headwater.services import Services
from headwater.services.access import Access
from headwater.services.accounts import Accounts
from headwater.services.catalogue import Catalogue
from headwater.services.channels import Channels
from headwater.services.devices import Devices
from headwater.services.entries import Entries
from headwater.services.ingest import Ingest, IngestLimits
from headwater.services.query import Query
from headwater.services.refusals import Refusals
from headwater.setting_kinds import Address
from headwater.settings import AdminSeed, Settings, StoreEngine
from headwater.store import Store
from headwater.store.duck import open_duck_store
from headwater.store.memory import MemoryStore
from headwater.web.app import build_app
from headwater.web.console import ConsoleOptions, MqttPorts
from headwater.web.server import WebServer

log = Log(__name__)

DIALECTS = (thingspeak.DIALECT,)
SECRET_BYTES = 32
THREAD_SWITCH_S = 0.0005
"""How long the event loop may keep the interpreter to itself while the store's threads wait for it. A commit needs it
several times: with Python's default of 5 ms, a commit under load takes ten times as long as its work."""
DEFAULT_ADMIN_NAME = "admin"


async def run(
    settings: Settings,
    *,
    admin: AdminSeed,
    demo: bool,
    announce: Callable[[str], None],
    read_settings: Callable[[], Settings] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args: `announce` gets the line `ready {json}` once connections are accepted; `read_settings` is asked for the
    settings as they are now on SIGHUP. Raises ConfigurationError when something cannot be opened.
    """
    sys.setswitchinterval(THREAD_SWITCH_S)
    async with AsyncExitStack() as stack:
        stack.enter_context(hold_data_directory(settings.data))
        services = await stack.enter_async_context(open_services(settings))
        await _seed_administrator(services, admin)
        tls = _Tls(settings)
        broker = Broker(services, [s for d in DIALECTS for s in d.topics(services, settings)], settings.mqtt)
        stack.push_async_callback(broker.close)
        web = WebServer(_build_web_app(services, settings, tls, broker), settings.web)
        stack.push_async_callback(web.close)
        bound = await _listen(settings, broker, web, tls)
        if demo:
            await stack.enter_async_context(run_demo(services, settings.data, bound["mqtt"], bound["http"]))
        stopping = asyncio.Event()
        reload = _Reload(settings, services, tls, read_settings)
        _handle_signals(stopping, reload)
        announce("ready " + json.dumps(bound | {"data": str(settings.data.resolve()), "pid": os.getpid()}))
        await stopping.wait()
        log.info("shutting down")


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Everything below the edges, over the registry and the store of one data directory."""
    limits = settings.limits
    async with AsyncExitStack() as stack:
        store = await asyncio.to_thread(_open_store, settings)
        stack.enter_context(closing(store))
        catalogue = Catalogue(await asyncio.to_thread(lambda: list(store.catalogue())))
        query = stack.enter_context(closing(Query(store, catalogue)))
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
        entries = Entries(ingest, query, catalogue, store)
        await entries.recover()

        # Above the store: what is deleted in the registry is deleted there too, also while the server stops.
        worker = RegistryWorker(open_registry(settings.registry_url))
        stack.push_async_callback(worker.close)
        access = Access(allow_topic_keys=settings.mqtt.allow_topic_keys, allow_anonymous=settings.mqtt.allow_anonymous)
        access.load(await worker.read(lambda registry: registry.snapshot()))
        passwords = stack.enter_context(closing(Passwords()))
        yield Services(
            access=access,
            accounts=Accounts(
                worker,
                access,
                passwords,
                on_channel_deleted=entries.clear,
                max_failures=settings.web.sign_in_failures_per_minute,
                block_s=settings.web.sign_in_block_s,
            ),
            channels=Channels(
                worker, access, on_deleted=entries.clear, max_channels_per_account=limits.channels_per_account
            ),
            devices=Devices(worker, access, max_devices_per_account=limits.devices_per_account),
            ingest=ingest,
            query=query,
            entries=entries,
            refusals=Refusals(),
            registry=worker,
        )


def _open_store(settings: Settings) -> Store:
    if settings.store.engine is StoreEngine.MEMORY:
        return MemoryStore()
    return open_duck_store(
        settings.data / "telemetry",
        memory_limit_mb=settings.store.memory_limit_mb,
        threads=settings.store.threads or os.cpu_count() or 1,
        wal_limit_mb=settings.store.wal_limit_mb,
    )


async def _seed_administrator(services: Services, admin: AdminSeed) -> None:
    """On an empty registry, make the administrator; what was generated for it is shown once, and logged never."""
    if not await services.accounts.is_empty():
        return
    name = admin.user or DEFAULT_ADMIN_NAME
    password = admin.password or secrets.token_urlsafe(15)
    token = admin.token or generate_account_token()
    await services.accounts.add(name, password, is_admin=True, token=token)
    generated = [("password", password, admin.password), ("token", token, admin.token)]
    lines = [f"  {what:<9}{value}" for what, value, given in generated if given is None]
    if lines:
        text = "\n".join([f"First start: the administrator is {name!r}. Shown only now:", *lines])
        print(text, file=sys.stderr, flush=True)


def _build_web_app(services: Services, settings: Settings, tls: _Tls, broker: Broker) -> ASGIApp:
    options = ConsoleOptions(
        secret=_read_or_make_secret(settings.data / "session.key"),
        session_s=settings.web.session_hours * 3600,
        public_url=settings.web.public_url,
        mqtt_ports=lambda: MqttPorts(broker.port(tls=False), broker.port(tls=True)),
    )
    routes = [route for dialect in DIALECTS for route in dialect.routes(services, settings)]
    return build_app(services, routes, options, settings.web, ca_certificate=tls.ca_certificate)


def _read_or_make_secret(path: Path) -> bytes:
    """The key that signs console sessions; made once, readable by its owner only."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        secret = path.read_bytes()
        if len(secret) < SECRET_BYTES:
            raise ConfigurationError(f"{path} is damaged; delete it (everybody has to sign in again)") from None
        return secret
    with os.fdopen(descriptor, "wb") as file:
        secret = secrets.token_bytes(SECRET_BYTES)
        file.write(secret)
        file.flush()
        os.fsync(file.fileno())
    return secret


class _Tls:
    """The TLS contexts of the listeners that want one."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._contexts: dict[str, ssl.SSLContext] = {}
        identity = self._prepare()
        self.ca_certificate = identity.ca_certificate
        for scheme, alpn in (("https", ("http/1.1",)), ("mqtts", ())):
            self._contexts[scheme] = server_context(identity, alpn=alpn)

    def _prepare(self) -> Identity:
        return prepare_identity(self.settings, machine_names=find_machine_names(), now=datetime.now(UTC))

    def context(self, scheme: str) -> ssl.SSLContext | None:
        return self._contexts.get(scheme)

    def reload(self) -> None:
        """Take the certificates as they are now; connections that exist stay. Raises ConfigurationError."""
        identity = self._prepare()
        for context in self._contexts.values():
            reload_context(context, identity)


async def _listen(settings: Settings, broker: Broker, web: WebServer, tls: _Tls) -> dict[str, list[str]]:
    """Open every listener; answers the bound addresses by scheme."""
    bound: dict[str, list[str]] = {}
    for scheme, addresses, open_listener in (
        ("http", settings.listen.http, web.listen),
        ("https", settings.listen.https, web.listen),
        ("mqtt", settings.listen.mqtt, broker.listen),
        ("mqtts", settings.listen.mqtts, broker.listen),
    ):
        bound[scheme] = []
        for address in addresses:
            try:
                host, port = await open_listener(address.host, address.port, tls.context(scheme))
            except OSError as error:
                raise ConfigurationError(
                    f"cannot listen on {address} for {scheme}: {error.strerror or error}; "
                    f"free the port, or choose another with --{scheme}"
                ) from error
            bound[scheme].append(str(Address(host, port)))
    return bound


class _Reload:
    """What SIGHUP does: registry, certificates and log level as they are now. Everything else needs a restart."""

    def __init__(
        self, settings: Settings, services: Services, tls: _Tls, read_settings: Callable[[], Settings] | None
    ) -> None:
        self._settings = settings
        self._services = services
        self._tls = tls
        self._read_settings = read_settings
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._running = asyncio.get_running_loop().create_task(self._reload())

    async def _reload(self) -> None:
        snapshot = await self._services.registry.read(lambda registry: registry.snapshot())
        self._services.access.load(snapshot)
        try:
            if self._read_settings is not None:
                self._settings = self._read_settings()
                configure_logging(self._settings.log, sys.stderr, colour=sys.stderr.isatty())
                self._tls.settings = self._settings
            self._tls.reload()
        except ConfigurationError as error:
            log.error("reload kept the old settings", reason=str(error))
            return
        log.info("reloaded registry, certificates and log settings")


def _handle_signals(stopping: asyncio.Event, reload: _Reload) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, reload.start)
