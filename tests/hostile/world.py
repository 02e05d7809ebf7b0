"""The whole broker without sockets, threads and time: many clients, driven step by step, watched at every step.

For fuzzing. Real are the broker, its connections, sessions, wills, the journal's bookkeeping and the store in memory;
the event loop, the transports and the clock are plain objects that do what the driver says, so that the same steps have
the same outcome every time. `Watcher` reads what each client is sent and raises AssertionError when it may not be.
"""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

from headwater.broker.broker import Broker
from headwater.broker.connection import Connection
from headwater.broker.journal import Journal, JournalLimits
from headwater.errors import StorageError
from headwater.mqtt.decode import parse_packet
from headwater.mqtt.framing import parse_frame_length
from headwater.mqtt.outgoing import OutgoingState
from headwater.mqtt.packets import Acknowledgement, Connack, Disconnect, PacketType, PropertyId, Publish
from headwater.persistence import SessionStore
from headwater.persistence.memory import MemorySessionStore
from headwater.registry.entities import Account, AccountToken
from headwater.registry.keys import hash_secret
from headwater.services import Services
from headwater.services.access import Access
from headwater.services.connect_limits import ConnectLimits
from headwater.services.presence import Presence
from headwater.services.refusals import Refusals
from headwater.settings import MqttSettings

WHEN = datetime(2026, 1, 31, tzinfo=UTC)
ACCOUNTS = {1: "ada", 2: "bob"}
MAX_CALLBACKS = 20_000
"""What one step may set off; more means that something goes on for ever."""
READ_BYTES = 2_048
FROM_SERVER = {
    PacketType.CONNACK, PacketType.PUBLISH, PacketType.PUBACK, PacketType.PUBREC, PacketType.PUBREL,
    PacketType.PUBCOMP, PacketType.SUBACK, PacketType.UNSUBACK, PacketType.PINGRESP, PacketType.DISCONNECT,
}  # fmt: skip


class SteppedLoop:
    """As much of an event loop as the broker uses, and a clock that the driver turns."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self._soon: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._later: list[tuple[float, Callable[..., object], tuple[Any, ...]]] = []

    def time(self) -> float:
        return self.now_s

    def call_soon(self, callback: Callable[..., object], *args: Any) -> None:
        self._soon.append((callback, args))

    def call_later(self, delay_s: float, callback: Callable[..., object], *args: Any) -> None:
        self._later.append((self.now_s + delay_s, callback, args))

    def create_task(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        coroutine.close()  # the sweeper: `World.advance` does what it would
        return SimpleNamespace(cancel=lambda: None)

    def run(self) -> None:
        """Everything that is due."""
        due = [entry for entry in self._later if entry[0] <= self.now_s]
        self._later = [entry for entry in self._later if entry[0] > self.now_s]
        self._soon += [(callback, args) for _, callback, args in due]
        for _ in range(MAX_CALLBACKS):
            if not self._soon:
                return
            callback, args = self._soon.popleft()
            callback(*args)
        raise AssertionError("the broker does not come to rest")


class SteppedJournal(Journal):
    """A journal whose batches are committed when the driver says so, or refused by the disk."""

    def __init__(self, store: SessionStore) -> None:
        super().__init__(store, JournalLimits())
        self.sealed_store = store

    def _begin_batch(self) -> None:
        """The driver commits."""

    def commit(self, *, fails: bool = False) -> None:
        promise, self._promise = self._promise, None
        if fails:
            self._kept += self._open.values()
            self._kept_bytes += self._open_bytes
        else:
            self.sealed_store.apply([*self._kept, *self._open.values()])
            self._kept, self._kept_bytes = [], 0
        self._open, self._open_bytes, self._open_messages = {}, 0, {}
        if promise is not None:
            promise.resolve(StorageError("the disk refused") if fails else None)


class Watcher:
    """Reads what one client is sent, and what it sends of acknowledgements."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sent = b""
        self._said = b""
        self._in_flight: set[int] = set()
        self._early: set[int] = set()
        """What was acknowledged before it was sent."""
        self._aliases: set[int] = set()
        self.to_acknowledge: list[Acknowledgement] = []
        """What an honest client would answer."""
        self.packets = 0
        self.messages: list[Publish] = []

    def said(self, data: bytes) -> None:
        """The client sends this."""
        self._said += data
        for first_byte, body in self._frames("_said"):
            kind = first_byte >> 4
            is_refused = kind == PacketType.PUBREC and len(body) > 2 and body[2] >= 0x80
            if kind in (PacketType.PUBACK, PacketType.PUBCOMP) or is_refused:
                packet_id = int.from_bytes(body[:2], "big")
                if packet_id in self._in_flight:
                    self._in_flight.remove(packet_id)
                else:  # perhaps of a message that is made by what comes before it in the same read
                    self._early.add(packet_id)

    def sent(self, data: bytes) -> None:
        """The client is sent this."""
        protocol = self._connection.protocol
        self._sent += data
        for first_byte, body in self._frames("_sent"):
            packet = parse_packet(first_byte, body, protocol.level)
            assert first_byte >> 4 in FROM_SERVER, packet
            assert isinstance(packet, Connack) == (self.packets == 0), f"{packet} is packet {self.packets}"
            most = protocol._max_packet_bytes
            assert not most or len(body) + 2 <= most, f"{packet} is longer than {most} bytes"
            self.packets += 1
            if isinstance(packet, Publish):
                self._published(packet)
            elif isinstance(packet, Acknowledgement) and packet.type is PacketType.PUBREL and not packet.reason_code:
                self._in_flight.add(packet.packet_id)  # it may be of an earlier connection
                self.to_acknowledge.append(Acknowledgement(PacketType.PUBCOMP, packet.packet_id))
            elif isinstance(packet, Disconnect):
                assert protocol.level == 5

    def _published(self, packet: Publish) -> None:
        self.messages.append(packet)
        alias = packet.properties.get(PropertyId.TOPIC_ALIAS)
        if alias is not None:
            assert 0 < alias <= self._connection.protocol._max_alias
            assert packet.topic or alias in self._aliases, "an alias that stands for nothing"
            self._aliases.add(alias)
        assert packet.topic or alias
        assert packet.qos or not packet.dup
        if packet.packet_id is not None:
            assert packet.packet_id not in self._in_flight, "a packet identifier is used twice"
            if packet.packet_id in self._early:
                self._early.remove(packet.packet_id)
            else:
                self._in_flight.add(packet.packet_id)
            assert len(self._in_flight) <= self._connection.protocol.window, "the window is exceeded"
            kind = PacketType.PUBACK if packet.qos == 1 else PacketType.PUBREC
            self.to_acknowledge.append(Acknowledgement(kind, packet.packet_id))

    def _frames(self, name: str) -> Iterator[tuple[int, bytes]]:
        while (data := getattr(self, name)) and len(data) >= 2:
            try:
                header = parse_frame_length(data, 0, len(data))
            except Exception:
                assert name == "_said", "the broker sends what cannot be parsed"
                return
            if header is None or sum(header) > len(data):
                return
            setattr(self, name, data[sum(header) :])
            yield data[0], data[header[0] : sum(header)]


class SteppedTransport:
    """A client's socket: what it sends waits here until the broker reads."""

    def __init__(self, world: World, connection: Connection, number: int) -> None:
        self._world = world
        self._inbox = b""
        self._is_paused = False
        self._is_closing = False
        self._has_ended = False
        self.connection = connection
        self.watcher = Watcher(connection)
        self.address = f"192.0.2.{number % 4}"
        self.is_lost = False

    def get_extra_info(self, name: str) -> Any:
        return (self.address, 1) if name == "peername" else None

    def set_write_buffer_limits(self, high: int) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self._is_paused = True

    def resume_reading(self) -> None:
        assert not self._is_closing
        self._is_paused = False
        self._world.loop.call_soon(self._read)

    def write(self, data: bytes) -> None:
        is_gone = self.is_lost or self._has_ended
        assert not is_gone, "written to a connection that is gone"
        self.watcher.sent(data)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._has_ended = True

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._world.loop.call_soon(self.lose)

    abort = close

    @property
    def is_ending(self) -> bool:
        """Whether the broker has said its last."""
        return self._has_ended or self._is_closing

    def feed(self, data: bytes) -> None:
        """The client sends something."""
        if not self._is_closing:
            self.watcher.said(data)
            self._inbox += data
            self._world.loop.call_soon(self._read)

    def _read(self) -> None:
        if self._inbox and not (self._is_paused or self._is_closing):
            data, self._inbox = self._inbox[:READ_BYTES], self._inbox[READ_BYTES:]
            self.connection.data_received(data)
            self._world.loop.call_soon(self._read)

    def lose(self) -> None:
        """The connection is gone."""
        if not self.is_lost:
            self.is_lost = self._is_closing = True
            self.connection.connection_lost(None)


class World:
    """A broker, its clients and the clock."""

    def __init__(self, settings: MqttSettings) -> None:
        self.settings = settings
        self.loop = SteppedLoop()
        self.store = MemorySessionStore()
        self.clients: list[SteppedTransport] = []
        self._arrivals = 0
        self._open()

    def _open(self) -> None:
        access = Access(allow_topic_keys=True, allow_anonymous=False)
        for account_id, name in ACCOUNTS.items():
            keys = f"{name.upper():U<16}", f"{name.upper():M<16}"
            access.put_account(Account(account_id, name, False, *keys, "UTC", WHEN, 0))
            access.put_token(AccountToken(account_id, account_id, "main", WHEN), hash_secret(name))
        unused = cast(Any, None)
        services = Services(
            access=access,
            accounts=unused,
            channels=unused,
            devices=unused,
            ingest=cast(Any, SimpleNamespace(is_full=False)),
            query=unused,
            sql=unused,
            entries=unused,
            editing=unused,
            deleting=unused,
            refusals=Refusals(),
            registry=unused,
            account_devices=unused,
            connect_limits=ConnectLimits.of(self.settings, self.loop.time),
            rollups=unused,
            thing_https=unused,
            update_policies=unused,
            update_limits=unused,
            alerts=unused,
            talkbacks=unused,
            rules=unused,
            presence=Presence(),
        )
        self.journal = SteppedJournal(self.store)
        with self._running():
            self.broker = Broker(services, (), self.settings, self.journal, self.store.load())
            self.loop.run()

    @contextmanager
    def _running(self) -> Iterator[None]:
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(cast(Any, self.loop))
        try:
            yield
        finally:
            asyncio._set_running_loop(before)

    # -- steps ------------------------------------------------------------------------------------------------------

    def connect(self) -> SteppedTransport:
        """Somebody opens a connection."""
        self._arrivals += 1
        connection = self.broker.new_connection("tcp")
        client = SteppedTransport(self, connection, self._arrivals)
        self.clients.append(client)
        with self._running():
            connection.connection_made(cast(asyncio.Transport, client))
        self._settle()
        return client

    def feed(self, client: SteppedTransport, data: bytes) -> None:
        """A client sends something, and everything that follows from it happens."""
        client.feed(data)
        self._settle()

    def lose(self, client: SteppedTransport) -> None:
        """A connection breaks."""
        client.lose()
        self._settle()

    def stop_reading(self, client: SteppedTransport) -> None:
        """A client does not read what it is sent."""
        if not client.is_lost and not client.connection.protocol.is_congested:
            client.connection.pause_writing()
            self._settle()

    def read_again(self, client: SteppedTransport) -> None:
        if not client.is_lost and client.connection.protocol.is_congested:
            client.connection.resume_writing()
            self._settle()

    def commit(self, *, fails: bool = False) -> None:
        """The disk has written what waits, or refuses it."""
        with self._running():
            self.journal.commit(fails=fails)
        self._settle()

    def advance(self, seconds: float) -> None:
        """Time goes by, and the broker looks at what is due."""
        broker = self.broker
        self.loop.now_s += seconds
        with self._running():
            for connection in broker.each_connection():
                broker._check_deadlines(connection, self.loop.now_s)
            broker.wills.sweep(self.loop.now_s)
            for entry in broker.sessions.expired():
                broker.wills.hasten(entry.session)
                broker.sessions.end(entry)
            broker.retained.forget_expired()
        self._settle()

    def crash(self) -> None:
        """The process dies; another one goes on with what is on disk."""
        self.store = copy.deepcopy(self.store)
        self.clients.clear()
        self.loop = SteppedLoop()
        self._open()
        self._settle()

    def _settle(self) -> None:
        with self._running():
            self.loop.run()
        self.clients = [client for client in self.clients if not client.is_lost]
        self.check()

    # -- what is always true --------------------------------------------------------------------------------------

    def check(self) -> None:
        """The books are right."""
        broker, sessions = self.broker, self.broker.sessions
        assert all(client.connection.is_here or client.is_ending for client in self.clients)
        known = {id(entry.session): entry.session for entry in sessions}
        for connection in broker.each_connection():
            session = connection.protocol.session
            if session is not None and connection.is_here:
                known[id(session)] = session
                assert session.link is connection.protocol
                assert session._in_flight <= connection.protocol.window
        in_all = 0
        for session in known.values():
            owed = list(session.outgoing)
            waiting = [outgoing for outgoing in owed if outgoing.state is OutgoingState.QUEUED]
            assert [id(o) for o in waiting] == [id(o) for o in session._unsent or ()], "the queue is out of order"
            assert session.in_flight == len(owed) - len(waiting)
            assert len(waiting) <= max(self.settings.max_queued_messages, 0)
            assert session.queued_bytes == sum(outgoing.message.size for outgoing in waiting)
            in_all += len(owed)
        assert sessions.budget.messages == in_all, "the budget does not add up"
        assert broker.connections == len(self.clients)

    def check_end(self) -> None:
        """Everybody leaves and everything runs out: nothing may be left, in memory or on disk."""
        broker = self.broker
        for client in tuple(self.clients):
            self.lose(client)
        self.commit()
        self.advance(self.settings.max_session_expiry_s + 1.0)
        self.advance(1.0)
        self.commit()
        assert len(broker.sessions) == 0
        assert broker.sessions.budget.bytes == broker.sessions.budget.messages == 0
        assert not broker.router.subscriptions
        assert all(tree.is_empty for tree in broker.router._own_trees.values())
        assert not broker.wills._delayed
        assert not broker.wills._due
        assert not broker._by_address
        assert not broker.sign_in._online
        assert not broker.sign_in._by_account
        state = self.store.load()
        assert not [*state.sessions, *state.subscriptions, *state.outgoing, *state.received]
        assert len(state.retained) == broker.retained.messages
