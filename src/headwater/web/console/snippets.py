"""Requests and programs for people to copy. Pure: channel, keys and addresses in, text out."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from starlette.datastructures import URL

from headwater.registry.entities import Channel
from headwater.web.console.options import MqttPorts

_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")
_EXAMPLE_VALUE = "21.5"
_EXAMPLE_TOPIC = "telemetry"
_EXAMPLE_JSON = '{"temperature": 21.5}'
SECOND_TERMINAL = "Meanwhile, in a second terminal: publish with the write key, without sign-in"
CLIENT_ID, USERNAME, PASSWORD = "client id", "username", "password"


class Snippet(NamedTuple):
    """One thing to copy."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where this server is, as the browser that asks sees it."""

    base_url: str
    host: str
    ports: MqttPorts
    has_own_ca: bool = True
    """Whether clients must fetch Headwater's CA certificate; otherwise the system's CAs know the server."""


def addresses_of(url: URL, ports: MqttPorts, *, has_own_ca: bool = True) -> Addresses:
    """The addresses for a request's URL. A host that could mean something to a shell is not repeated."""
    try:
        host, port = url.hostname or "", url.port
    except ValueError:
        host, port = "", None
    if not _HOST.fullmatch(host):
        host = "localhost"
    in_url = f"[{host}]" if ":" in host else host
    return Addresses(f"{url.scheme}://{in_url}" + (f":{port}" if port else ""), host, ports, has_own_ca)


def rest_snippets(channel: Channel, at: Addresses) -> list[Snippet]:
    """How to write and read a channel over HTTP, as ThingSpeak's own page has it."""
    field = min(channel.settings.fields, default=1)
    read_key = next(iter(channel.read_keys), None)
    key = "" if channel.settings.is_public or read_key is None else f"api_key={read_key}"
    url, more = f"{at.base_url}/channels/{channel.id}", f"?{key}&" if key else "?"
    alone = f"?{key}" if key else ""
    return [
        Snippet(
            "Write a Channel Feed",
            f"GET {at.base_url}/update?api_key={channel.write_key}&{example_payload(channel)}",
        ),
        Snippet("Read a Channel Feed", f"GET {url}/feeds.json{more}results=2"),
        Snippet("Read a Channel Field", f"GET {url}/fields/{field}.json{more}results=2"),
        Snippet("Read Channel Status Updates", f"GET {url}/status.json{alone}"),
        Snippet("Read the last entry", f"GET {url}/feeds/last.json{alone}"),
    ]


def write_commands(channel: Channel, at: Addresses) -> list[Snippet]:
    """How to write with POST, one entry and several, as commands of a shell."""
    field = min(channel.settings.fields, default=1)
    bulk = {
        "write_api_key": channel.write_key,
        "updates": [{"delta_t": 0, f"field{field}": 21.5}, {"delta_t": 15, f"field{field}": 21.6}],
    }
    return [
        Snippet(
            "Write with POST",
            f"curl {at.base_url}/update.json \\\n  -d api_key={channel.write_key} -d {example_payload(channel)}",
        ),
        Snippet(
            "Bulk update: several entries at once, seconds apart",
            f"curl {at.base_url}/channels/{channel.id}/bulk_update.json \\\n"
            f"  -H 'Content-Type: application/json' \\\n"
            f"  -d '{json.dumps(bulk)}'",
        ),
    ]


def topic_snippets(channel: Channel) -> list[Snippet]:
    """The topics of a channel: for devices and accounts that sign in, and with a key in them for those that do not."""
    base, field = f"channels/{channel.id}", min(channel.settings.fields, default=1)
    read_key = "" if channel.settings.is_public else next((f"/{key}" for key in channel.read_keys), "")
    subscribe = [f"{base}/subscribe", f"{base}/subscribe/fields/field{field}", f"{base}/subscribe/fields/+"]
    return [
        Snippet("Publish", f"{base}/publish\n{base}/publish/fields/field{field}"),
        Snippet("Publish without sign-in", f"{base}/publish/{channel.write_key}"),
        Snippet("Subscribe", "\n".join(subscribe)),
        Snippet(
            "Subscribe without sign-in",
            f"{base}/subscribe/json{read_key}\n{base}/subscribe/fields/field{field}{read_key}",
        ),
    ]


def mqtt_publish_line(channel: Channel, at: Addresses) -> str:
    """Write an entry over MQTT with nothing but the write key."""
    return (
        f"mosquitto_pub {_listener_options(at)} \\\n"
        f"  -t channels/{channel.id}/publish/{channel.write_key} \\\n"
        f"  -m '{example_payload(channel)}'"
    )


def first_entry_line(channel: Channel, at: Addresses) -> str:
    """The shortest way to a first entry."""
    return f"curl '{at.base_url}/update?api_key={channel.write_key}&{example_payload(channel)}'"


def connect_line(at: Addresses) -> str:
    """The shortest way to a first connection, with an account token in place of a device's credentials."""
    return f"mosquitto_sub {_listener_options(at)} -i my-laptop -u token -P YOUR_TOKEN -t '#'"


def device_snippets(
    client_id: str, password: str, publish_to: Channel | None, subscribe_to: Channel | None, at: Addresses
) -> list[Snippet]:
    """Ready-to-paste programs that use a device's own credentials, one connection at a time.

    Beside a subscription, the line that publishes uses the channel's write key instead: a second connection with the
    same client id would end the first.
    """
    snippets = []
    credentials = f"-i {client_id} -u {client_id} -P {password}"
    if publish_to is not None:
        snippets.append(
            Snippet(
                "mosquitto_pub",
                f"mosquitto_pub {_listener_options(at)} \\\n  {credentials} \\\n"
                f"  -t channels/{publish_to.id}/publish -m '{example_payload(publish_to)}'",
            )
        )
        topic = f"channels/{publish_to.id}/publish"
        program = _paho_program(client_id, client_id, password, topic, example_payload(publish_to), at)
        snippets.append(Snippet("Python (paho-mqtt 2)", program))
    if subscribe_to is not None:
        snippets.append(
            Snippet(
                "mosquitto_sub",
                f"mosquitto_sub {_listener_options(at)} \\\n  {credentials} \\\n"
                f"  -t channels/{subscribe_to.id}/subscribe",
            )
        )
        snippets.append(Snippet(SECOND_TERMINAL, mqtt_publish_line(subscribe_to, at)))
    return snippets


def account_device_snippets(device_id: str, account_name: str, credential: str, at: Addresses) -> list[Snippet]:
    """Ready-to-paste programs for an account device, one connection at a time. The credential may be any text."""
    options = (
        f"{_listener_options(at)} \\\n"
        f"  -i {shlex.quote(device_id)} -u {shlex.quote(account_name)} -P {shlex.quote(credential)} \\\n"
    )
    program = _paho_program(device_id, account_name, credential, _EXAMPLE_TOPIC, _EXAMPLE_JSON, at)
    return [
        Snippet("mosquitto_pub", f"mosquitto_pub {options}  -t {_EXAMPLE_TOPIC} -m {shlex.quote(_EXAMPLE_JSON)}"),
        Snippet("Python (paho-mqtt 2)", program),
        Snippet("mosquitto_sub", f"mosquitto_sub {options}  -t '#' -v"),
    ]


def credentials_text(device_name: str, credentials: Mapping[str, str], at: Addresses) -> str:
    """The file that people keep."""
    lines = [f"MQTT device: {' '.join(device_name.split())}", f"host: {at.host}"]
    if at.ports.plain is not None:
        lines.append(f"port: {at.ports.plain}")
    if at.ports.tls is not None:
        lines.append(
            f"TLS port: {at.ports.tls}" + (f" (CA certificate: {at.base_url}/ca.crt)" if at.has_own_ca else "")
        )
    lines += [f"{name}: {value}" for name, value in credentials.items()]
    return "\n".join(lines) + "\n"


def example_payload(channel: Channel) -> str:
    """An entry with a field that the channel names, where it names one."""
    return f"field{min(channel.settings.fields, default=1)}={_EXAMPLE_VALUE}"


def _listener_options(at: Addresses) -> str:
    if at.ports.plain is None and at.ports.tls is not None:
        trust = "--cafile ca.crt" if at.has_own_ca else "--tls-use-os-certs"
        return f"-h {at.host} -p {at.ports.tls} {trust}"
    return f"-h {at.host} -p {at.ports.plain or 1883}"


def _paho_program(client_id: str, username: str, password: str, topic: str, payload: str, at: Addresses) -> str:
    if at.ports.tls is not None and at.has_own_ca:
        port, tls = at.ports.tls, f'client.tls_set(ca_certs="ca.crt")  # from {at.base_url}/ca.crt\n'
    elif at.ports.tls is not None:
        port, tls = at.ports.tls, "client.tls_set()\n"
    else:
        port, tls = at.ports.plain or 1883, ""
    return (
        "import paho.mqtt.client as mqtt\n\n"
        f"client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id={_python(client_id)})\n"
        f"client.username_pw_set({_python(username)}, {_python(password)})\n"
        f"{tls}"
        f"client.connect({_python(at.host)}, {port})\n"
        "client.loop_start()\n"
        f"client.publish({_python(topic)}, {_python(payload)}, qos=1).wait_for_publish()\n"
        "client.disconnect()\n"
    )


def _python(text: str) -> str:
    """A text as Python writes it, in double quotes: JSON's form is one that Python reads alike."""
    return json.dumps(text, ensure_ascii=False)
