"""Many clients on one table of sessions, in whatever order Hypothesis thinks of (see `world`).

A few seconds here; HEADWATER_FUZZ_EXAMPLES=5000 makes it a long run. `make fuzz` does the same led by coverage.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from headwater.mqtt.encode import render_packet
from headwater.mqtt.packets import (
    Acknowledgement,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    PropertyId,
    ProtocolLevel,
    Publish,
    Subscribe,
    Subscription,
    Unsubscribe,
    Will,
)
from headwater.settings import MqttSettings

from .world import ACCOUNTS, SteppedTransport, World

SMALL = MqttSettings(
    max_in_flight=3,
    max_queued_messages=4,
    max_queued_bytes=2_000,
    max_subscriptions=4,
    max_filters_per_subscribe=3,
    max_sessions_per_account=5,
    max_retained_messages=6,
    max_retained_messages_per_account=4,
    receive_maximum=4,
    max_unreleased=5,
    topic_alias_maximum=2,
    max_session_expiry_s=1_000,
    max_takeovers_per_minute=10,
    sys_interval_s=0,
)
"""Limits that are met at once."""

topics = st.sampled_from(["a", "a/b", "b", "a/b/c", "$x", "/"])
filters = st.sampled_from(["a", "a/b", "#", "+", "a/#", "+/+", "$share/g/a", "$share/g/#", "$share/h/+/b", "$SYS/#"])
ids = st.integers(1, 6)
qos_levels = st.integers(0, 2)
wills = st.none() | st.builds(Will, topics, st.just(b"gone"), qos_levels, st.booleans())
P = PropertyId


@st.composite
def connects(draw: st.DrawFn) -> Connect:
    level = draw(st.sampled_from(ProtocolLevel))
    name = draw(st.sampled_from(sorted(ACCOUNTS.values())))
    will = draw(wills)
    properties: dict[PropertyId, Any] = {}
    if level == 5:
        chosen = {
            P.SESSION_EXPIRY_INTERVAL: draw(st.sampled_from([0, 10, 100, 0xFFFFFFFF])),
            P.RECEIVE_MAXIMUM: draw(st.sampled_from([1, 2, 65_535])),
            P.MAXIMUM_PACKET_SIZE: draw(st.sampled_from([4, 12, 40, 1_000])),
            P.TOPIC_ALIAS_MAXIMUM: draw(st.integers(0, 2)),
        }
        properties = {identifier: value for identifier, value in chosen.items() if draw(st.booleans())}
        if will is not None and draw(st.booleans()):
            delay = {P.WILL_DELAY_INTERVAL: draw(st.sampled_from([1, 50]))}
            will = Will(will.topic, will.payload, will.qos, will.retain, delay)
    client_id = draw(st.sampled_from(["one", "two", "three"]))
    return Connect(client_id, draw(st.booleans()), 0, name, name.encode(), will, level, properties)


class Sessions(RuleBasedStateMachine):
    clients = Bundle("clients")

    def __init__(self) -> None:
        super().__init__()
        self.world = World(SMALL)

    def say(self, client: SteppedTransport, *packets: Packet) -> None:
        if not client.is_lost:
            level = client.connection.protocol.level
            self.world.feed(client, b"".join(render_packet(packet, level) for packet in packets))

    @rule(target=clients, connect=connects())
    def connect(self, connect: Connect) -> SteppedTransport:
        client = self.world.connect()
        self.world.feed(client, render_packet(connect, connect.level))
        return client

    @rule(client=clients, topic_filter=filters, qos=qos_levels, packet_id=ids, handling=st.integers(0, 2))
    def subscribe(self, client: SteppedTransport, topic_filter: str, qos: int, packet_id: int, handling: int) -> None:
        is_5 = client.connection.protocol.level == 5
        subscription = Subscription(topic_filter, qos, retain_handling=handling if is_5 else 0)
        self.say(client, Subscribe(packet_id, (subscription,)))

    @rule(client=clients, topic_filter=filters, packet_id=ids)
    def unsubscribe(self, client: SteppedTransport, topic_filter: str, packet_id: int) -> None:
        self.say(client, Unsubscribe(packet_id, (topic_filter,)))

    @rule(
        client=clients,
        topic=topics,
        payload=st.sampled_from([b"", b"x", b"y" * 100]),
        qos=qos_levels,
        packet_id=ids,
        retain=st.booleans(),
        expiry_s=st.none() | st.integers(0, 20),
        times=st.integers(1, 3),
    )
    def publish(
        self,
        client: SteppedTransport,
        topic: str,
        payload: bytes,
        qos: int,
        packet_id: int,
        retain: bool,
        expiry_s: int | None,
        times: int,
    ) -> None:
        is_5 = client.connection.protocol.level == 5
        properties = {P.MESSAGE_EXPIRY_INTERVAL: expiry_s} if is_5 and expiry_s is not None else {}
        packet = Publish(topic, payload, qos, packet_id if qos else None, retain, properties=properties)
        self.say(client, *[packet] * times)

    @rule(client=clients)
    def release(self, client: SteppedTransport) -> None:
        session = client.connection.protocol.session
        for packet_id in sorted((session.unreleased if session is not None else None) or ()):
            self.say(client, Acknowledgement(PacketType.PUBREL, packet_id))

    @rule(client=clients, most=st.integers(1, 4))
    def acknowledge(self, client: SteppedTransport, most: int) -> None:
        owed = client.watcher.to_acknowledge
        taken, owed[:] = owed[:most], owed[most:]
        self.say(client, *taken)

    @rule(client=clients, kind=st.sampled_from([4, 5, 6, 7]), packet_id=ids)
    def acknowledge_anything(self, client: SteppedTransport, kind: int, packet_id: int) -> None:
        self.say(client, Acknowledgement(PacketType(kind), packet_id))

    @rule(client=consumes(clients), expiry_s=st.none() | st.sampled_from([0, 30]), reason_code=st.sampled_from([0, 4]))
    def disconnect(self, client: SteppedTransport, expiry_s: int | None, reason_code: int) -> None:
        if client.connection.protocol.level == 5:
            properties = {} if expiry_s is None else {P.SESSION_EXPIRY_INTERVAL: expiry_s}
            self.say(client, Disconnect(reason_code, properties))
        else:
            self.say(client, Disconnect())

    @rule(client=consumes(clients))
    def lose(self, client: SteppedTransport) -> None:
        self.world.lose(client)

    @rule(client=clients)
    def stop_reading(self, client: SteppedTransport) -> None:
        self.world.stop_reading(client)

    @rule(client=clients)
    def read_again(self, client: SteppedTransport) -> None:
        self.world.read_again(client)

    @rule(client=clients, data=st.binary(max_size=20))
    def say_anything(self, client: SteppedTransport, data: bytes) -> None:
        self.world.feed(client, data)

    @rule()
    def commit(self) -> None:
        self.world.commit()

    @rule()
    def disk_refuses(self) -> None:
        self.world.commit(fails=True)

    @rule(seconds=st.sampled_from([0.1, 5.0, 60.0, 2_000.0]))
    def advance(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule(target=clients)
    def crash(self) -> Any:
        self.world.crash()
        return multiple()

    @invariant()
    def books_are_right(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        self.world.check_end()


TestSessions = Sessions.TestCase
TestSessions.settings = settings(
    max_examples=int(os.environ.get("HEADWATER_FUZZ_EXAMPLES", "60")),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
