"""What the public interoperability suite for MQTT 5.0 (eclipse/paho.mqtt.testing, `client_test5.py`) judges, in tests
of our own: the same 27 behaviours, by the same names.

That suite needs a server with anonymous clients (`mqtt.allow_anonymous`), a longest keep alive of 60 seconds
(`mqtt.max_keep_alive_s`), topic aliases both ways, and a topic to which nobody may subscribe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from headwater.mqtt.packets import Acknowledgement, PacketType, PropertyId, ProtocolLevel, Publish, Subscription, Will
from headwater.mqtt.reason_codes import ReasonCode
from server import Server, running_server

from .client import Client, payloads
from .conftest import Broker
from .exchanges import answer_to, explain_end, let_time_pass, sign_in
from .packets import LASTING, puback, raw_connect, text

ALIAS = PropertyId.TOPIC_ALIAS
EXPIRY = PropertyId.SESSION_EXPIRY_INTERVAL
SUBSCRIPTION_ID = PropertyId.SUBSCRIPTION_IDENTIFIER
USER = PropertyId.USER_PROPERTY
PAIRS = {USER: (("a", "2"), ("c", "3"))}
KEEP_ALIVE_S = 60


@pytest.fixture
def broker(make_broker: Callable[[int], Broker]) -> Broker:
    return make_broker(5)


@pytest.fixture
def short_keep_alive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("short") / "data"
    settings = {
        "HEADWATER_MQTT_ALLOW_ANONYMOUS": "true",
        "HEADWATER_MQTT_MAX_KEEP_ALIVE_S": str(KEEP_ALIVE_S),
        "HEADWATER_STORE_ENGINE": "memory",
    }
    with running_server(data, **settings) as running:
        yield running


def _subscriber(broker: Broker, rest: str = "t", **options: object) -> Client:
    client = broker.connect()
    options = {"qos": 2} | options
    client.subscribe(Subscription(broker.topic(rest), **options))  # type: ignore[arg-type]
    return client


def _three(broker: Broker, client: Client, *, retain: bool = False) -> None:
    """One message of each QoS to a topic of its own."""
    for qos, rest in enumerate(("a/b", "c/c", "a/c")):
        client.publish(broker.topic(rest), b"qos %d" % qos, qos, retain=retain, properties=PAIRS)


def test_basic(broker: Broker) -> None:
    client = broker.connect()
    client.disconnect()
    client = _subscriber(broker)
    for qos in (0, 1, 2):
        client.publish(broker.topic(), b"%d" % qos, qos)
    assert [client.take().payload for _ in range(3)] == [b"0", b"1", b"2"]
    client.send(broker.connect_packet())
    explain_end(client, ReasonCode.PROTOCOL_ERROR)
    stranger = broker.open()
    stranger.send(raw_connect(text("x"), name="hj"))
    assert stranger.expect_closed() == []


def test_retained_message(broker: Broker) -> None:
    client = broker.connect()
    _three(broker, client, retain=True)
    client.subscribe(broker.topic("+/+"), qos=2)
    messages = client.remaining()
    assert sorted(message.qos for message in messages) == [0, 1, 2]
    assert all(message.properties == PAIRS and message.retain for message in messages)


def test_will_message(broker: Broker) -> None:
    subscriber = _subscriber(broker)
    will = Will(broker.topic(), b"will message", 0, False, PAIRS | {PropertyId.WILL_DELAY_INTERVAL: 0})
    broker.connect(will=will, keep_alive_s=1)
    message = subscriber.take()
    assert (message.payload, message.properties) == (b"will message", PAIRS)


@pytest.mark.parametrize("clean_start", [True, False])
def test_zero_length_clientid(broker: Broker, clean_start: bool) -> None:
    client, connack = sign_in(broker, "", clean_session=clean_start)
    assert connack.properties[PropertyId.ASSIGNED_CLIENT_IDENTIFIER]
    client.disconnect()


def test_offline_message_queueing(broker: Broker) -> None:
    client_id = broker.client_id()
    client = broker.connect(client_id, properties=LASTING)
    client.subscribe(broker.topic("+/+"), qos=2)
    client.disconnect()
    _three(broker, broker.connect())
    assert payloads(broker.resume(client_id).remaining()) == [b"qos 1", b"qos 2"]


def test_overlapping_subscriptions(broker: Broker) -> None:
    client = broker.connect()
    client.subscribe(Subscription(broker.topic("a/#"), 2), Subscription(broker.topic("a/+"), 1))
    client.publish(broker.topic("a/c"), b"overlapping", 2)
    assert [message.qos for message in client.remaining()] == [2]


def test_keepalive(broker: Broker) -> None:
    subscriber = _subscriber(broker)
    client = broker.connect(keep_alive_s=1, will=Will(broker.topic(), b"keep alive ran out", 1, False))
    explain_end(client, ReasonCode.KEEP_ALIVE_TIMEOUT)
    assert payloads(subscriber.remaining()) == [b"keep alive ran out"]


def test_redelivery_on_reconnect(broker: Broker) -> None:
    client_id = broker.client_id()
    client = broker.connect(client_id, properties=LASTING)
    client.subscribe(broker.topic("#"), qos=2)
    publisher = broker.connect()
    publisher.publish(broker.topic("a"), b"", 1)
    publisher.publish(broker.topic("b"), b"", 2)
    client.drop()
    client = broker.resume(client_id, properties=LASTING)
    assert [client.take().qos, client.take().qos] == [1, 2]
    assert client.remaining() == []


def test_subscribe_failure(broker: Broker) -> None:
    client = broker.connect()
    assert client.subscribe("$test/nosubscribe", qos=2) == (ReasonCode.UNSPECIFIED_ERROR,)


def test_dollar_topics(broker: Broker) -> None:
    client = broker.connect()
    client.subscribe("+/dollar", qos=2)
    assert answer_to(client, "$x/dollar", 1).reason_code == ReasonCode.NOT_AUTHORIZED
    assert [message for message in client.remaining() if message.topic.startswith("$")] == []


def test_unsubscribe(broker: Broker) -> None:
    client, publisher = broker.connect(), broker.connect()
    for rest in "abc":
        client.subscribe(broker.topic(rest), qos=2)
    client.unsubscribe(broker.topic("a"))
    for rest in "abc":
        publisher.publish(broker.topic(rest), rest.encode(), 1)
    assert payloads(client.remaining()) == [b"b", b"c"]


def test_session_expiry(broker: Broker) -> None:
    client_id = broker.client_id()

    def resume(asked_s: int) -> tuple[Client, bool]:
        client, connack = sign_in(broker, client_id, clean_session=False, properties={EXPIRY: asked_s})
        return client, connack.session_present

    def leave(client: Client, expiry_s: int | None = None) -> None:
        client.send(b"\xe0\x00" if expiry_s is None else b"\xe0\x07\x00\x05\x11" + expiry_s.to_bytes(4, "big"))
        client.expect_closed()

    client, _ = resume(0)
    leave(client)
    client, is_present = resume(60)
    assert not is_present
    leave(client)
    client, is_present = resume(1)
    assert is_present
    leave(client)
    let_time_pass(broker)
    client, is_present = resume(1)
    assert not is_present
    leave(client, 60)
    let_time_pass(broker)
    client, is_present = resume(60)
    assert is_present
    leave(client, 0)
    assert not resume(0)[1]


def test_user_properties(broker: Broker) -> None:
    client = _subscriber(broker)
    for qos in (0, 1, 2):
        client.publish(broker.topic(), b"", qos, properties=PAIRS)
        message = client.take()
        assert (message.qos, message.properties) == (qos, PAIRS)


def test_payload_format(broker: Broker) -> None:
    client = _subscriber(broker)
    properties = {PropertyId.PAYLOAD_FORMAT_INDICATOR: 1, PropertyId.CONTENT_TYPE: "My name"}
    for qos in (0, 1, 2):
        client.publish(broker.topic(), b"", qos, properties=properties)
        message = client.take()
        assert (message.qos, message.properties) == (qos, properties)


def test_publication_expiry(broker: Broker) -> None:
    client_id = broker.client_id()
    client = broker.connect(client_id, properties=LASTING)
    client.subscribe(broker.topic(), qos=2)
    client.disconnect()
    publisher = broker.connect()
    for interval_s in (1, 60):
        for qos in (1, 2):
            properties = {PropertyId.MESSAGE_EXPIRY_INTERVAL: interval_s}
            publisher.publish(broker.topic(), b"%d" % interval_s, qos, properties=properties)
    let_time_pass(broker)
    messages = broker.resume(client_id).remaining()
    assert payloads(messages) == [b"60", b"60"]
    assert all(message.properties[PropertyId.MESSAGE_EXPIRY_INTERVAL] < 60 for message in messages)


def test_subscribe_options_no_local(broker: Broker) -> None:
    one, other = _subscriber(broker, no_local=True), _subscriber(broker, no_local=True)
    one.publish(broker.topic(), b"m", 1)
    assert one.remaining() == []
    assert payloads(other.remaining()) == [b"m"]


def test_subscribe_options_retain_as_published(broker: Broker) -> None:
    client = _subscriber(broker, retain_as_published=True)
    client.publish(broker.topic(), b"no", 1)
    client.publish(broker.topic(), b"yes", 1, retain=True)
    assert [message.retain for message in client.remaining()] == [False, True]


@pytest.mark.parametrize(("handling", "expected"), [(0, [3, 3]), (1, [3, 0]), (2, [0, 0])])
def test_subscribe_options_retain_handling(broker: Broker, handling: int, expected: list[int]) -> None:
    client = broker.connect()
    _three(broker, client, retain=True)
    for count in expected:
        client.subscribe(Subscription(broker.topic("+/+"), 2, retain_handling=handling))
        messages = client.remaining()
        assert sorted(message.qos for message in messages) == [*range(count)]
        for message in messages:
            client.complete(message)


def test_assigned_clientid(broker: Broker) -> None:
    assert sign_in(broker, "")[1].properties[PropertyId.ASSIGNED_CLIENT_IDENTIFIER]


def test_subscribe_identifiers(broker: Broker) -> None:
    one, two = broker.connect(), broker.connect()
    one.subscribe(broker.topic(), qos=2, properties={SUBSCRIPTION_ID: (456_789,)})
    two.subscribe(broker.topic(), qos=2, properties={SUBSCRIPTION_ID: (2,)})
    two.subscribe(broker.topic("t/#"), qos=2, properties={SUBSCRIPTION_ID: (3,)})
    two.publish(broker.topic(), b"m", 1)
    [message] = one.remaining()
    assert message.properties[SUBSCRIPTION_ID] == (456_789,)
    [message] = two.remaining()
    assert set(message.properties[SUBSCRIPTION_ID]) == {2, 3}


def test_request_response(broker: Broker) -> None:
    requester, responder = _subscriber(broker, no_local=True), _subscriber(broker, no_local=True)
    properties = {PropertyId.RESPONSE_TOPIC: broker.topic(), PropertyId.CORRELATION_DATA: b"334"}
    requester.publish(broker.topic(), b"request", 1, properties=properties)
    request = responder.take()
    assert (request.payload, request.properties) == (b"request", properties)
    responder.publish(request.properties[PropertyId.RESPONSE_TOPIC], b"response", 1, properties=request.properties)
    response = requester.take()
    assert (response.payload, response.properties[PropertyId.CORRELATION_DATA]) == (b"response", b"334")


def test_client_topic_alias(broker: Broker) -> None:
    client = broker.connect()
    client.send(Publish(broker.topic(), b"m", 1, 1, properties={ALIAS: 0}))
    explain_end(client, ReasonCode.TOPIC_ALIAS_INVALID)
    client_id = broker.client_id()
    client = broker.connect(client_id, properties=LASTING)
    client.subscribe(broker.topic(), qos=2)
    client.publish(broker.topic(), b"1", 1, properties={ALIAS: 1})
    client.publish("", b"2", 1, properties={ALIAS: 1})
    assert [client.take().payload, client.take().payload] == [b"1", b"2"]
    client.disconnect()
    client = broker.resume(client_id)
    client.publish(broker.topic(), b"3", 1)
    assert client.take().payload == b"3"
    client.send(Publish("", b"4", 1, 9, properties={ALIAS: 1}))
    explain_end(client, ReasonCode.PROTOCOL_ERROR)


def test_server_topic_alias(broker: Broker) -> None:
    for most, aliases in ((1, [1, 1, 1]), (0, [None] * 3), (None, [None] * 3)):
        client = broker.connect(properties={} if most is None else {PropertyId.TOPIC_ALIAS_MAXIMUM: most})
        client.subscribe(broker.topic(), qos=2)
        for qos in (0, 1, 2):
            client.publish(broker.topic(), b"m", qos)
        messages = [client.take() for _ in range(3)]
        assert [message.properties.get(ALIAS) for message in messages] == aliases
        again = "" if most else broker.topic()
        assert [message.topic for message in messages] == [broker.topic(), again, again]


def test_maximum_packet_size_of_the_server(broker: Broker) -> None:
    client, connack = sign_in(broker)
    client.send(Publish(broker.topic(), b"." * connack.properties[PropertyId.MAXIMUM_PACKET_SIZE]))
    explain_end(client, ReasonCode.PACKET_TOO_LARGE)


def test_maximum_packet_size_of_the_client(broker: Broker) -> None:
    client = broker.connect(properties={PropertyId.MAXIMUM_PACKET_SIZE: 128})
    client.subscribe(broker.topic(), qos=2)
    client.publish(broker.topic(), b"." * 32)
    client.publish(broker.topic(), b"." * 128, 1)
    assert payloads(client.remaining()) == [b"." * 32]


def test_server_keep_alive(short_keep_alive: Server) -> None:
    client = Client(short_keep_alive.mqtt_port, 5)
    broker = Broker(short_keep_alive, "keep-alive", ProtocolLevel.V5)
    try:
        connack = client.sign_in(broker.connect_packet(keep_alive_s=120))
        assert connack.properties[PropertyId.SERVER_KEEP_ALIVE] == KEEP_ALIVE_S
    finally:
        client.close()


def test_flow_control1(broker: Broker) -> None:
    client = broker.connect(properties={PropertyId.RECEIVE_MAXIMUM: 2})
    client.subscribe(broker.topic(), qos=2)
    for number in range(3):
        client.publish(broker.topic(), b"%d" % number, 1)
    first, second = client.remaining()
    assert payloads([first, second]) == [b"0", b"1"]
    client.send(puback(first.packet_id))
    assert payloads(client.remaining()) == [b"2"]


def test_flow_control2(broker: Broker) -> None:
    client, connack = sign_in(broker)
    most = connack.properties[PropertyId.RECEIVE_MAXIMUM]
    client.send(*(Publish(broker.topic(), b"m", 2, number) for number in range(1, most + 2)))
    *answers, _ = client.expect_closed()
    assert answers == [Acknowledgement(PacketType.PUBREC, number) for number in range(1, most + 1)]


@pytest.mark.parametrize(("delay_s", "expiry_s"), [(1, 5), (5, 0), (5, 1)])
def test_will_delay(broker: Broker, delay_s: int, expiry_s: int) -> None:
    """After the delay or with the end of the session, whichever is first: judged by wills that come before and after
    it."""
    subscriber = _subscriber(broker)
    will = Will(broker.topic(), b"will", 1, False, {PropertyId.WILL_DELAY_INTERVAL: delay_s})
    latest = Will(broker.topic(), b"later", 1, False, {PropertyId.WILL_DELAY_INTERVAL: 2})
    broker.connect(will=will, properties={EXPIRY: expiry_s}).drop()
    broker.connect(will=latest, properties=LASTING).drop()
    assert [subscriber.take().payload, subscriber.take().payload] == [b"will", b"later"]


def test_shared_subscriptions(broker: Broker) -> None:
    shared = f"$share/name/{broker.topic('x')}"
    clients = [broker.connect() for _ in range(2)]
    for client in clients:
        client.subscribe(shared, broker.topic(), qos=2)
    publisher = broker.connect()
    publisher.publish(broker.topic(), b"for both")
    publisher.publish(broker.topic("x"), b"for one")
    received = sorted(payloads(message for client in clients for message in client.remaining()))
    assert received == [b"for both", b"for both", b"for one"]
