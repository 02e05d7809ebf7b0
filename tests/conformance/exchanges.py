"""What tests do with clients in more than one step: sign in, watch, wait, and hear why a connection ends."""

from __future__ import annotations

from headwater.mqtt.packets import (
    NO_PROPERTIES,
    Acknowledgement,
    Connack,
    Disconnect,
    Properties,
    PropertyId,
    Publish,
    Subscription,
    Will,
)
from headwater.mqtt.reason_codes import ReasonCode

from .client import Client
from .conftest import Broker
from .packets import LASTING


def explain_end(client: Client, *codes: ReasonCode) -> Disconnect:
    """The server must close, and say why last, with (one of) these codes."""
    packets = client.expect_closed()
    assert packets, "closed without a DISCONNECT"
    last = packets[-1]
    assert isinstance(last, Disconnect), last
    assert last.reason_code in codes, last
    return last


def refuse(client: Client, code: ReasonCode) -> Connack:
    """The server must refuse the CONNECT that was sent, with this code, and close."""
    connack, *rest = client.expect_closed()
    assert isinstance(connack, Connack)
    assert connack.reason_code == code, connack
    assert rest == []
    return connack


def sign_in(broker: Broker, client_id: str | None = None, **options: object) -> tuple[Client, Connack]:
    """A new client and the CONNACK that it got; the options are fields of Connect."""
    client = broker.open()
    return client, client.sign_in(broker.connect_packet(client_id, **options))


def answer_to(
    client: Client,
    topic: str,
    qos: int,
    payload: bytes = b"m",
    *,
    packet_id: int | None = None,
    dup: bool = False,
    retain: bool = False,
    properties: Properties = NO_PROPERTIES,
) -> Acknowledgement:
    """Publish with QoS 1 or 2; the first acknowledgement."""
    client.send(
        Publish(topic, payload, qos, packet_id or client.next_id(), retain=retain, dup=dup, properties=properties)
    )
    answer = client.answer()
    assert isinstance(answer, Acknowledgement)
    return answer


def will_of(broker: Broker, payload: bytes = b"will", **options: object) -> Will:
    """A will to the topic `will` of the test."""
    fields: dict[str, object] = {"qos": 1, "retain": False} | options
    return Will(broker.topic("will"), payload, **fields)  # type: ignore[arg-type]


def watch(broker: Broker, rest: str = "#", qos: int = 2, **options: object) -> Client:
    """A client of its own that has subscribed to something of the test."""
    client = broker.connect()
    options = {"qos": qos} | options
    code = client.subscribe(Subscription(broker.topic(rest), **options))  # type: ignore[arg-type]
    assert code == (options["qos"],)
    return client


def let_time_pass(broker: Broker) -> None:
    """Wait until a second has gone by on the server's own clock: what a will with this delay shows when it comes."""
    topic = f"clock/{broker.name}"
    watcher = broker.connect()
    watcher.subscribe(topic)
    will = Will(topic, b"", 0, False, {PropertyId.WILL_DELAY_INTERVAL: 1})
    broker.connect(will=will, properties=LASTING).drop()
    assert watcher.message().topic == topic
    watcher.disconnect()
