"""`--demo`: an account, a weather-station channel, and a simulated station that really connects over MQTT.

The station is an ordinary device: it signs in with its own credentials through the first MQTT listener and publishes
with QoS 1, so what the demo shows is the whole path. Its credentials and the account's password are generated once
and kept in `demo.json` in the data directory, readable by its owner only.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import secrets
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from headwater.errors import ConfigurationError, NotFound
from headwater.files import write_atomically
from headwater.logs import Log
from headwater.model.principal import Grant
from headwater.mqtt.encode import render_packet
from headwater.mqtt.packets import Connect, Disconnect, Publish
from headwater.registry.entities import ChannelSettings
from headwater.services import Services
from headwater.setting_kinds import Address
from headwater.settings import MqttSettings, Settings

log = Log(__name__)

ACCOUNT_NAME = "demo"
CHANNEL = ChannelSettings(
    name="Weather station",
    description="A simulated station: temperature, humidity and air pressure of a day in early summer.",
    fields={1: "Temperature", 2: "Humidity", 3: "Pressure"},
    units={1: "°C", 2: "%", 3: "hPa"},
    latitude="48.1374",
    longitude="11.5755",
    elevation="519",
    tags=("weather", "demo"),
)
INTERVAL_S = 2.0
HISTORY_S = 600
HISTORY_STEP_S = 2
RECONNECT_S = 1.0
ANSWER_TIMEOUT_S = 10.0
ANSWER_BYTES = 4
"""CONNACK and PUBACK alike, in 3.1.1."""


@dataclass(frozen=True, slots=True)
class DemoSecrets:
    """What `demo.json` holds."""

    password: str
    channel_id: int
    device_id: int
    client_id: str
    device_password: str
    guest_id: int = 0
    """A second device, for people to try things with; 0 while none was needed."""
    guest_client_id: str = ""
    guest_password: str = ""
    session_epoch: int = 0
    """The account's, of when it had `password`; 0 when nobody knows."""


class WeatherStation:
    """Plausible weather: a slow daily wave, gusts as a random walk that is drawn back to the middle."""

    def __init__(self, source: random.Random) -> None:
        self._random = source
        self._gust = 0.0

    def read(self, at_s: float) -> str:
        """The payload for this time, as a device sends it."""
        self._gust = 0.9 * self._gust + self._random.gauss(0, 0.12)
        day = math.sin((at_s / 86_400 - 0.375) * 2 * math.pi)
        minutes = math.sin(at_s / 240)
        temperature = 19 + 6 * day + 0.5 * minutes + self._gust
        humidity = 58 - 14 * day - 1.5 * minutes - 3 * self._gust
        pressure = 957.5 + 2.5 * math.sin(at_s / 21_600) + 0.3 * self._gust
        return f"field1={temperature:.2f}&field2={humidity:.1f}&field3={pressure:.2f}"


@asynccontextmanager
async def run_demo(
    services: Services, settings: Settings, mqtt_addresses: Sequence[str], http_addresses: Sequence[str]
) -> AsyncIterator[None]:
    """Prepare the demo and keep its station publishing until the context is left."""
    if not mqtt_addresses:
        raise ConfigurationError("the demo's weather station needs an MQTT listener; leave out --mqtt off")
    broker = _reachable(Address.parse(mqtt_addresses[0]))
    path = settings.data / "demo.json"
    demo = await _prepare(services, path)
    if not _has_topic_keys(settings.mqtt):
        demo = await _add_guest(services, path, demo)
    is_new = services.entries.last_entry_id(demo.channel_id) == 0
    station = asyncio.get_running_loop().create_task(_run_station(demo, broker, send_history=is_new))
    text = "\n".join(
        ["", "  The demo's weather station is publishing."]
        + [_where_to_sign_in(services, demo, address) for address in http_addresses[:1]]
        + _how_to_publish(services, settings.mqtt, demo, broker)
    )
    print(text + "\n", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        station.cancel()
        with suppress(asyncio.CancelledError):
            await station


# -- account, channel and device ------------------------------------------------------------------------------------


async def _prepare(services: Services, path: Path) -> DemoSecrets:
    """The demo's things as they are, or new ones where they are missing."""
    known = await asyncio.to_thread(_read_secrets, path)
    account = services.access.account_named(ACCOUNT_NAME)
    if account is not None and known is None:
        raise ConfigurationError(
            f"there is an account {ACCOUNT_NAME!r} but {path} is missing; leave out --demo, or remove that account"
        )
    if account is not None and known is not None and await _is_complete(services, account.id, known):
        return known
    if account is None:
        password = secrets.token_urlsafe(9) if known is None else known.password
        account = await services.accounts.add(ACCOUNT_NAME, password)
        session_epoch = account.session_epoch
    else:
        assert known is not None
        password, session_epoch = known.password, known.session_epoch
    channel = await services.channels.create(account.id, CHANNEL)
    device, device_password = await services.devices.create(account.id, "Weather station", [_grant_on(channel.id)])
    fresh = DemoSecrets(password, channel.id, device.id, device.client_id, device_password, session_epoch=session_epoch)
    await asyncio.to_thread(_write_secrets, path, fresh)
    return fresh


async def _add_guest(services: Services, path: Path, demo: DemoSecrets) -> DemoSecrets:
    """With the second device, which people use beside the station: one client id can be connected only once."""
    if services.access.device(demo.guest_id) is not None:
        return demo
    account = services.access.account_named(ACCOUNT_NAME)
    assert account is not None
    guest, password = await services.devices.create(account.id, "By hand", [_grant_on(demo.channel_id)])
    extended = replace(demo, guest_id=guest.id, guest_client_id=guest.client_id, guest_password=password)
    await asyncio.to_thread(_write_secrets, path, extended)
    return extended


def _grant_on(channel_id: int) -> Grant:
    return Grant(channel_id, allow_publish=True, allow_subscribe=True)


async def _is_complete(services: Services, account_id: int, demo: DemoSecrets) -> bool:
    try:
        await services.channels.get_owned(account_id, demo.channel_id)
        await services.devices.get_owned(account_id, demo.device_id)
    except NotFound:
        return False
    return True


def _read_secrets(path: Path) -> DemoSecrets | None:
    try:
        return DemoSecrets(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, OSError) as error:
        raise ConfigurationError(f"{path} cannot be read; leave out --demo, or delete the file") from error


def _write_secrets(path: Path, demo: DemoSecrets) -> None:
    try:
        write_atomically(path, json.dumps(asdict(demo)).encode(), 0o600)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error


# -- the station ------------------------------------------------------------------------------------------------------


async def _run_station(demo: DemoSecrets, broker: Address, *, send_history: bool) -> None:
    """Stay connected and publish; whatever breaks the connection, connect again."""
    station = WeatherStation(random.Random())  # noqa: S311  weather, not a secret
    history = _history(station) if send_history else iter(())
    while True:
        try:
            await _publish_until_broken(demo, broker, station, history)
        except (OSError, EOFError, TimeoutError) as error:
            log.info("the demo's weather station reconnects", reason=str(error) or type(error).__name__)
        await asyncio.sleep(RECONNECT_S)


def _history(station: WeatherStation) -> Iterator[str]:
    """The last ten minutes, as a station sends what it kept while it was offline."""
    now_s = int(time.time())
    for at_s in range(now_s - HISTORY_S, now_s, HISTORY_STEP_S):
        created_at = datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        yield f"{station.read(at_s)}&created_at={created_at}"


async def _publish_until_broken(
    demo: DemoSecrets, broker: Address, station: WeatherStation, history: Iterator[str]
) -> None:
    reader, writer = await asyncio.open_connection(broker.host, broker.port)
    try:
        password = demo.device_password.encode()
        connect = Connect(demo.client_id, keep_alive_s=60, username=demo.client_id, password=password)
        if (await _exchange(reader, writer, render_packet(connect)))[3] != 0:
            raise ConnectionRefusedError("the broker refused its credentials")
        topic = f"channels/{demo.channel_id}/publish"
        packet_id = 0
        while True:
            kept = next(history, None)
            payload = kept or station.read(time.time())
            packet_id = packet_id % 65_535 + 1
            publish = Publish(topic, payload.encode(), qos=1, packet_id=packet_id)
            await _exchange(reader, writer, render_packet(publish))
            if kept is None:
                await asyncio.sleep(INTERVAL_S)
    finally:
        writer.write(render_packet(Disconnect()))
        writer.close()


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, packet: bytes) -> bytes:
    """Send a packet and wait for its answer."""
    writer.write(packet)
    async with asyncio.timeout(ANSWER_TIMEOUT_S):
        return await reader.readexactly(ANSWER_BYTES)


def _reachable(address: Address) -> Address:
    """Where to connect to for a listener, which may be bound to every address of the machine."""
    return Address({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host), address.port)  # noqa: S104


# -- what is told to people -------------------------------------------------------------------------------------------


def _has_topic_keys(settings: MqttSettings) -> bool:
    """Whether a client without a password may show a key in its topic."""
    return settings.allow_topic_keys or settings.allow_anonymous


def _where_to_sign_in(services: Services, demo: DemoSecrets, http_address: str) -> str:
    url = f"http://{_reachable(Address.parse(http_address))}/channels/{demo.channel_id}"
    account = services.access.account_named(ACCOUNT_NAME)
    is_current = account is not None and account.session_epoch == demo.session_epoch
    password = f" with {demo.password}" if is_current else ""
    return f"  Watch it:    {url}   (sign in as {ACCOUNT_NAME}{password})"


def _how_to_publish(services: Services, settings: MqttSettings, demo: DemoSecrets, broker: Address) -> list[str]:
    """A command that works beside the station, so not with the station's own client id."""
    command = f"    mosquitto_pub -h {broker.host} -p {broker.port} -q 1"
    topic = f"channels/{demo.channel_id}/publish"
    if not _has_topic_keys(settings):
        command += f" -i {demo.guest_client_id} -u {demo.guest_client_id} -P {demo.guest_password}"
    elif (channel := services.access.channel(demo.channel_id)) is not None:
        topic += f"/{channel.write_key}"
    return ["  Send a value yourself:", f"{command} \\", f"      -t {topic} -m 'field1=30'"]
