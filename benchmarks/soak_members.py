"""Who takes part in a soak: devices, visitors and a watcher, each a client that connects again and again. What they
send and see goes into the ledger they share."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field

from headwater.mqtt.packets import Connect, PropertyId, ProtocolLevel, Publish, Will
from mqtt_client import Client, ClientSession, ConnectionFailed
from servers import USER_NAME, Target
from soak_ledger import Ledger

GROUP = 10
"""Devices in a group; the first of each listens to all of them, the others to the next one."""
SESSION_EXPIRY_S = 86_400
KEEP_ALIVE_S = 60
PING_INTERVAL_S = 20.0
AWAY_S = (0.2, 5.0)
QOS_WEIGHTS = (3, 4, 3)
STATE_SHARE = 0.05
"""Of a device's messages: those that set its retained state."""
DISCONNECT_SHARE = 0.5
PAYLOAD_FILL = b" field1=21.37&field2=60.1"
CONCURRENT_OPENINGS = 50
MAX_ATTEMPTS = 30
"""To connect, one a second; then the server is taken for dead."""
RETAINED_TIMEOUT_S = 15.0


@dataclass
class Soak:
    """What all clients share."""

    target: Target
    life_s: float
    interval_s: float
    """Mean times: of a connection, and between two messages of one device."""
    random: random.Random
    ledger: Ledger = field(default_factory=Ledger)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    opening: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CONCURRENT_OPENINGS))

    async def pause(self, seconds: float) -> None:
        """Sleep, but not beyond the end of the soak."""
        try:
            await asyncio.wait_for(self.stopping.wait(), seconds)
        except TimeoutError:
            return


class Member:
    """A client with a name that connects again and again."""

    is_persistent = True

    def __init__(self, soak: Soak, name: str, level: ProtocolLevel) -> None:
        self.soak = soak
        self.name = name
        self.session = ClientSession()
        self.client: Client | None = None
        self._level = level
        self._life = 0

    def received(self, packet: Publish) -> None:
        """A message arrived."""
        raise NotImplementedError

    async def live(self) -> None:
        """Come and go until the soak stops."""
        raise NotImplementedError

    async def open(self) -> bool:
        """Connect; whether the server had the session. A failure is a fault, and the next attempt comes soon. Raises
        ConnectionFailed after many."""
        for _ in range(MAX_ATTEMPTS):
            self._life += 1
            if not self.is_persistent:
                self.session = ClientSession()
            client = Client(self._render_connect(), self.session, self.received)
            try:
                async with self.soak.opening:
                    present = await client.open(self.soak.target.mqtt_port)
            except (ConnectionFailed, OSError):
                client.abort()
                self.soak.ledger.faults["failed connections"] += 1
                await asyncio.sleep(1)
                continue
            self.client = client
            self.soak.ledger.counts["connections"] += 1
            return present
        raise ConnectionFailed(f"{self.soak.target.name} cannot be reached")

    def _render_connect(self) -> Connect:
        persists = self.is_persistent and self._level is ProtocolLevel.V5
        password = self.soak.target.password
        return Connect(
            self.name,
            clean_session=not self.is_persistent,
            keep_alive_s=KEEP_ALIVE_S,
            username=None if password is None else USER_NAME,
            password=None if password is None else password.encode(),
            will=Will(f"will/{self.name}", str(self._life).encode(), 1, retain=False),
            level=self._level,
            properties={PropertyId.SESSION_EXPIRY_INTERVAL: SESSION_EXPIRY_S} if persists else {},
        )

    def leave(self) -> None:
        """With or without goodbye."""
        client, self.client = self.client, None
        assert client is not None
        ledger = self.soak.ledger
        if client.ended_by_server is not None:
            ledger.faults["connections ended by the server"] += 1
            ledger.will_due(self.name, self._life)
        elif self.soak.stopping.is_set() or self.soak.random.random() < DISCONNECT_SHARE:
            client.disconnect()
        else:
            client.abort()
            ledger.will_due(self.name, self._life)


class Device(Member):
    """Publishes to whoever listens, listens to others, and keeps a retained state."""

    def __init__(self, soak: Soak, number: int, count: int, level: ProtocolLevel) -> None:
        super().__init__(soak, f"device-{number}", level)
        self.group, place = divmod(number, GROUP)
        peers = range(self.group * GROUP, min((self.group + 1) * GROUP, count))
        self.listens_to = list(peers) if place == 0 else [peers[(place + 1) % len(peers)]]
        self.state_topic = f"state/{self.name}"

    async def enrol(self) -> None:
        """The first connection: subscribes, once for the life of the session."""
        await self.open()
        assert self.client is not None
        peer = "+" if len(self.listens_to) > 1 else f"device-{self.listens_to[0]}"
        await self.client.subscribe(f"group/{self.group}/{peer}/+", 2)
        for number in self.listens_to:
            self.soak.ledger.subscribed(self.name, f"device-{number}")

    def received(self, packet: Publish) -> None:
        number = int(packet.payload.split(b" ", 1)[0])
        _, _, publisher, qos = packet.topic.split("/")
        self.soak.ledger.seen(self.name, publisher, int(qos), number)

    async def live(self) -> None:
        soak = self.soak
        while not soak.stopping.is_set():
            if self.client is None and not await self.open():
                soak.ledger.faults["lost sessions"] += 1
            leaves_at_s = time.monotonic() + soak.random.expovariate(1 / soak.life_s)
            while time.monotonic() < leaves_at_s and not soak.stopping.is_set():
                await soak.pause(min(soak.random.expovariate(1 / soak.interval_s), PING_INTERVAL_S))
                self._publish()
            if not soak.stopping.is_set():
                self.leave()
                await soak.pause(soak.random.uniform(*AWAY_S))
        if self.client is None or self.client.ended_by_server is not None:
            await self.open()  # for what is still on its way to it, and from it

    def _publish(self) -> None:
        client, soak = self.client, self.soak
        if client is None or client.ended_by_server is not None:
            return
        if not self.session.has_room:
            soak.ledger.counts["postponed"] += 1
            return
        if soak.random.random() < STATE_SHARE:
            state = soak.ledger.next_state(self.state_topic)

            def acknowledged() -> None:
                soak.ledger.state_acknowledged(self.state_topic, state)

            client.publish(self.state_topic, str(state).encode(), 1, retain=True, on_done=acknowledged)
            return
        (qos,) = soak.random.choices((0, 1, 2), QOS_WEIGHTS)
        number = soak.ledger.next_number(self.name, qos)
        client.publish(f"group/{self.group}/{self.name}/{qos}", str(number).encode() + PAYLOAD_FILL, qos)


class Visitor(Member):
    """Comes with a clean session, reads retained states, and goes."""

    is_persistent = False

    def __init__(self, soak: Soak, number: int, topics: list[str], level: ProtocolLevel) -> None:
        super().__init__(soak, f"visitor-{number}", level)
        self._topics = topics
        self._reading: tuple[str, asyncio.Future[int]] | None = None

    def received(self, packet: Publish) -> None:
        if self._reading is not None:
            topic, first = self._reading
            if packet.topic == topic and not first.done():
                first.set_result(int(packet.payload))

    async def live(self) -> None:
        soak = self.soak
        while not soak.stopping.is_set():
            await self.open()
            leaves_at_s = time.monotonic() + soak.random.expovariate(1 / soak.life_s)
            while time.monotonic() < leaves_at_s and not soak.stopping.is_set():
                await soak.pause(min(soak.random.expovariate(1 / soak.interval_s), PING_INTERVAL_S))
                try:
                    await self._read(soak.random.choice(self._topics))
                except ConnectionFailed:
                    break
            self.leave()
            await soak.pause(soak.random.uniform(*AWAY_S))

    async def _read(self, topic: str) -> None:
        client, ledger = self.client, self.soak.ledger
        assert client is not None
        oldest_allowed = ledger.oldest_allowed_state(topic)
        if not oldest_allowed:
            return
        self._reading = (topic, asyncio.get_running_loop().create_future())
        await client.subscribe(topic, self.soak.random.choice((0, 1)))
        try:
            ledger.state_read(await asyncio.wait_for(self._reading[1], RETAINED_TIMEOUT_S), oldest_allowed)
        except TimeoutError:
            ledger.faults["retained messages that did not come"] += 1
        await client.unsubscribe(topic)


class Watcher(Member):
    """Collects wills, from the first to the last minute."""

    def received(self, packet: Publish) -> None:
        self.soak.ledger.will_seen(packet.topic.split("/")[1], int(packet.payload))

    async def enrol(self) -> None:
        """Before anybody can be missed."""
        await self.open()
        assert self.client is not None
        await self.client.subscribe("will/#", 1)

    async def live(self) -> None:
        assert self.client is not None
        while self.client.ended_by_server is None:
            await asyncio.sleep(PING_INTERVAL_S)
            self.client.ping()
        self.soak.ledger.faults["connections ended by the server"] += 1
