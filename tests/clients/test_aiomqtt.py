"""aiomqtt against a real server: what a program in asyncio uses of MQTT."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiomqtt
import pytest
from aiomqtt import ProtocolVersion, Will
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from mqtt_client import PLAIN, Route
from server import ADMIN_TOKEN, Credentials, Server

ROUTES = [Route(3), PLAIN, Route(4, "tls"), Route(4, "ws"), Route(5), Route(5, "wss")]
LEVELS = [Route(3), Route(4), Route(5)]


@asynccontextmanager
async def connected(
    server: Server, client_id: str, route: Route = PLAIN, who: Credentials | None = None, **options: Any
) -> AsyncIterator[aiomqtt.Client]:
    """A client that shows the administrator's token unless it has credentials."""
    who = who or Credentials(client_id, "any", ADMIN_TOKEN)
    is_websocket, is_secure = route.transport in ("ws", "wss"), route.transport in ("tls", "wss")
    async with aiomqtt.Client(
        "localhost",
        route.port(server),
        username=who.username or None,
        password=who.password or None,
        identifier=who.client_id,
        protocol=ProtocolVersion(route.level),
        transport="websockets" if is_websocket else "tcp",
        websocket_path="/mqtt" if is_websocket else None,
        tls_context=ssl.create_default_context(cafile=server.ca_path) if is_secure else None,
        **options,
    ) as client:
        yield client


def properties(kind: int, **values: Any) -> Properties:
    made = Properties(kind)
    for name, value in values.items():
        setattr(made, name, value)
    return made


async def take(client: aiomqtt.Client, count: int) -> list[aiomqtt.Message]:
    """So many messages, as they come."""
    async with asyncio.timeout(15):
        return [await anext(client.messages) for _ in range(count)]


def lasting(route: Route) -> dict[str, Any]:
    if route.level == 5:
        return {"clean_start": False, "properties": properties(PacketTypes.CONNECT, SessionExpiryInterval=100)}
    return {"clean_session": False}


@pytest.mark.parametrize("route", ROUTES, ids=str)
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_messages_arrive_in_order(server: Server, prefix: str, route: Route, qos: int) -> None:
    async with connected(server, prefix, route) as client:
        await client.subscribe(f"{prefix}/+", qos)
        for n in range(20):
            await client.publish(f"{prefix}/a", str(n), qos)
        messages = await take(client, 20)
    assert [message.payload for message in messages] == [str(n).encode() for n in range(20)]
    assert {(str(message.topic), message.qos, message.retain) for message in messages} == {(f"{prefix}/a", qos, False)}


@pytest.mark.parametrize("route", LEVELS, ids=str)
async def test_many_publishes_at_once(server: Server, prefix: str, route: Route) -> None:
    async with connected(server, prefix, route) as client:
        await client.subscribe(prefix, 1)
        await asyncio.gather(*(client.publish(prefix, str(n), 1 + n % 2) for n in range(100)))
        messages = await take(client, 100)
    assert sorted(int(message.payload) for message in messages) == list(range(100))


@pytest.mark.parametrize("route", LEVELS, ids=str)
async def test_retained_messages(server: Server, prefix: str, route: Route) -> None:
    async with connected(server, prefix, route) as client:
        for payload in ("1", "2"):
            await client.publish(f"{prefix}/a", payload, 1, retain=True)
        await client.publish(f"{prefix}/b", "3", 1, retain=True)
        await client.publish(f"{prefix}/b", None, 1, retain=True)
        await client.subscribe(f"{prefix}/#", 1)
        await client.publish(f"{prefix}/end", "end", 1)
        messages = await take(client, 2)
    assert [(message.payload, message.retain) for message in messages] == [(b"2", True), (b"end", False)]


@pytest.mark.parametrize("route", LEVELS, ids=str)
async def test_messages_wait_for_a_client_that_is_away(server: Server, prefix: str, route: Route) -> None:
    async with connected(server, f"{prefix}-away", route, **lasting(route)) as away:
        await away.subscribe(prefix, 2)
    async with connected(server, prefix) as publisher:
        for n in range(30):
            await publisher.publish(prefix, str(n), 1 + n % 2)
    async with connected(server, f"{prefix}-away", route, **lasting(route)) as away:
        messages = await take(away, 30)
    assert sorted(int(message.payload) for message in messages) == list(range(30))


async def _be_taken_over(server: Server, client_id: str, route: Route, will: Will) -> None:
    async with connected(server, client_id, route, will=will) as older, connected(server, client_id, route):
        await take(older, 1)


@pytest.mark.parametrize("route", LEVELS, ids=str)
async def test_a_newer_connection_takes_the_place_of_an_older_one_and_its_will_goes_out(
    server: Server, prefix: str, route: Route
) -> None:
    async with connected(server, f"{prefix}-listener") as listener:
        await listener.subscribe(prefix, 1)
        with pytest.raises(aiomqtt.MqttError):
            await _be_taken_over(server, prefix, route, Will(prefix, "Offline", 1, True))
        (message,) = await take(listener, 1)
    assert (message.payload, message.qos) == (b"Offline", 1)


@pytest.mark.parametrize("route", LEVELS, ids=str)
async def test_refusals(server: Server, prefix: str, route: Route) -> None:
    channel = server.create_channel()
    device = server.create_device(publish=[channel])
    async with connected(server, prefix, route, device) as client:
        refused = await client.subscribe("#")
        codes = [code.value if hasattr(code, "value") else code for code in refused]
        assert codes == [0x87 if route.level == 5 else 0x80]
        await client.publish(f"channels/{channel.id}/publish", "field1=7", 1)
    assert [entry["field1"] for entry in server.feeds(channel)] == ["7"]
    with pytest.raises(aiomqtt.MqttError, match=r"(?i)not authori[sz]ed"):
        async with connected(server, prefix, route, device._replace(password="wrong")):
            pass


@pytest.mark.parametrize("route", LEVELS, ids=str)
async def test_a_shared_subscription(server: Server, prefix: str, route: Route) -> None:
    async with connected(server, f"{prefix}-1", route) as first, connected(server, f"{prefix}-2", route) as second:
        for member in (first, second):
            await member.subscribe(f"$share/g/{prefix}/#", 1)
        for n in range(20):
            await first.publish(f"{prefix}/a", str(n), 1)
        shares = await asyncio.gather(take(first, 10), take(second, 10))
    assert sorted(int(message.payload) for share in shares for message in share) == list(range(20))


async def test_account_device_and_anonymous_client(server: Server, open_server: Server, prefix: str) -> None:
    device = server.create_account_device(prefix)
    nobody = Credentials(prefix, "", "")
    for at, who in ((server, device), (open_server, nobody)):
        async with connected(at, prefix, PLAIN, who) as client:
            await client.subscribe(prefix, 1)
            await client.publish(prefix, "x", 1)
            assert [message.payload for message in await take(client, 1)] == [b"x"]


async def test_properties_and_options_of_mqtt_5(server: Server, prefix: str) -> None:
    route = Route(5)
    async with connected(server, prefix, route) as client:
        given = properties(PacketTypes.SUBSCRIBE, SubscriptionIdentifier=5)
        options = SubscribeOptions(1, noLocal=False, retainAsPublished=True)
        await client.subscribe(f"{prefix}/#", options=options, properties=given)
        await client.subscribe(f"{prefix}/silent", options=SubscribeOptions(1, noLocal=True))
        carried = properties(
            PacketTypes.PUBLISH,
            ResponseTopic=f"{prefix}/answer",
            CorrelationData=b"\x00\xff",
            UserProperty=("key", "value"),
            ContentType="text/plain",
            MessageExpiryInterval=60,
        )
        await client.publish(f"{prefix}/question", "?", 1, retain=True, properties=carried)
        (question,) = await take(client, 1)
        assert question.retain
        got = question.properties
        assert got is not None
        assert (got.CorrelationData, got.UserProperty, got.ContentType) == (
            b"\x00\xff",
            [("key", "value")],
            "text/plain",
        )
        assert (got.SubscriptionIdentifier, got.MessageExpiryInterval) == ([5], 60)
        await client.publish(
            got.ResponseTopic, "!", 1, properties=properties(PacketTypes.PUBLISH, CorrelationData=b"1")
        )
        (answer,) = await take(client, 1)
        assert (str(answer.topic), answer.payload) == (f"{prefix}/answer", b"!")
