"""A broker as the composition root builds it, over stores in memory, with two accounts and their devices.

A restart is a new house over the `kept` of a closed one; a crash, one over a copy of it.
"""

from __future__ import annotations

import copy
import ssl
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

from gated_store import GatedStore, until
from headwater.broker.broker import Broker
from headwater.broker.connection import Connection
from headwater.broker.figures import DROP_LIMITS, END_REASONS
from headwater.broker.journal import Journal, JournalLimits
from headwater.broker.listeners import Listeners
from headwater.dialects.thingspeak.mqtt import topics
from headwater.model.principal import Grant
from headwater.model.update_policy import NO_LIMIT
from headwater.mqtt.packets import Connect, PropertyId, ProtocolLevel
from headwater.mqtt.session import Session
from headwater.persistence.memory import MemorySessionStore
from headwater.registry.entities import Account, AccountToken, ApiKey, Channel, ChannelSettings, MqttDevice
from headwater.registry.keys import hash_secret
from headwater.services import Services
from headwater.services.access import Access
from headwater.services.catalogue import Catalogue
from headwater.services.connect_limits import ConnectLimits
from headwater.services.deleting import Deleting
from headwater.services.entries import Entries
from headwater.services.ingest import Ingest, IngestLimits
from headwater.services.presence import Presence
from headwater.services.query import Query
from headwater.services.refusals import Refusals
from headwater.services.update_limits import UpdateLimits
from headwater.settings import MqttSettings, Settings

from .client import Client

WHEN = datetime(2026, 1, 31, tzinfo=UTC)
ADA, BOB = 1, 2
NAMES = {ADA: "ada", BOB: "bob"}
PORCH, CELLAR = 11, 12
"""Ada's channels."""
SENSOR, READER = 21, 22
"""Ada's devices: one may publish to the porch and subscribe to it, the other may only subscribe."""


class House:
    """A listening broker and everything below it. `kept` is what an earlier broker has left."""

    def __init__(self, mqtt: MqttSettings, limits: IngestLimits, kept: MemorySessionStore | None = None) -> None:
        self.settings = Settings(mqtt=mqtt)
        self.store = GatedStore()
        self.kept = kept or MemorySessionStore()
        self.access = Access(allow_topic_keys=mqtt.allow_topic_keys, allow_anonymous=mqtt.allow_anonymous)
        self.refusals = Refusals()
        self.presence = Presence()
        catalogue = Catalogue()
        self.ingest = Ingest(self.store, catalogue, limits)
        self.query = Query(self.store, catalogue)
        deleting = Deleting(self.ingest, catalogue, self.store)
        self.entries = Entries(self.ingest, self.query, catalogue, deleting)
        unused = cast(Any, None)  # the broker changes no account
        services = Services(
            access=self.access,
            accounts=unused,
            channels=unused,
            devices=unused,
            ingest=self.ingest,
            query=self.query,
            sql=unused,
            entries=self.entries,
            editing=unused,
            deleting=deleting,
            refusals=self.refusals,
            registry=unused,
            account_devices=unused,
            connect_limits=ConnectLimits.of(mqtt, time.monotonic),
            rollups=unused,
            thing_https=unused,
            update_policies=unused,
            update_limits=UpdateLimits(
                self.access, self.entries, self.ingest, deleting, lambda _: NO_LIMIT, time.monotonic
            ),
            alerts=unused,
            talkbacks=unused,
            rules=unused,
            presence=self.presence,
        )
        self._populate()
        self.journal = Journal(self.kept, JournalLimits())
        self.broker = Broker(services, topics(services, self.settings), mqtt, self.journal, self.kept.load())
        self.listeners = Listeners(self.broker.new_connection, mqtt)
        self.port = 0
        self._clients: list[Client] = []
        self._bystander: Client | None = None
        self._is_closed = False

    def _populate(self) -> None:
        access = self.access
        for account_id, name in NAMES.items():
            keys = f"{name.upper():U<16}", f"{name.upper():M<16}"
            access.put_account(Account(account_id, name, False, *keys, "UTC", WHEN, 0))
            access.put_token(AccountToken(account_id, account_id, "main", WHEN), hash_secret(token_of(account_id)))
        for channel_id in (PORCH, CELLAR):
            key = ApiKey(channel_id, write_key_of(channel_id), True, "", WHEN)
            access.put_channel(Channel(channel_id, ADA, ChannelSettings(), (key,), WHEN, WHEN))
        self.put_device(SENSOR, Grant(PORCH, allow_publish=True, allow_subscribe=True))
        self.put_device(READER, Grant(PORCH, allow_publish=False, allow_subscribe=True))

    def put_device(self, device_id: int, *grants: Grant, is_enabled: bool = True, password: str = "secret") -> None:
        name = f"device{device_id}"
        device = MqttDevice(device_id, ADA, name, name, name, is_enabled, grants, WHEN)
        self.access.put_device(device, hash_secret(password))

    async def connect(self, connect: Connect | None = None, **options: Any) -> Client:
        """A client on a new connection, signed in if there is a CONNECT."""
        client = await Client.open(self.port, **options)
        self._clients.append(client)
        if connect is not None:
            await client.sign_in(connect)
        return client

    def connection(self, client_id: str) -> Connection:
        """The broker's side of a connected client."""
        [found] = [c for c in self.broker.each_connection() if c.is_here and c.protocol.client_id == client_id]
        return found

    def session(self, client_id: str) -> Session:
        """The session of a client that is not only a holder of keys, connected or not."""
        [found] = [entry.session for entry in self.broker.sessions if entry.session.client_id == client_id]
        return found

    async def kept_at_a_crash(self) -> MemorySessionStore:
        """What would be on disk if the server stopped without a goodbye, once everything so far is written."""
        await self.journal.drain()
        return copy.deepcopy(self.kept)

    async def check_others_are_served(self) -> None:
        """A client that has nothing to do with it still publishes and receives."""
        if self._bystander is None:
            self._bystander = await self.connect(as_account(BOB, "bystander"))
            assert await self._bystander.subscribe("bystander", 1) == 1
        await self._bystander.publish("bystander", b"still here")
        assert (await self._bystander.message(acknowledge=True)).payload == b"still here"

    async def only(self, *clients: Client) -> None:
        """Wait until the broker knows of no other connections than these (and the bystander)."""
        expected = len(clients) + (self._bystander is not None)
        await until(lambda: self.broker.connections == expected, f"{expected} connections")

    async def stored(self, channel_id: int = PORCH) -> list[str | None]:
        """The first field of every entry."""
        channel = self.access.channel(channel_id)
        assert channel is not None
        return [entry.fields.get(1) for entry in await self.entries.newest(channel, None)]

    async def close(self) -> None:
        """Stop as the composition root does; a second time is none."""
        if self._is_closed:
            return
        self._is_closed = True
        self.store.open()
        for client in self._clients:
            await client.close()
        await self.listeners.stop_listening()
        await self.broker.close()
        await until(lambda: not self.broker.connections, "every connection to end")
        await self.journal.close()
        await self.ingest.close()
        self.query.close()

    def check_nothing_is_left(self) -> None:
        """Of connections nothing is left, and of sessions only those that outlive them, with all that is theirs."""
        broker, sessions = self.broker, self.broker.sessions
        assert broker.sign_in._online == {}
        assert not broker.sign_in._by_account
        assert not broker._by_address
        assert broker.sessions.offline == len(sessions)
        for entry in sessions:
            assert entry.session.record is not None, "a session has outlived its client"
            entry.session.record = None  # its journal is closed
            sessions.end(entry)
        assert sessions.budget.bytes == sessions.budget.messages == 0
        trees = [*broker.router._space_trees.values(), *broker.router._own_trees.values()]
        assert all(tree.is_empty for tree in trees), "a subscription has outlived its session"
        assert not broker.router.subscriptions
        totals = broker.figures.totals()
        assert totals.refused.keys() == set(END_REASONS), "a reason that is not counted from the start"
        assert totals.dropped.keys() == set(DROP_LIMITS), "a limit that is not counted from the start"


async def open_house(
    limits: IngestLimits | None = None,
    tls: ssl.SSLContext | None = None,
    kept: MemorySessionStore | None = None,
    **settings: Any,
) -> House:
    """A listening broker; `settings` are those of MQTT."""
    house = House(MqttSettings(**settings), limits or IngestLimits(), kept)
    _, house.port = await house.listeners.listen("127.0.0.1", 0, tls)
    return house


def token_of(account_id: int) -> str:
    return f"token-of-{NAMES[account_id]}"


def write_key_of(channel_id: int) -> str:
    return f"{channel_id:0<16}"


def as_account(account_id: int, client_id: str, **options: Any) -> Connect:
    """CONNECT with an account's token."""
    return Connect(client_id, username=NAMES[account_id], password=token_of(account_id).encode(), **options)


def as_device(device_id: int, password: str = "secret", **options: Any) -> Connect:
    name = f"device{device_id}"
    return Connect(name, username=name, password=password.encode(), **options)


def as_nobody(client_id: str = "", **options: Any) -> Connect:
    """CONNECT without credentials: rights come from keys in topics."""
    return Connect(client_id, **options)


def as_lasting(connect: Connect, *, level: int = 4, expiry_s: int = 3_600) -> Connect:
    """The same client, whose session outlives its connection and goes on where it was."""
    properties = {**connect.properties, PropertyId.SESSION_EXPIRY_INTERVAL: expiry_s} if level == 5 else {}
    return replace(connect, level=ProtocolLevel(level), clean_session=False, properties=properties)
