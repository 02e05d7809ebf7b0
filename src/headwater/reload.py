"""What a running server takes up without a restart: accounts, channels and devices that another process changed,
certificates, and the log settings."""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from headwater.certificates import (
    Identity,
    ask_for_client_certificates,
    find_machine_names,
    must_be_made,
    prepare_identity,
    server_context,
)
from headwater.errors import HeadwaterError
from headwater.logs import Log, configure_logging
from headwater.services import Services
from headwater.settings import Settings, differing_keys

log = Log(__name__)

RENEWAL_INTERVAL_S = 86_400.0
TAKEN_UP = frozenset(
    {
        "log.level",
        "log.format",
        "tls.certificate",
        "tls.key",
        "tls.host_names",
        "tls.client_certificates",
        "tls.client_ca",
    }
)
"""Settings that need no restart."""


class ReloadableContext(ssl.SSLContext):
    """What a listener is given for as long as it listens: each handshake takes the context that is in use then.

    To change a context in place would do for certificates, but CAs can only be added to one, and a session that it
    has issued would be resumed after the CA that vouched for the client was taken away.
    """

    _current: ssl.SSLContext

    @classmethod
    def of(cls, context: ssl.SSLContext) -> ReloadableContext:
        reloadable = cls(ssl.PROTOCOL_TLS_SERVER)
        reloadable.use(context)
        return reloadable

    def use(self, context: ssl.SSLContext) -> None:
        """For handshakes from here on; connections that exist stay."""
        self._current = context

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        return self._current.wrap_bio(*arguments, **options)

    def wrap_socket(self, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        return self._current.wrap_socket(*arguments, **options)


class ListenerTls:
    """The TLS contexts of the listeners that want one. Raises `ConfigurationError` when there can be none."""

    def __init__(self, settings: Settings, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._settings = settings
        self._now = now
        identity = self.prepare(settings)
        self.ca_certificate = identity.ca_certificate
        self._contexts = {
            scheme: ReloadableContext.of(context) for scheme, context in _make_contexts(settings, identity).items()
        }

    def context(self, scheme: str) -> ssl.SSLContext | None:
        return self._contexts.get(scheme)

    def prepare(self, settings: Settings) -> Identity:
        """The certificate for these settings, renewed where needed and checked. Raises `ConfigurationError`."""
        return prepare_identity(settings, machine_names=find_machine_names(), now=self._now())

    def use(self, settings: Settings, identity: Identity) -> None:
        """Take it for handshakes from here on; connections that exist stay. Raises `ConfigurationError`."""
        for scheme, context in _make_contexts(settings, identity).items():
            self._contexts[scheme].use(context)
        self._settings = settings

    async def renew(self) -> bool:
        """Make our own certificate anew if it is time to. Answers whether it was. Raises `ConfigurationError`."""
        settings = self._settings
        if not must_be_made(settings, machine_names=find_machine_names(), now=self._now()):
            return False
        self.use(settings, await asyncio.to_thread(self.prepare, settings))
        return True


def _make_contexts(settings: Settings, identity: Identity) -> dict[str, ssl.SSLContext]:
    """By scheme. Clients show certificates to MQTT only: a browser would ask people for one."""
    https, mqtts = server_context(identity, alpn=("http/1.1",)), server_context(identity)
    ask_for_client_certificates(mqtts, settings.tls)
    return {"https": https, "mqtts": mqtts}


class Reload:
    """Reloads whenever `asked` is set, one reload at a time, and once a day renews the certificate if needed.

    Args: `read_settings` is asked for the settings as they are now, `None` leaves them as they are; `colour` is
    for logs that people read.
    """

    def __init__(
        self,
        asked: asyncio.Event,
        settings: Settings,
        services: Services,
        tls: ListenerTls,
        read_settings: Callable[[], Settings] | None,
        *,
        colour: bool,
        renewal_interval_s: float = RENEWAL_INTERVAL_S,
    ) -> None:
        self._asked = asked
        self._settings = settings
        self._services = services
        self._tls = tls
        self._read_settings = read_settings
        self._colour = colour
        self._renewal_interval_s = renewal_interval_s

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                async with asyncio.timeout(self._renewal_interval_s):
                    await self._asked.wait()
            except TimeoutError:
                await self._renew()
            else:
                self._asked.clear()
                await self._reload()

    async def _reload(self) -> None:
        # Two parts, because a slip in the configuration file must not keep a removed account signed in. Each is
        # taken up as a whole or not at all.
        is_done = True
        for what, take_up in (("registry", self._take_up_registry), ("settings", self._take_up_settings)):
            try:
                await take_up()
            except HeadwaterError as error:
                is_done = False
                log.error(f"reload kept the old {what}", reason=str(error))
            except Exception:
                is_done = False
                log.exception(f"reload kept the old {what}")
        if is_done:
            log.info("reloaded registry, certificates and log settings")

    async def _take_up_registry(self) -> None:
        access = self._services.access
        snapshot = await self._services.registry.read(lambda registry: registry.snapshot())
        access.load(snapshot)
        self._services.talkbacks.load(snapshot.talkbacks)
        await self._services.rollups.load(snapshot.rollups)
        await self._services.update_policies.load()
        await self._services.rules.load()
        await self._services.entries.forget_unknown(access.channel_ids() | self._services.rollups.target_ids())

    async def _take_up_settings(self) -> None:
        wanted = self._settings if self._read_settings is None else self._read_settings()
        # Certificates for what runs: the listeners and the data directory stay what they were.
        running = dataclasses.replace(self._settings, tls=wanted.tls)
        self._tls.use(running, await asyncio.to_thread(self._tls.prepare, running))
        configure_logging(wanted.log, sys.stderr, colour=self._colour)
        if waiting := [key for key in differing_keys(self._settings, wanted) if key not in TAKEN_UP]:
            log.warning(f"needs a restart: {', '.join(waiting)}")

    async def _renew(self) -> None:
        try:
            if await self._tls.renew():
                log.info("renewed the server certificate")
        except HeadwaterError as error:
            log.error("the server certificate could not be renewed", reason=str(error))
        except Exception:
            log.exception("the server certificate could not be renewed")
