"""Every feature of MQTT, used through the libraries that people use: paho-mqtt and MQTT.js, in each version of MQTT
and over each transport. What only some of them can express is in the modules named after them."""

from __future__ import annotations

import queue
from collections.abc import Callable

import paho.mqtt.client as paho
import pytest

from mqtt_client import TIMEOUT_S, LastWill, MqttClient, Received, Route, payloads
from server import Credentials, Server, wait_until

Connect = Callable[..., MqttClient]

ROUTES = [
    *(Route(level, transport) for level in (4, 5) for transport in ("tcp", "tls", "ws", "wss")),
    Route(3, "tcp"),
    Route(3, "ws"),
]
LEVELS = [Route(3), Route(4), Route(5)]
V5 = Route(5)


@pytest.fixture(params=ROUTES, ids=str)
def route(request: pytest.FixtureRequest) -> Route:
    """Each version of MQTT over each transport."""
    one: Route = request.param
    return one


@pytest.fixture(params=LEVELS, ids=str)
def level(request: pytest.FixtureRequest) -> Route:
    """Each version of MQTT."""
    one: Route = request.param
    return one


def end_of(client: MqttClient, publisher: MqttClient, topic: str) -> list[Received]:
    """What the client, subscribed to this topic, got before a last message to it."""
    publisher.publish(topic, "the end", 1)
    return client.receive_until("the end")


# -- messages -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_arrive_in_order(connect: Connect, library: str, route: Route, prefix: str, qos: int) -> None:
    client = connect(library, route=route)
    assert client.subscribe(f"{prefix}/a", qos) == qos
    sent = [f"message {n} ä" for n in range(50)]
    answers = client.publish_all(f"{prefix}/a", sent, qos)
    assert {answer.code for answer in answers} == {0}
    received = client.receive(50)
    assert payloads(received) == sent
    assert {(message.topic, message.qos, message.retain) for message in received} == {(f"{prefix}/a", qos, False)}
    client.disconnect()


def test_the_lower_quality_of_service_counts(connect: Connect, library: str, level: Route, prefix: str) -> None:
    client = connect(library, route=level)
    client.subscribe(f"{prefix}/0", 0)
    client.subscribe(f"{prefix}/1", 1)
    client.subscribe(f"{prefix}/2", 2)
    for granted in (0, 1, 2):
        for published in (0, 1, 2):
            client.publish(f"{prefix}/{granted}", "x", published)
            assert client.receive()[0].qos == min(granted, published)


def test_large_and_empty_payloads(connect: Connect, library: str, route: Route, prefix: str) -> None:
    client = connect(library, route=route)
    client.subscribe(prefix, 1)
    client.publish_all(prefix, ["x" * 200_000, "", "y" * 127, "z" * 16_384], 1)
    assert [len(message.payload) for message in client.receive(4)] == [200_000, 0, 127, 16_384]


def test_filters(connect: Connect, library: str, level: Route, prefix: str) -> None:
    client = connect(library, route=level)
    filters = {
        f"{prefix}/+/c": {"a//c": False, "a/b/c": False, "b/c": True, "/c": True, "c": False, "b/C": False},
        f"{prefix}/#": {"": True, "a": True, "a/b/c": True},
        f"{prefix}/a/+": {"a": False, "a/": True, "a/b": True, "a/b/c": False},
    }
    for topic_filter, cases in filters.items():
        assert client.subscribe(topic_filter, 1) == 1
        assert client.subscribe(f"end/{prefix}", 1) == 1
        for ending in cases:
            client.publish(f"{prefix}/{ending}" if ending else prefix, "x", 1)
        heard = {message.topic for message in end_of(client, client, f"end/{prefix}")}
        expected = {f"{prefix}/{ending}" if ending else prefix for ending, matches in cases.items() if matches}
        assert heard == expected, topic_filter
        client.unsubscribe(topic_filter)


def test_wildcards_do_not_match_topics_that_begin_with_a_dollar_sign(
    connect: Connect, library: str, level: Route, prefix: str
) -> None:
    client = connect(library, route=level)
    assert client.subscribe("$SYS/broker/version") == 0
    assert client.receive()[0].topic == "$SYS/broker/version"
    client.unsubscribe("$SYS/broker/version")
    for topic_filter in ("#", "+/broker/version", "+/#"):
        client.subscribe(topic_filter, 1)
        heard = end_of(client, client, f"{prefix}/broker/version")
        assert [message for message in heard if message.topic.startswith("$")] == []
        client.unsubscribe(topic_filter)


def test_overlapping_filters_give_the_highest_quality_of_service(
    connect: Connect, library: str, level: Route, prefix: str
) -> None:
    client = connect(library, route=level)
    client.subscribe(f"{prefix}/#", 0)
    client.subscribe(f"{prefix}/+", 2)
    client.subscribe(f"{prefix}/a", 1)
    client.publish(f"{prefix}/a", "x", 2)
    assert max(message.qos for message in end_of(client, client, f"{prefix}/a")) == 2


def test_unsubscribe(connect: Connect, library: str, level: Route, prefix: str) -> None:
    client = connect(library, route=level)
    client.subscribe(f"{prefix}/a", 1)
    client.subscribe(f"{prefix}/end", 1)
    assert client.unsubscribe(f"{prefix}/a") == 0
    assert client.unsubscribe(f"{prefix}/a") == (0x11 if level.level == 5 else 0)
    client.publish(f"{prefix}/a", "x", 1)
    assert end_of(client, client, f"{prefix}/end") == []


# -- retained messages ----------------------------------------------------------------------------------------------


def test_retained_messages_are_set_replaced_and_deleted(
    connect: Connect, library: str, level: Route, prefix: str
) -> None:
    publisher = connect(library, route=level)

    def retained() -> list[tuple[str, str, bool]]:
        newcomer = connect(library, route=level)
        newcomer.subscribe(f"{prefix}/#", 1)
        got = end_of(newcomer, publisher, f"{prefix}/end")
        newcomer.disconnect()
        return [(message.topic, message.payload.decode(), message.retain) for message in got]

    publisher.publish(f"{prefix}/a", "1", 1, retain=True)
    assert retained() == [(f"{prefix}/a", "1", True)]
    publisher.publish(f"{prefix}/a", "2", 0, retain=True)
    publisher.publish(f"{prefix}/b", "3", 2, retain=True)
    assert sorted(retained()) == [(f"{prefix}/a", "2", True), (f"{prefix}/b", "3", True)]
    publisher.publish(f"{prefix}/a", "not retained", 1)
    publisher.publish(f"{prefix}/b", "", 1, retain=True)
    assert retained() == [(f"{prefix}/a", "2", True)]


def test_a_live_message_shows_retain_only_to_who_asked_for_it(connect: Connect, library: str, prefix: str) -> None:
    plain, keeping = connect(library, route=V5), connect(library, route=V5)
    plain.subscribe(prefix, 1)
    keeping.subscribe(prefix, 1, retain_as_published=True)
    plain.publish(prefix, "x", 1, retain=True)
    assert (plain.receive()[0].retain, keeping.receive()[0].retain) == (False, True)


def test_retain_handling(connect: Connect, library: str, prefix: str) -> None:
    client = connect(library, route=V5)
    client.subscribe("end/" + prefix, 1)
    client.publish(prefix, "x", 1, retain=True)

    def sent_for(handling: int) -> int:
        client.subscribe(prefix, 1, retain_handling=handling)
        return len(end_of(client, client, "end/" + prefix))

    assert [sent_for(1), sent_for(1), sent_for(0), sent_for(2)] == [1, 0, 1, 0]
    client.unsubscribe(prefix)
    assert [sent_for(2), sent_for(1)] == [0, 0]


# -- wills ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_will_goes_out_when_the_client_vanishes(
    connect: Connect, library: str, level: Route, prefix: str, qos: int
) -> None:
    listener = connect(library)
    listener.subscribe(f"{prefix}/#", 2)
    mortal = connect(library, route=level, will=LastWill(f"{prefix}/will", "Offline", qos))
    mortal.vanish()
    assert listener.receive()[0][:4] == (f"{prefix}/will", b"Offline", qos, False)


def test_no_will_after_a_goodbye(connect: Connect, library: str, level: Route, prefix: str) -> None:
    listener = connect(library)
    listener.subscribe(f"{prefix}/#", 1)
    polite = connect(library, route=level, will=LastWill(f"{prefix}/will", "Offline", 1))
    polite.disconnect()
    assert end_of(listener, listener, f"{prefix}/end") == []


def test_a_retained_will_is_there_for_who_comes_later(
    connect: Connect, library: str, level: Route, prefix: str
) -> None:
    listener = connect(library)
    listener.subscribe(prefix, 1)
    mortal = connect(library, route=level, will=LastWill(prefix, "Offline", 1, retain=True))
    mortal.publish(prefix, "Online", 1, retain=True)
    mortal.vanish()
    assert payloads(listener.receive(2)) == ["Online", "Offline"]
    newcomer = connect(library)
    newcomer.subscribe(prefix)
    assert newcomer.receive()[0][1:4:2] == (b"Offline", True)


def test_disconnect_with_will(connect: Connect, library: str, prefix: str) -> None:
    listener = connect(library)
    listener.subscribe(prefix, 1)
    connect(library, route=V5, will=LastWill(prefix, "Offline", 1)).disconnect(0x04)
    assert payloads(listener.receive()) == ["Offline"]


def test_a_delayed_will_is_not_sent_when_the_client_is_back_in_time(
    connect: Connect, library: str, prefix: str
) -> None:
    listener = connect(library)
    listener.subscribe(f"{prefix}/#", 1)
    will = LastWill(f"{prefix}/will", "Offline", 1, delay_s=1)
    properties = {"sessionExpiryInterval": 100}
    back = connect(library, route=V5, clean=False, will=will, properties=properties)
    gone = connect(library, route=V5, clean=False, will=will._replace(payload="Gone"), properties=properties)
    back.vanish()
    assert back.connect().session_present
    gone.vanish()  # its will is due later than the other's would have been
    assert payloads(listener.receive()) == ["Gone"]
    back.disconnect()


def test_a_delayed_will_goes_out_when_the_session_ends(connect: Connect, library: str, prefix: str) -> None:
    listener = connect(library)
    listener.subscribe(prefix, 1)
    will = LastWill(prefix, "Offline", 1, delay_s=100)
    mortal = connect(library, route=V5, clean=False, will=will, properties={"sessionExpiryInterval": 1})
    mortal.vanish()
    assert payloads(listener.receive()) == ["Offline"]
    assert not mortal.connect().session_present


# -- sessions -------------------------------------------------------------------------------------------------------


def persistent(level: Route) -> dict[str, object]:
    return {"route": level, "clean": False, "properties": {"sessionExpiryInterval": 100} if level.level == 5 else {}}


def test_messages_wait_for_a_client_that_is_away(connect: Connect, library: str, level: Route, prefix: str) -> None:
    publisher = connect(library)
    away = connect(library, **persistent(level))
    away.subscribe(f"{prefix}/1", 1)
    away.subscribe(f"{prefix}/2", 2)
    away.disconnect()
    publisher.publish_all(f"{prefix}/1", [str(n) for n in range(100)], 1)
    publisher.publish_all(f"{prefix}/2", [str(n) for n in range(100, 200)], 2)
    publisher.publish(f"{prefix}/1", "QoS 0 does not wait", 0)
    assert away.connect().session_present is (level.level > 3)  # MQTT 3.1 has no word for it
    assert payloads(away.receive(200)) == [str(n) for n in range(200)]
    assert end_of(away, publisher, f"{prefix}/1") == []
    away.disconnect()


def test_a_clean_start_ends_the_session(
    connect: Connect, make_client: Connect, library: str, level: Route, prefix: str
) -> None:
    first = connect(library, **persistent(level))
    first.subscribe(prefix, 1)
    first.disconnect()
    connect(library).publish(prefix, "nobody gets this", 1)
    options = persistent(level)
    again = make_client(library, who=first.options.who, **(options | {"clean": True}))
    assert not again.connect().session_present
    again.subscribe(f"{prefix}/end", 1)
    assert end_of(again, again, f"{prefix}/end") == []
    again.disconnect()


def test_a_session_without_expiry_ends_with_its_connection(connect: Connect, library: str, prefix: str) -> None:
    client = connect(library, route=V5, clean=False)
    client.subscribe(prefix, 1)
    client.disconnect()
    assert not client.connect().session_present
    client.disconnect()


def test_a_client_takes_its_session_over_from_an_older_connection(
    connect: Connect, make_client: Connect, library: str, level: Route, prefix: str
) -> None:
    older = connect(library, **persistent(level), will=LastWill(f"{prefix}/will", "taken over", 1))
    older.subscribe(prefix, 1)
    listener = connect(library)
    listener.subscribe(f"{prefix}/will", 1)
    newer = make_client(library, who=older.options.who, **persistent(level))
    assert newer.connect().session_present is (level.level > 3)
    assert older.wait_end() == (0x8E if level.level == 5 else 0)
    assert payloads(listener.receive()) == ["taken over"]
    listener.publish(prefix, "for the newer one", 1)
    assert payloads(newer.receive()) == ["for the newer one"]
    newer.disconnect()


def test_ids_of_one_client_are_no_way_into_anothers_session(
    server: Server, connect: Connect, make_client: Connect, library: str, prefix: str
) -> None:
    victim = connect(library, who=server.create_account_device(prefix), **persistent(Route(4)))
    victim.subscribe(f"{prefix}/a", 1)
    stranger = make_client(library, who=Credentials(prefix, "someone", ""), **persistent(Route(4)))
    assert not stranger.connect().session_present
    victim.publish(f"{prefix}/a", "still here", 1)
    assert payloads(victim.receive()) == ["still here"]


# -- who signs in ---------------------------------------------------------------------------------------------------


def test_an_account_device_shares_its_accounts_tree(
    server: Server, connect: Connect, library: str, level: Route, prefix: str
) -> None:
    device = connect(library, who=server.create_account_device(prefix), route=level)
    script = connect(library, route=level)
    assert script.subscribe(f"{prefix}/+", 1) == 1
    device.publish(f"{prefix}/state", "on", 1)
    assert payloads(script.receive()) == ["on"]
    assert device.subscribe(f"{prefix}/command", 1) == 1
    script.publish(f"{prefix}/command", "off", 1)
    assert payloads(device.receive()) == ["off"]


def test_anonymous_clients_share_a_tree_of_their_own(
    server: Server, open_server: Server, connect: Connect, library: str, level: Route, prefix: str
) -> None:
    nobody = Credentials(f"{prefix}-nobody", "", "")
    anonymous = connect(library, at=open_server, who=nobody, route=level)
    assert anonymous.subscribe(f"{prefix}/#", 2) == 2
    insider = connect(library, at=open_server)
    insider.publish(f"{prefix}/a", "of the account", 1)
    anonymous.publish_all(f"{prefix}/a", ["1", "2"], 2)
    assert payloads(anonymous.receive(2)) == ["1", "2"]
    assert anonymous.messages.empty()


@pytest.mark.parametrize("is_known", [True, False])
def test_a_wrong_password_is_refused(
    server: Server, make_client: Connect, library: str, level: Route, prefix: str, is_known: bool
) -> None:
    client_id = server.create_account_device(prefix).client_id if is_known else prefix
    client = make_client(library, who=Credentials(client_id, "admin", "wrong"), route=level)
    assert client.connect().code in ((0x87,) if level.level == 5 else (5, 0x87))  # paho says all in codes of MQTT 5


def test_a_server_that_is_not_open_gives_nobody_a_tree(connect: Connect, library: str, level: Route) -> None:
    nobody = connect(library, who=Credentials("nobody-in-particular", "", ""), route=level)
    assert nobody.subscribe("a/b") == (0x87 if level.level == 5 else 0x80)


# -- shared subscriptions -------------------------------------------------------------------------------------------


def test_members_of_a_group_share_the_messages(connect: Connect, library: str, level: Route, prefix: str) -> None:
    members = [connect(library, route=level) for _ in range(3)]
    everything = connect(library)
    everything.subscribe(f"{prefix}/a", 1)
    for member in members:
        assert member.subscribe(f"$share/g/{prefix}/+", 1) == 1
    everything.publish_all(f"{prefix}/a", [str(n) for n in range(60)], 1)
    assert len(everything.receive(60)) == 60
    wait_until(lambda: sum(member.messages.qsize() for member in members) >= 60, what="60 messages in the group")
    got = [payloads(member.receive(member.messages.qsize())) for member in members]
    assert sorted(int(text) for texts in got for text in texts) == list(range(60))
    assert all(got)
    members[0].disconnect()
    members[1].unsubscribe(f"$share/g/{prefix}/+")
    everything.publish_all(f"{prefix}/a", ["a", "b", "c"], 1)
    assert payloads(members[2].receive(3)) == ["a", "b", "c"]


# -- MQTT 5 ---------------------------------------------------------------------------------------------------------


def test_what_a_message_carries_is_passed_on(connect: Connect, library: str, prefix: str) -> None:
    client = connect(library, route=V5)
    client.subscribe(prefix, 1)
    properties = {
        "payloadFormatIndicator": 1,
        "contentType": "text/plain",
        "responseTopic": f"{prefix}/answer",
        "correlationData": b"number 7",
        "userProperties": [("b", "2"), ("a", "1"), ("a", "ä")],
    }
    client.publish(prefix, "x", 1, **properties)
    assert client.receive()[0].properties == properties


def test_request_and_response(connect: Connect, library: str, prefix: str) -> None:
    asking, answering = connect(library, route=V5), connect(library, route=V5)
    answering.subscribe(f"{prefix}/question", 1)
    asking.subscribe(f"{prefix}/answer", 1)
    asking.publish(f"{prefix}/question", "how many?", 1, responseTopic=f"{prefix}/answer", correlationData=b"42")
    question = answering.receive()[0].properties
    answering.publish(question["responseTopic"], "seven", 1, correlationData=question["correlationData"])
    answer = asking.receive()[0]
    assert (answer.payload, answer.properties["correlationData"]) == (b"seven", b"42")


def test_subscription_identifiers(connect: Connect, library: str, prefix: str) -> None:
    client = connect(library, route=V5)
    client.subscribe(f"{prefix}/#", 1, subscription_id=7)
    client.subscribe(f"{prefix}/+", 1, subscription_id=200_000)
    client.publish(f"{prefix}/a", "both", 1)
    client.publish(f"{prefix}/a/b", "one", 1)
    heard = [(message.payload, sorted(message.properties["subscriptionIdentifier"])) for message in client.receive(2)]
    assert heard == [(b"both", [7, 200_000]), (b"one", [7])]


def test_no_local(connect: Connect, library: str, prefix: str) -> None:
    client, other = connect(library, route=V5), connect(library, route=V5)
    client.subscribe(prefix, 1, no_local=True)
    client.publish(prefix, "own", 1)
    other.publish(prefix, "another's", 1)
    assert payloads(client.receive()) == ["another's"]


@pytest.mark.parametrize("qos", [1, 2])
def test_a_refused_publish_says_why(server: Server, connect: Connect, library: str, qos: int) -> None:
    channel = server.create_channel()
    device = connect(library, who=server.create_device(subscribe=[channel]), route=V5)
    to_channel = device.publish(f"channels/{channel.id}/publish", "field1=1", qos)
    elsewhere = device.publish("somewhere/else", "x", qos)
    if library == "paho" and qos == 2:  # it takes no notice of a refusing PUBREC, and releases what was never taken
        assert (to_channel.code, elsewhere.code) == (0x92, 0x92)
    else:
        why = f'no right to publish to channel {channel.id}: "Allow Publish" is not set for this device'
        assert to_channel == (0x87, why)
        assert elsewhere.code == 0x87
        assert "MQTT devices publish only below channels/" in elsewhere.reason
    assert server.feeds(channel) == []


def test_an_entry_that_cannot_be_read_is_refused_with_the_reason(
    server: Server, connect: Connect, library: str
) -> None:
    channel = server.create_channel()
    device = connect(library, who=server.create_device(publish=[channel]), route=V5)
    answer = device.publish(f"channels/{channel.id}/publish", "21.5", 1)
    assert answer.code == 0x99
    assert answer.reason.startswith("the payload has none of field1 to field8")


def test_a_refused_subscription_says_why(server: Server, connect: Connect, library: str, prefix: str) -> None:
    channel = server.create_channel()
    device = connect(library, who=server.create_device(publish=[channel]), route=V5)
    assert device.subscribe(f"channels/{channel.id}/subscribe") == 0x87
    assert device.subscribe(f"{prefix}/#") == 0x87
    assert device.subscribe("$SYS/#") == 0x87


def test_a_refused_subscription_says_why_in_words(server: Server) -> None:
    """With paho: the other library does not hand on what stands in SUBACK beside the codes."""
    channel, answers = server.create_channel(), queue.Queue[tuple[int, str]]()
    who = server.create_device(publish=[channel])
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, who.client_id, protocol=paho.MQTTv5)
    client.username_pw_set(who.username, who.password)
    client.on_subscribe = lambda _c, _d, _mid, codes, given: answers.put((codes[0].value, given.ReasonString))
    client.connect("localhost", server.mqtt_port)
    client.loop_start()
    try:
        for channel_id in (channel.id, 999_999):
            client.subscribe(f"channels/{channel_id}/subscribe")
            text = f'no right to subscribe to channel {channel_id}: "Allow Subscribe" is not set for this device'
            assert answers.get(timeout=TIMEOUT_S) == (0x87, text)
    finally:
        client.disconnect()
        client.loop_stop()


def test_expired_messages_are_not_delivered(connect: Connect, library: str, prefix: str) -> None:
    publisher = connect(library, route=V5)
    away = connect(library, **persistent(V5))
    away.subscribe(f"{prefix}/#", 1)
    away.disconnect()
    publisher.publish(f"{prefix}/a", "short", 1, retain=True, messageExpiryInterval=1)
    publisher.publish(f"{prefix}/b", "long", 1, messageExpiryInterval=100)
    publisher.subscribe("end/" + prefix, 1)

    def is_forgotten() -> bool:
        publisher.subscribe(f"{prefix}/a", 1)
        return end_of(publisher, publisher, "end/" + prefix) == []

    wait_until(is_forgotten, what="the end of the retained message")
    away.connect()
    (message,) = end_of(away, publisher, f"{prefix}/end")
    assert message.payload == b"long"
    assert 90 <= message.properties["messageExpiryInterval"] < 100
    away.disconnect()


def test_a_client_gets_no_packet_larger_than_it_takes(connect: Connect, library: str, prefix: str) -> None:
    small = connect(library, route=V5, properties={"maximumPacketSize": 200})
    small.subscribe(prefix, 1)
    publisher = connect(library)
    publisher.publish_all(prefix, ["a", "b" * 500, "c"], 1)
    assert payloads(small.receive(2)) == ["a", "c"]


def test_the_server_says_what_it_takes_and_assigns_ids(make_client: Connect, library: str) -> None:
    given = []
    for _ in range(2):
        client = make_client(library, who=Credentials("", "any", "test-account-token-0123456789-abcdef"), route=V5)
        given.append(client.connect().properties)
        client.disconnect()
    first, second = given
    assert (first["receiveMaximum"], first["maximumPacketSize"], first["topicAliasMaximum"]) == (100, 262_144, 20)
    assert first["assignedClientIdentifier"] != second["assignedClientIdentifier"]


def test_a_packet_that_is_too_large_ends_the_connection_with_the_reason(
    connect: Connect, library: str, level: Route, prefix: str
) -> None:
    client = connect(library, route=level)
    client.subscribe(prefix)
    try:
        client.publish(prefix, "x" * 300_000, 0)
    except AssertionError:
        assert library == "mqtt.js"  # which knows that it must not
    assert client.wait_end() == (0x95 if level.level == 5 else 0)


def test_keep_alive(connect: Connect, library: str, prefix: str) -> None:
    """Clients of every version that ping stay, for longer than one and a half times their keep alive."""
    listener = connect()
    listener.subscribe(f"{prefix}/#", 1)
    will = LastWill(f"{prefix}/will", "Offline", 1)
    clients = [connect(library, route=level, keep_alive_s=1, will=will) for level in LEVELS]
    clock = LastWill(f"{prefix}/clock", "three seconds are over", 1, delay_s=3)
    connect(route=V5, clean=False, will=clock, properties={"sessionExpiryInterval": 100}).vanish()
    assert listener.receive()[0].topic == f"{prefix}/clock"
    assert all(client.ends.empty() for client in clients)


def test_who_wants_no_keep_alive_is_told_the_longest(make_client: Connect, library: str) -> None:
    assert make_client(library, route=V5, keep_alive_s=0).connect().properties["serverKeepAlive"] == 3600
